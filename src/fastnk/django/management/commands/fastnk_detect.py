"""`fastnk detect` as a management command."""

from __future__ import annotations

from fastnk.cli import detect
from fastnk.django.management.verb import VerbCommand


class Command(VerbCommand):
    help = "Say what backups are."
    verb = detect
