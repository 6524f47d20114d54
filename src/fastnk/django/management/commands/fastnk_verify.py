"""`fastnk verify` as a management command."""

from __future__ import annotations

from fastnk import cli
from fastnk.django.management.verb import VerbCommand


class Command(VerbCommand):
    help = "Prove that a conversion is faithful."
    add = staticmethod(cli.add_verify_arguments)
    verb = staticmethod(cli.run_verify)
