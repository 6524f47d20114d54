"""`fastnk restore` as a management command."""

from __future__ import annotations

from fastnk import cli
from fastnk.django.management.verb import VerbCommand


class Command(VerbCommand):
    help = "Load a backup of any format into a database."
    add = staticmethod(cli.add_restore_arguments)
    verb = staticmethod(cli.run_restore)
