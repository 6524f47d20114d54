"""`fastnk restore` as a management command."""

from __future__ import annotations

from fastnk.cli import restore
from fastnk.django.management.verb import VerbCommand


class Command(VerbCommand):
    help = "Load a backup of any format into a database."
    verb = restore
