"""`fastnk verify` as a management command."""

from __future__ import annotations

from fastnk.cli import verify
from fastnk.django.management.verb import VerbCommand


class Command(VerbCommand):
    help = "Prove that a conversion is faithful."
    verb = verify
