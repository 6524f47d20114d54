"""`fastnk convert` as a management command."""

from __future__ import annotations

from fastnk.cli import convert
from fastnk.django.management.verb import VerbCommand


class Command(VerbCommand):
    help = "Turn the ids of a backup into natural keys."
    verb = convert
