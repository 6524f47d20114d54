"""`fastnk schema django` as a management command."""

from __future__ import annotations

from fastnk.cli import schema_django
from fastnk.django.management.verb import VerbCommand


class Command(VerbCommand):
    help = "Make the schema of this project."
    verb = schema_django
