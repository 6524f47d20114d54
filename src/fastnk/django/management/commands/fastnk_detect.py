"""`fastnk detect` as a management command."""

from __future__ import annotations

from fastnk import cli
from fastnk.django.management.verb import VerbCommand


class Command(VerbCommand):
    help = "Say what backups are."
    add = staticmethod(cli.add_detect_arguments)
    verb = staticmethod(cli.run_detect)
