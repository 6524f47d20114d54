"""The command `fastnk`: arguments, one library call, text or JSON, an exit code.

Every verb is a pair of functions: one adds its arguments to any `argparse` parser, one runs it
and returns an `Outcome`. Only `_print` writes to standard output, and `convert BACKUP -`.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from fastnk.errors import MAX_SHOWN, FastnkError, FindingsError, OutputError, UsageError

if TYPE_CHECKING:
    from fastnk.bench import BenchReport
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
    parser.add_argument(
        "--together", action="store_true", help="they make up one backup, as in all other verbs"
    )
    parser.add_argument("--schema", metavar="FILE", help="tell relations from other fields by it")
    parser.add_argument("--full", action="store_true", help="read all of it, not only its head")
    add_reading_arguments(parser)
    add_methods_argument(parser)


def run_detect(options: argparse.Namespace, progress: Progress) -> Outcome:
    from fastnk.detect import BackupFormatDetector

    _set_up_project(options.settings)
    schema = _load_schema(options.schema)
    detector = BackupFormatDetector(
        schema,
        full=options.full,
        encoding=options.encoding,
        salvage=options.salvage,
        progress=progress,
    )
    if options.together:
        reports = {", ".join(options.backups): detector.detect_format(options.backups)}
    else:
        reports = {backup: detector.detect_format(backup) for backup in options.backups}
    text = "\n\n".join(_detection_text(name, report) for name, report in reports.items())
    report = next(iter(reports.values()))
    first = options.backups if options.together else options.backups[:1]
    schema_name = options.schema or "schema.json"
    if report == "enhanced_natural_keys":
        command = ["restore", *first, *PROJECT]
    else:
        command = ["convert", *first, "natural.json", "--schema", schema_name]
    command += _read_again(options)
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
        "--settings",
        metavar="MODULE",
        default=os.environ.get("DJANGO_SETTINGS_MODULE"),
        help="the project's settings module (default: DJANGO_SETTINGS_MODULE)",
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

    if options.settings is None:
        raise UsageError(
            "no Django project", remedy="name its settings: --settings mysite.settings"
        )
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
    add_backups_argument(parser)
    add_reading_arguments(parser)
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
    proposal = infer(
        _one_or_several(options.backups),
        options.example,
        keys=options.keys,
        encoding=options.encoding,
        salvage=options.salvage,
        progress=progress,
    )
    lines = table(COLUMNS, proposal.table())
    lines += [f"note: {note}" for note in proposal.notes]
    lines += [f"left out: {what}" for what in proposal.left_out(options.minimum)]
    command = ["schema", "infer", *options.backups, "-o", "schema.json"]
    if options.output is not None:
        proposal.schema(options.minimum).save(options.output)
        lines.append(f"{options.output}: a guess; look at it before it is used")
        command = ["schema", "check", options.output, *options.backups]
    command += _read_again(options)
    code = LOSS if proposal.damage else 0
    return Outcome(proposal.document(options.minimum), "\n".join(lines), command, code)


def add_check_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("schema", metavar="SCHEMA")
    add_backups_argument(parser)
    add_reading_arguments(parser)
    add_keys_argument(parser)
    add_embedded_argument(parser)
    add_methods_argument(parser)


def run_schema_check(options: argparse.Namespace, progress: Progress) -> Outcome:
    from fastnk.check import COLUMNS, check

    _set_up_project(options.settings)
    report = check(
        options.schema,
        _one_or_several(options.backups),
        options.keys,
        embedded=options.embedded,
        encoding=options.encoding,
        salvage=options.salvage,
        progress=progress,
    )
    verdict = "fits" if report.fits else f"does not fit, {len(report.misfits):,} misfits"
    lines = [f"{options.schema} and {report.backup}, {report.records:,} records: {verdict}"]
    if report.rows:
        lines += table(COLUMNS, [row.cells() for row in report.rows])
    allowed = sorted({row.option for row in report.misfits if row.option})
    if allowed:
        lines.append(f"allowed by: {', '.join(allowed)}")
    if report.fits:
        command = ["convert", *options.backups, "natural.json", "--schema", options.schema]
        command += [*_keys_again(options), *_read_again(options)]
        return Outcome(report, "\n".join(lines), command, LOSS if report.damage else 0)
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


def add_backups_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "backups",
        metavar="BACKUP",
        nargs="+",
        help="a file, a folder, a URL, - for standard input; or several that make up one backup",
    )


def add_reading_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--encoding", metavar="NAME", help="of the backup, such as cp1252; found out without it"
    )
    parser.add_argument(
        "--salvage", action="store_true", help="only the whole records of a damaged backup count"
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


def add_resource_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--jobs", metavar="N", type=int, help="threads; as many as there are processors without it"
    )
    parser.add_argument(
        "--memory-limit",
        metavar="SIZE",
        type=_bytes,
        help="past this, as 256M or 2G, the key map moves to temporary files",
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


def _read_again(options: argparse.Namespace) -> list[str]:
    """What a command on the same backup needs to read it in the same way."""
    words = ["--encoding", options.encoding] if options.encoding else []
    return [*words, "--salvage"] if options.salvage else words


def add_conversion_arguments(parser: argparse.ArgumentParser) -> None:
    """What `convert` and `restore` have in common."""
    add_keys_argument(parser)
    add_reading_arguments(parser)
    add_embedded_argument(parser)
    parser.add_argument("--report", metavar="FILE", help="write the whole report there, as JSON")
    add_policy_arguments(parser)


def add_convert_arguments(parser: argparse.ArgumentParser) -> None:
    add_backups_argument(parser)
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
    add_resource_arguments(parser)
    parser.add_argument(
        "--no-sync",
        action="store_true",
        help="do not wait until OUT is on the disk; after a power cut it may not be there",
    )
    parser.add_argument(
        "--compress",
        metavar="HOW",
        help="gzip | bzip2 | xz | zstd | none; as the name of OUT says without it",
    )
    parser.add_argument("--force", action="store_true", help="replace OUT if it exists")
    add_methods_argument(parser)
    add_conversion_arguments(parser)


def _bytes(text: str) -> int:
    """A number of bytes, also as `256M`."""
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    unit = units.get(text[-1:].upper())
    return int(text) if unit is None else int(float(text[:-1]) * unit)


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
        memory_limit=options.memory_limit,
        salvage=options.salvage,
        encoding=options.encoding,
        compress=options.compress,
        force=options.force,
        sync=not options.no_sync,
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
    if report.key_map_spilled_bytes:
        lines.append(
            f"  key map: {report.key_map_spilled_bytes / 1e6:,.0f} MB in temporary files, where"
            f" looking rows up took {report.key_map_spilled_seconds:.1f} s"
        )
    for code, count in sorted(report.policies_applied.items()):
        lines.append(f"  {code}: {count:,} times, as its policy allows")
    return "\n".join(lines)


def _salvage_lines(report: ConversionReport) -> Iterator[str]:
    if report.salvaged is None:
        return
    yield f"  salvaged: {report.salvaged}"
    yield from (f"    lost {loss}" for loss in report.losses[:MAX_SHOWN])
    if report.places_lost > MAX_SHOWN:
        listed = len(report.losses)
        some = "all" if listed == report.places_lost else f"the first {listed:,}"
        yield f"    and {report.places_lost - MAX_SHOWN:,} more; --report writes {some} of them"
    if report.dangling:
        yield f"  lead to what is lost, or was never there: {len(report.dangling):,} references"
        for one in report.dangling[:MAX_SHOWN]:
            place = f"{one.get('model')} pk {one.get('pk')}, field {one.get('field')}"
            yield f"    {place}: {one.get('value')}"


# ---- verify ------------------------------------------------------------------------------------


def add_verify_arguments(parser: argparse.ArgumentParser) -> None:
    add_backups_argument(parser)
    parser.add_argument("converted", metavar="OUT", help="what was made of it")
    parser.add_argument("--schema", metavar="FILE", required=True, help="what refers to what")
    add_keys_argument(parser)
    add_reading_arguments(parser)
    add_embedded_argument(parser)
    add_methods_argument(parser)
    parser.add_argument(
        "--any-order", action="store_true", help="the records may stand in another order"
    )
    parser.add_argument("--report", metavar="FILE", help="write the whole report there, as JSON")


def run_verify(options: argparse.Namespace, progress: Progress) -> Outcome:
    from fastnk.verify import VerificationError, verify

    _set_up_project(options.settings)
    report = verify(
        _one_or_several(options.backups),
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
    return Outcome(report, text, command, 0 if report.damage is None else LOSS)


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
    add_backups_argument(parser)
    parser.add_argument("--settings", metavar="MODULE", help="the project's settings module")
    parser.add_argument("--schema", metavar="FILE", help="instead of the project's own")
    parser.add_argument("--database", metavar="ALIAS", default="default")
    parser.add_argument("--dry-run", action="store_true", help="change nothing, say what would be")
    parser.add_argument(
        "--no-input", "--noinput", action="store_true", help="do not ask before writing"
    )
    parser.add_argument(
        "--on-existing",
        choices=("update", "keep", "error"),
        default="update",
        help="rows that exist and differ: change them, leave them, or refuse (default: update)",
    )
    parser.add_argument(
        "--ignore-nonexistent",
        action="store_true",
        help="leave out, and count, models and fields that the project no longer has",
    )
    parser.add_argument(
        "--rename",
        metavar="OLD=NEW",
        action="append",
        default=[],
        help="what an app, app.model or app.model.field is called today; any number of times",
    )
    parser.add_argument("--diff", action="store_true", help="show which fields of rows change")
    parser.add_argument(
        "--signals", action="store_true", help="call receivers of signals, as loaddata does"
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="read the rows back before commit, compare them with the backup",
    )
    add_resource_arguments(parser)
    add_conversion_arguments(parser)


def run_restore(options: argparse.Namespace, progress: Progress) -> Outcome:
    from fastnk.renames import parse_renames
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
        jobs=options.jobs,
        memory_limit=options.memory_limit,
        on_existing=options.on_existing,
        ignore_nonexistent=options.ignore_nonexistent,
        renames=parse_renames(options.rename),
        diff=options.diff,
        verify=options.verify,
        signals=options.signals,
        progress=progress,
    )
    confirm = None
    if not options.dry_run:
        _talk(f"restore {', '.join(options.backups)} into {manager.target}")
        confirm = None if options.no_input else _confirmation(progress)
    report = manager.restore_any_format(_one_or_several(options.backups), confirm=confirm)
    command = ["restore", *options.backups, *_given_again(options)] if options.dry_run else ()
    code = 0 if report.complete else LOSS
    return Outcome(report.as_dict(), _restore_text(report), command, code)


def _given_again(options: argparse.Namespace) -> list[str]:
    """The options of a restore as they were given, without `--dry-run`."""
    words = ["--database", options.database]
    if options.schema:
        words += ["--schema", options.schema]
    words += _keys_again(options)
    words += [f"--{name}" for name in ("verify", "signals") if getattr(options, name)]
    words += ["--ignore-nonexistent"] if options.ignore_nonexistent else []
    words += [f"--rename={word}" for word in options.rename]
    for name, word in vars(options).items():
        default = "update" if name == "on_existing" else "error"
        if name.startswith("on_") and word != default:
            words += [f"--{name.replace('_', '-')}", word]
    words += ["--memory-limit", str(options.memory_limit)] if options.memory_limit else []
    return words + _read_again(options)


def _confirmation(progress: Progress) -> Callable[[RestoreReport], None]:
    """Asks whether to go ahead. Raises `UsageError` at once where there is nobody to ask."""
    if not sys.stdin.isatty():
        raise UsageError("nobody here to confirm that", remedy="--no-input goes ahead")

    def confirm(report: RestoreReport) -> None:
        progress.close()
        lines = [
            f"{report.rows_present:,} rows are there; {report.created:,} will be created and"
            f" {report.updated:,} changed",
            *_privilege_lines(report),
        ]
        _talk("\n".join(lines))
        sys.stderr.write("go ahead? [y/N] ")
        sys.stderr.flush()
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise UsageError("not confirmed; nothing was changed")

    return confirm


def _privilege_lines(report: RestoreReport) -> list[str]:
    lines = [f"  {one.model} {one.row}: {one.change}" for one in report.privileges]
    return ["changes to what people may do:", *_shortened(lines)] if lines else []


def _difference_lines(report: RestoreReport) -> list[str]:
    lines = [
        f"  {one.model} {one.row}, {one.field}: {one.before!r} -> {one.after!r}"
        for one in report.differences
    ]
    return ["fields that change:", *_shortened(lines)] if lines else []


def _receiver_lines(report: RestoreReport) -> list[str]:
    lines = [f"  {one}" for one in report.receivers]
    return (
        ["receivers of signals, called with --signals only:", *_shortened(lines)] if lines else []
    )


def _shortened(lines: list[str]) -> list[str]:
    more = len(lines) - MAX_SHOWN
    return lines if more <= 0 else [*lines[:MAX_SHOWN], f"  and {more:,} more; --report has all"]


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
    seconds = sum(report.seconds.values())
    if seconds >= 1:
        lines.append(f"  in {seconds:,.1f} s, {report.records / seconds:,.0f} rows/s")
    if report.verified:
        lines.append("  read back and compared: what the backup says is what the database holds")
    if report.kept:
        lines.append(f"  differ and are left as they are: {report.kept:,}")
    if report.generic_kept:
        lines.append(f"  generic references that keep their ids: {report.generic_kept:,}")
    for label, why in sorted(report.weak_keys.items()):
        lines.append(f"  the natural key of {label} does not tell its rows apart: {why}")
    for names, count in report.renamed.items():
        lines.append(f"  renamed {names}: {count:,} records")
    for what, count in sorted(report.left_out.items()):
        lines.append(f"  left out, since the project has no {what}: {count:,}")
    rows = [
        (label, c.created, c.updated, c.unchanged, c.kept, c.renumbered, c.unknown_rows)
        for label, c in sorted(report.models.items())
    ]
    head = ("model", "created", "updated", "unchanged", "kept", "renumbered", "not in backup")
    lines += table(head, rows)
    lines += [*_privilege_lines(report), *_difference_lines(report), *_receiver_lines(report)]
    if report.dry_run:
        lines.append("this was a dry run; nothing was written")
    return "\n".join(lines)


# ---- bench -------------------------------------------------------------------------------------


def add_bench_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("backup", metavar="BACKUP")
    parser.add_argument("--schema", metavar="FILE", required=True, help="what refers to what")
    parser.add_argument(
        "--folder", help="where to write what is removed again, else the folder of the backup"
    )
    parser.add_argument(
        "--runs", metavar="N", type=int, default=3, help="of each, in turn (default: %(default)s)"
    )
    parser.add_argument(
        "--restore-rate",
        metavar="ROWS",
        type=float,
        action="append",
        help="rows a second that your database takes; any number of times",
    )
    add_resource_arguments(parser)
    add_methods_argument(parser)
    add_conversion_arguments(parser)


def run_bench(options: argparse.Namespace, progress: Progress) -> Outcome:
    from fastnk.bench import RESTORE_RATES, bench

    _set_up_project(options.settings)
    report = bench(
        options.backup,
        options.schema,
        folder=options.folder,
        runs=options.runs,
        restore_rates=options.restore_rate or RESTORE_RATES,
        keys=options.keys,
        policies=_policies(options),
        embedded=options.embedded,
        jobs=options.jobs,
        memory_limit=options.memory_limit,
        salvage=options.salvage,
        encoding=options.encoding,
        progress=progress,
    )
    command = ["convert", options.backup, "natural.json", "--schema", options.schema]
    return Outcome(report, _bench_text(report), command + _keys_again(options))


def _bench_text(report: BenchReport) -> str:
    rows = [
        (
            timing.name,
            f"{timing.seconds:.3f}",
            "" if timing.mb_per_second is None else f"{timing.mb_per_second:,.0f}",
            f"{timing.share:.0%}",
        )
        for timing in (*report.phases, *report.copies)
    ]
    beside = [f"{1 / copy.share:.2f} times the {copy.name}" for copy in report.copies]
    lines = [
        f"{report.backup}: {report.records:,} records, {report.bytes / 1e6:,.1f} MB;"
        f" median of {report.runs}, the file was in the cache",
        *table(("phase", "seconds", "MB/s", "of the conversion"), rows),
        f"conversion: {report.seconds:.3f} s, {', '.join(beside)};"
        f" {report.key_map_bytes:,} bytes of memory for keys",
    ]
    for restore in report.restores:
        lines.append(
            f"at {restore.rows_per_second:,.0f} rows/s a restore of these {report.records:,}"
            f" records takes {restore.seconds:,.1f} s, of which detection and conversion are"
            f" {restore.conversion_share:.1%}"
        )
    return "\n".join(lines)


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
    verbs = parser.add_subparsers(metavar="VERB", required=True, parser_class=_VerbParser)
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
    _add_verb(
        verbs, "bench", "say what converting a backup costs here", add_bench_arguments, run_bench
    )
    _add_verb(verbs, "formats", "list what is read", add_formats_arguments, run_formats)
    _add_verb(verbs, "demo", "see the main job on a small system", add_demo_arguments, run_demo)
    return parser


def _add_verb(
    verbs: Any, name: str, help_: str, add: Callable[[argparse.ArgumentParser], None], run: Run
) -> None:
    parser = verbs.add_parser(name, help=help_, description=help_[0].upper() + help_[1:] + ".")
    parser.add = add
    parser.set_defaults(run=run)


class _VerbParser(argparse.ArgumentParser):
    """Adds its arguments when its verb is used: those of some verbs need costly imports."""

    add: Callable[[argparse.ArgumentParser], None] | None = None

    def parse_known_args(self, *args: Any, **options: Any) -> Any:
        if self.add is not None:
            self.add(self)
            self.add_argument("--json", action="store_true", help="one JSON document on stdout")
            self.add_argument("--debug", action="store_true", help="show tracebacks")
            self.add = None
        return super().parse_known_args(*args, **options)


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
    outcome = written_report(options, outcome)
    _print(outcome, options.json)
    return outcome.exit_code


def console() -> NoReturn:
    """The entry point: `main`, and silence when the reader of a pipe has gone."""
    # What a start makes stays: looking through it for cycles would take a tenth of it.
    gc.set_threshold(100_000)
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
def termination() -> Iterator[None]:
    """Let SIGTERM unwind what is going on."""

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


def written_report(options: argparse.Namespace, outcome: Outcome) -> Outcome:
    """Write the report where it was asked for; a report that cannot be written is a failure."""
    path = getattr(options, "report", None)
    if path is None:
        return outcome
    try:
        Path(path).write_bytes(document(outcome))
    except OSError as error:
        _talk(str(OutputError(f"cannot write the report {path}: {error.strerror}")))
        return outcome._replace(exit_code=outcome.exit_code or OutputError.exit_code)
    return outcome


def document(outcome: Outcome) -> bytes:
    """What `--json` shows."""
    import msgspec

    return msgspec.json.format(msgspec.json.encode(outcome.data), indent=2) + b"\n"


def _print(outcome: Outcome, as_json: bool) -> None:
    """The one place that writes reports to standard output."""
    if outcome.takes_stdout:
        _talk(document(outcome).decode() if as_json else outcome.text)
        return
    if as_json:
        sys.stdout.write(document(outcome).decode())
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
        for is_number in [all(re.fullmatch(r"[\d,.]*%?", cell) for cell in column[1:])]
    ]
    return ["  " + "  ".join(row).rstrip() for row in zip(*aligned, strict=True)]


def _talk(text: str) -> None:
    print(text, file=sys.stderr)


def _load_schema(path: str | None) -> Any:
    from fastnk.schema import Schema

    return None if path is None else Schema.load(path)
