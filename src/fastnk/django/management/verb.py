"""A verb of the command line as a management command of a project."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any, ClassVar

from django.core.management.base import BaseCommand, CommandError

from fastnk.cli import Terminated, Verb, stopped, termination
from fastnk.cli.printing import Outcome, expected, failed, show, told, written_report
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
        fault: FastnkError | None = None
        try:
            outcome = self._run(given)
        except BrokenPipeError:
            raise
        except Exception as error:
            if not (self._called_from_command_line or isinstance(error, FastnkError)):
                raise
            fault = expected(error, "--traceback")
            outcome = failed(fault)
        except (KeyboardInterrupt, Terminated) as stop:
            if not self._called_from_command_line:
                raise
            sys.exit(stopped(stop))
        outcome = written_report(given, outcome)
        try:
            self._tell(outcome, given)
        except FastnkError as error:
            fault = fault or error
        if fault is not None:
            raise CommandError(told(fault, given), returncode=fault.exit_code) from fault
        if outcome.exit_code and self._called_from_command_line:
            sys.exit(outcome.exit_code)

    def _run(self, options: argparse.Namespace) -> Outcome:
        with open(os.devnull, "w") as nowhere:  # noqa: PTH123
            progress = Progress(sys.stderr if options.verbosity else nowhere)
            try:
                with termination():
                    return self.verb.run(options, progress)
            finally:
                progress.close()

    def _tell(self, outcome: Outcome, options: argparse.Namespace) -> None:
        if not options.verbosity:
            outcome = outcome._replace(text="")
        if not (options.verbosity and self._called_from_command_line):
            outcome = outcome._replace(next_command=())
        if outcome.next_command[:2] == ["schema", "django"]:  # which needs no telling here
            outcome = outcome._replace(next_command=["schema", *outcome.next_command[2:]])
        show(outcome, options.json, self.stdout, "python manage.py fastnk_")
