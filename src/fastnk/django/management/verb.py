"""A verb of the command line as a management command of a project."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any, ClassVar

from django.core.management.base import BaseCommand, CommandError

from fastnk.cli import Verb, termination
from fastnk.cli.printing import Outcome, document, written_report
from fastnk.errors import FastnkError
from fastnk.progress import Progress


class VerbCommand(BaseCommand):  # type: ignore[misc]
    """Subclasses say which verb they are."""

    requires_system_checks: ClassVar[list[str]] = []
    verb: Verb

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        # Both Django and the verbs have --settings; they mean the same.
        return super().create_parser(prog_name, subcommand, conflict_handler="resolve", **kwargs)

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        self.verb.add_arguments(parser)
        parser.add_argument("--json", action="store_true", help="one JSON document on stdout")

    def handle(self, *args: Any, **options: Any) -> None:
        settings = options.get("settings") or os.environ.get("DJANGO_SETTINGS_MODULE")
        given = argparse.Namespace(**{**options, "settings": settings})
        is_quiet = options["verbosity"] == 0
        with open(os.devnull, "w") as nowhere:  # noqa: PTH123
            progress = Progress(nowhere if is_quiet else sys.stderr)
            try:
                with termination():
                    outcome = self.verb.run(given, progress)
            except FastnkError as error:
                raise CommandError(str(error), returncode=error.exit_code) from error
            finally:
                progress.close()
        self._tell(written_report(given, outcome), options["json"], is_quiet)

    def _tell(self, outcome: Outcome, as_json: bool, is_quiet: bool) -> None:
        if as_json:
            self.stdout.write(document(outcome).decode())
        elif not is_quiet:
            self.stdout.write(outcome.text)
        if outcome.exit_code and self._called_from_command_line:
            sys.exit(outcome.exit_code)
