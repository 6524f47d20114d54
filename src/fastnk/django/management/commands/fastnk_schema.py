"""`fastnk schema django` as a management command."""

from __future__ import annotations

from fastnk import cli
from fastnk.django.management.verb import VerbCommand


class Command(VerbCommand):
    help = "Make the schema of this project."
    add = staticmethod(cli.add_schema_arguments)
    verb = staticmethod(cli.run_schema_django)
