"""The command `fastnk`: arguments, one library call, text or JSON, an exit code.

Every verb is a pair of functions: one adds its arguments to any `argparse` parser, one runs it
and returns an `Outcome`. Only `_print` writes to standard output, and `convert BACKUP -`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from fastnk.errors import MAX_SHOWN, FastnkError, FindingsError, OutputError, UsageError

if TYPE_CHECKING:
    from fastnk.convert import ConversionReport
    from fastnk.detect import DetectionReport
    from fastnk.progress import Progress
    from fastnk.restore import RestoreReport
    from fastnk.verify import VerificationReport

EXIT_CODES = """\
exit codes:
  0  done, complete              4  refused because of findings; nothing written
  1  could not                   5  verify found a difference
  2  wrong usage or settings     6  another restore holds the lock
  3  done, with a loss that a policy or --salvage allowed
"""
LOSS = 3
PROJECT = ("--settings", "mysite.settings")


class Outcome(NamedTuple):
    """What a verb has to say."""

    data: Any
    """For `--json`: anything that msgspec writes."""
    text: str
    """For people."""
    next_command: Sequence[str] = ()
    """The words that stand behind `fastnk` in the command to go on with."""
    exit_code: int = 0
    takes_stdout: bool = False
    """Whether standard output is the product, so that the text goes to standard error."""


# ---- detect ------------------------------------------------------------------------------------


def add_detect_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("backups", metavar="BACKUP", nargs="+", help="the backups to look at")
    parser.add_argument("--schema", metavar="FILE", help="tell relations from other fields by it")
    parser.add_argument("--full", action="store_true", help="read all of it, not only its head")
    add_encoding_argument(parser)
    parser.add_argument("--salvage", action="store_true", help="look at what is whole of them")
    add_methods_argument(parser)


def run_detect(options: argparse.Namespace, progress: Progress) -> Outcome:
    from fastnk.detect import BackupFormatDetector

    _set_up_project(options.settings)
    schema = _load_schema(options.schema)
    detector = BackupFormatDetector(
        schema, full=options.full, encoding=options.encoding, salvage=options.salvage
    )
    reports = {backup: detector.detect_format(backup) for backup in options.backups}
    text = "\n\n".join(_detection_text(name, report) for name, report in reports.items())
    first, report = next(iter(reports.items()))
    schema_name = options.schema or "schema.json"
    if report == "enhanced_natural_keys":
        command = ["restore", first, *PROJECT]
    else:
        command = ["convert", first, "natural.json", "--schema", schema_name]
    code = LOSS if any(one.damage for one in reports.values()) else 0
    return Outcome(reports, text, command, code)


def _detection_text(name: str, report: DetectionReport) -> str:
    lines = [f"{name}: {report.format}"]
    lines += [f"  {sentence}" for sentence in report.evidence]
    rows = [
        (label, m.records, m.with_pk, m.with_natural_key, m.with_neither, m.ids, m.keys)
        for label, m in sorted(report.models.items())
    ]
    head = ("model", "records", "with pk", "with key", "with neither", "ids", "keys")
    return "\n".join([*lines, *table(head, rows)])


# ---- schema ------------------------------------------------------------------------------------


def add_schema_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--settings", metavar="MODULE", required=True, help="the project's settings module"
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="where to write it, else it is shown"
    )
    parser.add_argument(
        "--at",
        metavar="APP.MIGRATION",
        action="append",
        default=[],
        help="as it was at this migration, of which the beginning is enough; once for each app",
    )
    parser.add_argument(
        "--skip-untraceable",
        action="store_true",
        help="leave natural keys out whose method cannot be traced, and say which",
    )


def run_schema_django(options: argparse.Namespace, progress: Progress) -> Outcome:
    from fastnk.django.introspect import schema_from_project

    skipped: dict[str, str] = {}
    on_untraceable = skipped.__setitem__ if options.skip_untraceable else None
    schema = schema_from_project(options.settings, on_untraceable, options.at)
    data = {"schema": schema, "skipped": skipped, "output": options.output}
    code = LOSS if skipped else 0
    for label, reason in skipped.items():
        _talk(f"no natural key for {label}: {reason}")
    if options.output is None:
        return Outcome(data, schema.dumps().decode().rstrip(), exit_code=code)
    schema.save(options.output)
    keyed = sum(model.has_natural_key for model in schema.models.values())
    text = f"{options.output}: {len(schema.models)} models, {keyed} of them with a natural key"
    return Outcome(
        data, text, ["convert", "backup.json", "natural.json", "--schema", options.output], code
    )


def add_infer_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("backup", metavar="BACKUP")
    add_encoding_argument(parser)
    add_methods_argument(parser)
    parser.add_argument(
        "--example", metavar="NEW", help="a newer backup with natural keys, to learn from"
    )
    add_keys_argument(parser)
    parser.add_argument(
        "--minimum",
        metavar="0..1",
        type=float,
        default=0.9,
        help="how sure what goes into the schema must be (default: %(default)s)",
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="write the schema there, to be looked at"
    )


def run_schema_infer(options: argparse.Namespace, progress: Progress) -> Outcome:
    from fastnk.infer import infer
    from fastnk.proposal import COLUMNS

    _set_up_project(options.settings)
    if not 0 <= options.minimum <= 1:
        raise UsageError("--minimum is a number from 0 to 1")
    proposal = infer(options.backup, options.example, keys=options.keys, encoding=options.encoding)
    lines = table(COLUMNS, proposal.table())
    lines += [f"note: {note}" for note in proposal.notes]
    lines += [f"left out: {what}" for what in proposal.left_out(options.minimum)]
    command = ["schema", "infer", options.backup, "-o", "schema.json"]
    if options.output is not None:
        proposal.schema(options.minimum).save(options.output)
        lines.append(f"{options.output}: a guess; look at it before it is used")
        command = ["schema", "check", options.output, options.backup]
    return Outcome(proposal.document(options.minimum), "\n".join(lines), command)


def add_check_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("schema", metavar="SCHEMA")
    parser.add_argument("backup", metavar="BACKUP")
    add_encoding_argument(parser)
    add_keys_argument(parser)
    add_embedded_argument(parser)
    add_methods_argument(parser)


def run_schema_check(options: argparse.Namespace, progress: Progress) -> Outcome:
    from fastnk.check import COLUMNS, check

    _set_up_project(options.settings)
    report = check(
        options.schema,
        options.backup,
        options.keys,
        embedded=options.embedded,
        encoding=options.encoding,
    )
    verdict = "fits" if report.fits else f"does not fit, {len(report.misfits):,} misfits"
    lines = [f"{options.schema} and {options.backup}, {report.records:,} records: {verdict}"]
    if report.rows:
        lines += table(COLUMNS, [row.cells() for row in report.rows])
    allowed = sorted({row.option for row in report.misfits if row.option})
    if allowed:
        lines.append(f"allowed by: {', '.join(allowed)}")
    if report.fits:
        command = ["convert", options.backup, "natural.json", "--schema", options.schema]
        command += _keys_again(options)
        return Outcome(report, "\n".join(lines), command)
    return Outcome(report, "\n".join(lines), exit_code=FindingsError.exit_code)


# ---- convert -----------------------------------------------------------------------------------


def add_policy_arguments(parser: argparse.ArgumentParser) -> None:
    """An option for every policy, with the words that it takes."""
    from typing import get_args, get_type_hints

    from fastnk.convert import Policies

    group = parser.add_argument_group("what to do about findings (default: error)")
    for name, hint in get_type_hints(Policies).items():
        group.add_argument(
            f"--{name.replace('_', '-')}",
            choices=get_args(hint),
            default="error",
            metavar="WORD",
            help=" | ".join(get_args(hint)),
        )


def add_keys_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--keys",
        metavar="MORE",
        action="append",
        default=[],
        help="a further backup that only supplies keys; any number of times",
    )


def add_encoding_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--encoding", metavar="NAME", help="of the backup, such as cp1252; found out without it"
    )


def add_embedded_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--embedded",
        action="store_true",
        help="also the ids inside JSON fields and text that the schema declares",
    )


def add_methods_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--settings",
        metavar="MODULE",
        help="the project's settings module, for natural keys made by methods and for XML",
    )


def _set_up_project(settings: str | None) -> None:
    if settings is not None:
        from fastnk.django.introspect import set_up

        set_up(settings)


def _keys_again(options: argparse.Namespace) -> list[str]:
    """What a command on the same backup needs to give the same keys."""
    words = []
    for more in options.keys:
        words += ["--keys", more]
    if options.embedded:
        words.append("--embedded")
    return words + (["--settings", options.settings] if options.settings else [])


def add_conversion_arguments(parser: argparse.ArgumentParser) -> None:
    """What `convert` and `restore` have in common."""
    add_keys_argument(parser)
    add_encoding_argument(parser)
    add_embedded_argument(parser)
    parser.add_argument(
        "--salvage", action="store_true", help="keep the whole records of a damaged backup"
    )
    parser.add_argument("--report", metavar="FILE", help="write the whole report there, as JSON")
    add_policy_arguments(parser)


def add_convert_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "backups", metavar="BACKUP", nargs="+", help="a file, a folder or files that make up one"
    )
    parser.add_argument("output", metavar="OUT")
    parser.add_argument("--schema", metavar="FILE", required=True, help="what refers to what")
    parser.add_argument(
        "--style",
        choices=("fastnk", "django"),
        default="fastnk",
        help="fastnk writes natural_key beside fields; django leaves it out, as dumpdata does",
    )
    parser.add_argument(
        "--order",
        choices=("dependencies",),
        help="records behind those they refer to, for plain loaddata",
    )
    parser.add_argument(
        "--jobs", metavar="N", type=int, help="threads; as many as there are processors without it"
    )
    parser.add_argument(
        "--compress",
        metavar="HOW",
        help="gzip | bzip2 | xz | zstd | none; as the name of OUT says without it",
    )
    parser.add_argument("--force", action="store_true", help="replace OUT if it exists")
    add_methods_argument(parser)
    add_conversion_arguments(parser)


def run_convert(options: argparse.Namespace, progress: Progress) -> Outcome:
    from fastnk.convert import convert

    _set_up_project(options.settings)
    report = convert(
        _one_or_several(options.backups),
        options.output,
        options.schema,
        keys=options.keys,
        policies=_policies(options),
        style=options.style,
        embedded=options.embedded,
        order=options.order,
        jobs=options.jobs,
        salvage=options.salvage,
        encoding=options.encoding,
        compress=options.compress,
        force=options.force,
        progress=progress,
    )
    return Outcome(
        report,
        _conversion_text(report),
        ["restore", options.output, "--schema", options.schema, *PROJECT],
        0 if report.complete else LOSS,
        takes_stdout=options.output == "-",
    )


def _one_or_several(backups: list[str]) -> Any:
    return backups[0] if len(backups) == 1 else backups


def _policies(options: argparse.Namespace) -> Any:
    from fastnk.convert import Policies

    return Policies(**{name: getattr(options, name) for name in Policies.__struct_fields__})


def _conversion_text(report: ConversionReport) -> str:
    seconds = sum(report.seconds.values())
    speed = report.bytes_read / seconds / 1e6 if seconds else 0.0
    lines = [
        f"{report.output}: {report.records:,} records,"
        f" {report.keys_written:,} pks and {report.references_written:,} references"
        f" became natural keys",
        f"  {report.bytes_read / 1e6:,.1f} MB in {seconds:.2f} s ({speed:,.0f} MB/s)",
    ]
    lines += [f"  {note}" for note in report.read_as]
    lines += _salvage_lines(report)
    if report.records_dropped:
        lines.append(f"  left out: {report.records_dropped:,} records")
    if report.pks_lost:
        lines.append(f"  this style has no place for the pks of: {', '.join(report.pks_lost)}")
    if report.models_keeping_pks:
        lines.append(f"  keep their pks: {', '.join(report.models_keeping_pks)}")
    if report.keys_called:
        lines.append(f"  methods of the project made {report.keys_called:,} natural keys")
    if report.forward_references:
        lines.append(f"  point forward, in cycles: {report.forward_references:,} references")
    for code, count in sorted(report.policies_applied.items()):
        lines.append(f"  {code}: {count:,} times, as its policy allows")
    return "\n".join(lines)


def _salvage_lines(report: ConversionReport) -> Iterator[str]:
    if report.salvaged is None:
        return
    yield f"  salvaged: {report.salvaged}"
    yield from (f"    lost {loss}" for loss in report.losses[:MAX_SHOWN])
    if len(report.losses) > MAX_SHOWN:
        yield f"    and {len(report.losses) - MAX_SHOWN:,} more; --report writes all of them"
    if report.dangling:
        yield f"  lead to what is lost, or was never there: {len(report.dangling):,} references"
        for one in report.dangling[:MAX_SHOWN]:
            place = f"{one.get('model')} pk {one.get('pk')}, field {one.get('field')}"
            yield f"    {place}: {one.get('value')}"


# ---- verify ------------------------------------------------------------------------------------


def add_verify_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("backup", metavar="BACKUP")
    parser.add_argument("converted", metavar="OUT", help="what was made of it")
    parser.add_argument("--schema", metavar="FILE", required=True, help="what refers to what")
    add_keys_argument(parser)
    add_embedded_argument(parser)
    add_methods_argument(parser)
    parser.add_argument(
        "--any-order", action="store_true", help="the records may stand in another order"
    )
    parser.add_argument(
        "--salvage", action="store_true", help="only the whole records of a damaged backup count"
    )
    add_encoding_argument(parser)
    parser.add_argument("--report", metavar="FILE", help="write the whole report there, as JSON")


def run_verify(options: argparse.Namespace, progress: Progress) -> Outcome:
    from fastnk.verify import VerificationError, verify

    _set_up_project(options.settings)
    report = verify(
        options.backup,
        options.converted,
        options.schema,
        keys=options.keys,
        embedded=options.embedded,
        any_order=options.any_order,
        salvage=options.salvage,
        encoding=options.encoding,
        progress=progress,
    )
    text = _verification_text(report)
    if not report.faithful:
        return Outcome(report, text, exit_code=VerificationError.exit_code)
    command = ["restore", options.converted, "--schema", options.schema, *PROJECT]
    return Outcome(report, text, command)


def _verification_text(report: VerificationReport) -> str:
    from fastnk.verify import VerificationError

    verdict = "faithful: every record, value and reference is accounted for"
    lines = [verdict if report.faithful else str(VerificationError(report))]
    for name, one in (("backup", report.backup), ("converted", report.converted)):
        lines.append(f"  {name}: {one.records:,} records, {one.bytes:,} bytes, sha256 {one.sha256}")
    lines += [f"  {note}" for note in report.read_as]
    if report.damage is not None:
        lines.append(f"  only what is whole was compared: {report.damage}")
    if not report.envelope_kept:
        lines.append("  what stands around the records is not the same")
    rows = [
        (label, m.records, m.converted_records, m.keys, m.references, m.differences)
        for label, m in report.models.items()
    ]
    head = ("model", "records", "converted", "keys", "references", "differences")
    return "\n".join([*lines, *table(head, rows)])


# ---- restore -----------------------------------------------------------------------------------


def add_restore_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "backups", metavar="BACKUP", nargs="+", help="a file, a folder or files that make up one"
    )
    parser.add_argument("--settings", metavar="MODULE", help="the project's settings module")
    parser.add_argument("--schema", metavar="FILE", help="instead of the project's own")
    parser.add_argument("--database", metavar="ALIAS", default="default")
    parser.add_argument("--dry-run", action="store_true", help="change nothing, say what would be")
    parser.add_argument("--no-input", action="store_true", help="do not ask before writing")
    add_conversion_arguments(parser)


def run_restore(options: argparse.Namespace, progress: Progress) -> Outcome:
    from fastnk.restore import UnifiedRestoreManager

    manager = UnifiedRestoreManager(
        options.schema,
        settings=options.settings,
        database=options.database,
        dry_run=options.dry_run,
        policies=_policies(options),
        keys=options.keys,
        embedded=options.embedded,
        salvage=options.salvage,
        encoding=options.encoding,
        progress=progress,
    )
    if not options.dry_run:
        _confirm(f"{', '.join(options.backups)} into {manager.target}", options.no_input)
    report = manager.restore_any_format(_one_or_several(options.backups))
    command = ["restore", *options.backups, *_given_again(options)] if options.dry_run else ()
    complete = report.conversion is None or report.conversion.complete
    return Outcome(report.as_dict(), _restore_text(report), command, 0 if complete else LOSS)


def _given_again(options: argparse.Namespace) -> list[str]:
    """The options of a restore as they were given, without `--dry-run`."""
    words = ["--database", options.database]
    if options.schema:
        words += ["--schema", options.schema]
    words += _keys_again(options)
    for name, word in vars(options).items():
        if name.startswith("on_") and word != "error":
            words += [f"--{name.replace('_', '-')}", word]
    words += ["--encoding", options.encoding] if options.encoding else []
    return [*words, "--salvage"] if options.salvage else words


def _confirm(what: str, no_input: bool) -> None:
    """Say what will be changed, and ask where there is somebody to ask."""
    _talk(f"restore {what}")
    if no_input:
        return
    if not sys.stdin.isatty():
        raise UsageError("nobody here to confirm that", remedy="--no-input goes ahead")
    sys.stderr.write("go ahead? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UsageError("not confirmed; nothing was changed")


def _restore_text(report: RestoreReport) -> str:
    verb = "dry run, nothing was written:" if report.dry_run else "restored"
    lines = [
        f"{verb} {report.records:,} records, {report.database} ({report.engine}, {report.name}):"
        f" {report.created:,} created, {report.updated:,} updated,"
        f" {report.unchanged:,} unchanged, {report.renumbered:,} renumbered"
    ]
    if report.conversion is not None:
        lines += [f"  {note}" for note in report.conversion.read_as]
        lines += _salvage_lines(report.conversion)
    if report.generic_kept:
        lines.append(f"  generic references that keep their ids: {report.generic_kept:,}")
    rows = [
        (label, c.created, c.updated, c.unchanged, c.renumbered)
        for label, c in sorted(report.models.items())
    ]
    return "\n".join(
        [*lines, *table(("model", "created", "updated", "unchanged", "renumbered"), rows)]
    )


# ---- formats ----------------------------------------------------------------------------------


def add_formats_arguments(parser: argparse.ArgumentParser) -> None:
    pass


def run_formats(options: argparse.Namespace, progress: Progress) -> Outcome:
    from fastnk.formats import DJANGO_VERSIONS, HEAD, ROWS, cells

    data = {"formats": [row._asdict() for row in ROWS], "django": DJANGO_VERSIONS}
    plain = [[cell.replace("`", "") for cell in row] for row in cells()]
    return Outcome(data, "\n".join(table(HEAD, plain)))


# ---- demo --------------------------------------------------------------------------------------


def add_demo_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--keep", metavar="FOLDER", help="keep the files and databases there")


def run_demo(options: argparse.Namespace, progress: Progress) -> Outcome:
    import io

    from fastnk import demo

    out = io.StringIO()
    code = demo.run(None if options.keep is None else Path(options.keep), out)
    text = out.getvalue().rstrip()
    return Outcome({"equal": code == 0, "screen": text.splitlines()}, text, exit_code=code)


# ---- the command -------------------------------------------------------------------------------

Run = Callable[[argparse.Namespace, "Progress"], Outcome]


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fastnk",
        description="Converts legacy Django backups to natural keys, and restores any backup.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    _add_verb(verbs, "detect", "say what backups are", add_detect_arguments, run_detect)
    schema = verbs.add_parser("schema", help="make or check a schema").add_subparsers(
        metavar="WHAT", required=True
    )
    _add_verb(schema, "infer", "propose one from a backup", add_infer_arguments, run_schema_infer)
    _add_verb(
        schema, "check", "say whether it fits a backup", add_check_arguments, run_schema_check
    )
    _add_verb(schema, "django", "from a Django project", add_schema_arguments, run_schema_django)
    _add_verb(verbs, "convert", "turn ids into natural keys", add_convert_arguments, run_convert)
    _add_verb(
        verbs, "verify", "prove that a conversion is faithful", add_verify_arguments, run_verify
    )
    _add_verb(verbs, "restore", "load a backup of any format", add_restore_arguments, run_restore)
    _add_verb(verbs, "formats", "list what is read", add_formats_arguments, run_formats)
    _add_verb(verbs, "demo", "see the main job on a small system", add_demo_arguments, run_demo)
    return parser


def _add_verb(
    verbs: Any, name: str, help_: str, add: Callable[[argparse.ArgumentParser], None], run: Run
) -> None:
    parser = verbs.add_parser(name, help=help_, description=help_[0].upper() + help_[1:] + ".")
    add(parser)
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    parser.set_defaults(run=run)


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
        with _termination():
            outcome: Outcome = options.run(options, progress)
    except FastnkError as error:
        progress.close()
        if options.debug:
            raise
        outcome = _failure(error, options)
    except KeyboardInterrupt:
        progress.close()
        _talk("interrupted; nothing was changed")
        return 130
    except _Terminated:
        progress.close()
        _talk("terminated; nothing was changed")
        return 143
    progress.close()
    outcome = _written_report(options, outcome)
    _print(outcome, options.json)
    return outcome.exit_code


def console() -> NoReturn:
    """The entry point: `main`, and silence when the reader of a pipe has gone."""
    try:
        code = main()
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    sys.exit(code)


class _Terminated(BaseException):
    """SIGTERM arrived: unwinds as Ctrl-C does, so that what is open is rolled back."""


@contextlib.contextmanager
def _termination() -> Iterator[None]:
    def terminate(*_: object) -> NoReturn:
        raise _Terminated

    try:
        before = signal.signal(signal.SIGTERM, terminate)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _failure(error: FastnkError, options: argparse.Namespace) -> Outcome:
    _talk(str(error))
    if isinstance(error, FindingsError) and error.total > len(error.findings[:MAX_SHOWN]):
        if getattr(options, "report", None):
            _talk(f"  all of them are in {options.report}")
        else:
            _talk("  --report FILE lists them all")
    return Outcome({"error": error.as_dict()}, "", exit_code=error.exit_code)


def _written_report(options: argparse.Namespace, outcome: Outcome) -> Outcome:
    """Write the report where it was asked for; a report that cannot be written is a failure."""
    path = getattr(options, "report", None)
    if path is None:
        return outcome
    try:
        Path(path).write_bytes(_as_json(outcome))
    except OSError as error:
        _talk(str(OutputError(f"cannot write the report {path}: {error.strerror}")))
        return outcome._replace(exit_code=outcome.exit_code or OutputError.exit_code)
    return outcome


def _as_json(outcome: Outcome) -> bytes:
    import msgspec

    return msgspec.json.format(msgspec.json.encode(outcome.data), indent=2) + b"\n"


def _print(outcome: Outcome, as_json: bool) -> None:
    """The one place that writes reports to standard output."""
    if outcome.takes_stdout:
        _talk(_as_json(outcome).decode() if as_json else outcome.text)
        return
    if as_json:
        sys.stdout.write(_as_json(outcome).decode())
        return
    if outcome.text:
        print(outcome.text)
    if outcome.next_command:
        _talk(f"next: {shlex.join(['fastnk', *outcome.next_command])}")


# ---- tables and talk ---------------------------------------------------------------------------


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """Lines of a table: text to the left, numbers to the right, nothing cut."""
    cells = [[f"{c:,}" if isinstance(c, int) else str(c) for c in row] for row in rows]
    columns = list(zip(head, *cells, strict=True))
    aligned = [
        [cell.rjust(width) if is_number else cell.ljust(width) for cell in column]
        for column in columns
        for width in [max(map(len, column))]
        for is_number in [all(cell.replace(",", "").isdigit() for cell in column[1:])]
    ]
    return ["  " + "  ".join(row).rstrip() for row in zip(*aligned, strict=True)]


def _talk(text: str) -> None:
    print(text, file=sys.stderr)


def _load_schema(path: str | None) -> Any:
    from fastnk.schema import Schema

    return None if path is None else Schema.load(path)
