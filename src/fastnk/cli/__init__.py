"""The command `fastnk`: arguments, one library call, text or JSON, an exit code.

Every verb is a module that is imported when it is used: `add_arguments` adds its arguments to any
`argparse` parser, `run` does what they say. Only `printing.show` writes to standard output, and
`convert BACKUP -`.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from fastnk.cli.printing import Outcome, expected, failed, show, talk, told, written_report
from fastnk.errors import FastnkError, UsageError, did_you_mean

if TYPE_CHECKING:
    from fastnk.progress import Progress

EXIT_CODES = """\
exit codes:
  0  done, complete              4  refused because of findings; nothing written
  1  could not                   5  verify found a difference
  2  wrong usage or settings     6  another restore holds the lock
  3  done, with a loss that a policy or --salvage allowed
  130, 143  interrupted, terminated; nothing was changed
"""


class Verb(Protocol):
    """A module of this package that is a verb."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...
    def run(self, options: argparse.Namespace, progress: Progress) -> Outcome: ...


def make_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="fastnk",
        description="Converts legacy Django backups to natural keys, and restores any backup.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version")
    verbs = parser.add_subparsers(metavar="VERB", required=True, parser_class=_VerbParser)
    _add_verb(verbs, "detect", "say what backups are", "detect")
    schema = _add_verb(verbs, "schema", "make or check a schema", None).add_subparsers(
        metavar="WHAT", required=True
    )
    _add_verb(schema, "django", "make a schema from a Django project", "schema_django")
    _add_verb(schema, "infer", "propose a schema from a backup alone", "schema_infer")
    _add_verb(schema, "check", "say whether a schema fits a backup", "schema_check")
    _add_verb(verbs, "convert", "turn the ids of a backup into natural keys", "convert")
    _add_verb(verbs, "verify", "prove that a conversion is faithful", "verify")
    _add_verb(verbs, "restore", "load a backup of any format into a database", "restore")
    _add_verb(verbs, "bench", "say what converting a backup costs here", "bench")
    _add_verb(verbs, "formats", "list what a backup may be", "formats")
    _add_verb(verbs, "demo", "see the main job done on a small system", "demo")
    return parser


def _add_verb(verbs: Any, name: str, help_: str, module: str | None) -> Any:
    parser = verbs.add_parser(name, help=help_, description=help_[0].upper() + help_[1:] + ".")
    parser.module = module
    return parser


class _Parser(argparse.ArgumentParser):
    """Says what is wrong as all of fastnk does, without the usage, which is long."""

    def error(self, message: str) -> NoReturn:
        talk(str(UsageError(message, remedy=f"{self.prog} --help")))
        raise SystemExit(UsageError.exit_code)


class _VerbParser(_Parser):
    """Imports the module of its verb, and adds the arguments, when the verb is used."""

    module: str | None = None

    def parse_known_args(self, *args: Any, **options: Any) -> Any:
        if self.module is not None:
            verb: Verb = importlib.import_module(f"fastnk.cli.{self.module}")
            verb.add_arguments(self)
            self.add_argument("--json", action="store_true", help="one JSON document on stdout")
            self.add_argument("--debug", action="store_true", help="show tracebacks")
            self.set_defaults(run=verb.run)
            self.module = None
        known, unknown = super().parse_known_args(*args, **options)
        if unknown:
            hint = did_you_mean(unknown[0], self._option_string_actions)
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return known, unknown


class _Version(argparse.Action):
    """Looks the version up only when it is asked for: that costs more than parsing."""

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        import fastnk

        print(f"fastnk {fastnk.__version__}")
        raise SystemExit(0)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code. Raises `SystemExit` as argparse does."""
    options = make_parser().parse_args(arguments)
    from fastnk.progress import Progress

    progress = Progress()
    try:
        with termination():
            outcome: Outcome = options.run(options, progress)
    except BrokenPipeError:
        raise
    except Exception as error:
        progress.close()
        if options.debug:
            raise
        fault = expected(error, "--debug")
        talk(told(fault, options))
        outcome = failed(fault)
    except (KeyboardInterrupt, Terminated) as stop:
        progress.close()
        return stopped(stop)
    progress.close()
    outcome = written_report(options, outcome)
    try:
        show(outcome, options.json)
    except FastnkError as error:
        talk(str(error))
        return outcome.exit_code or error.exit_code
    return outcome.exit_code


def console() -> NoReturn:
    """The entry point: `main`, and silence when the reader of a pipe has gone."""
    # What a start makes stays: looking through it for cycles would take a tenth of it.
    gc.set_threshold(100_000)
    _replace_closed_streams()
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        code = main()
    except BrokenPipeError:
        code = 141
    try:
        sys.stdout.flush()
    except OSError:  # has been told; Python would try once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    gc.freeze()  # nor need what is left at the end be looked through
    sys.exit(code)


def _replace_closed_streams() -> None:
    """No file of ours may get the number of one that was closed before the start. To read the
    backup there, or to write a result, fails; talk goes nowhere."""
    unreadable, unwritable = os.O_WRONLY, os.O_RDONLY
    for name, mode, flags in (
        ("stdin", "r", unreadable),
        ("stdout", "w", unwritable),
        ("stderr", "w", os.O_WRONLY),
    ):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, flags), mode))


class Terminated(BaseException):
    """SIGTERM arrived: unwinds as Ctrl-C does, so that what is open is rolled back."""


def stopped(stop: BaseException) -> int:
    """Tell people that a signal ended the work; the exit code for that."""
    word, code = ("terminated", 143) if isinstance(stop, Terminated) else ("interrupted", 130)
    talk(f"{word}; nothing was changed")
    return code


@contextlib.contextmanager
def termination() -> Iterator[None]:
    """Let SIGTERM unwind what is going on."""

    def terminate(*_: object) -> NoReturn:
        raise Terminated

    try:
        before = signal.signal(signal.SIGTERM, terminate)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
