"""`fastnk convert` as a management command."""

from __future__ import annotations

from fastnk import cli
from fastnk.django.management.verb import VerbCommand


class Command(VerbCommand):
    help = "Turn the ids of a backup into natural keys."
    add = staticmethod(cli.add_convert_arguments)
    verb = staticmethod(cli.run_convert)
