"""`fastnk restore`: load a backup of any format."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from msgspec import UNSET

from fastnk.cli.arguments import (
    add_backups_argument,
    add_conversion_arguments,
    add_resource_arguments,
    keys_again,
    one_or_several,
    policies,
    read_again,
)
from fastnk.cli.convert import salvage_lines
from fastnk.cli.printing import (
    LOSS,
    Outcome,
    dropped_lines,
    generic_lines,
    ids_left_lines,
    table,
    talk,
)
from fastnk.django.restore.report import Default
from fastnk.errors import MAX_SHOWN, UsageError, shorten
from fastnk.progress import Progress
from fastnk.renames import parse_renames
from fastnk.restore import RestoreReport, UnifiedRestoreManager

HANDOVER = 0.0005
"""Seconds after which a thread that wants the interpreter gets it, a tenth of the usual."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_backups_argument(parser)
    parser.add_argument(
        "--settings",
        metavar="MODULE",
        help="the project's settings module (default: DJANGO_SETTINGS_MODULE)",
    )
    parser.add_argument("--schema", metavar="FILE", help="in place of the schema of the project")
    parser.add_argument(
        "--database",
        metavar="ALIAS",
        default="default",
        help="one of the project's DATABASES (default: %(default)s)",
    )
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
        "--on-json-text",
        choices=("error", "keep", "read"),
        default="error",
        help="texts in JSON fields that hold a JSON object or array, as the jsonfield package wrote"
        " them: refuse, leave as texts, or read what texts hold (default: error)",
    )
    parser.add_argument(
        "-e",
        "--exclude",
        metavar="APP[.MODEL[.FIELD]]",
        action="append",
        default=[],
        help="leave out, and count, the records of an app or a model, or what records say of a"
        " field; any number of times",
    )
    parser.add_argument(
        "--default",
        metavar="APP.MODEL.FIELD=VALUE",
        action="append",
        default=[],
        help="what new rows hold where the backup says nothing, and all where it says null that is"
        " not taken: JSON as in a backup, or a text; any number of times",
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


def run(options: argparse.Namespace, progress: Progress) -> Outcome:
    manager = UnifiedRestoreManager(
        options.schema,
        settings=options.settings,
        database=options.database,
        dry_run=options.dry_run,
        policies=policies(options),
        keys=options.keys,
        embedded=options.embedded,
        salvage=options.salvage,
        encoding=options.encoding,
        jobs=options.jobs,
        memory_limit=options.memory_limit,
        on_existing=options.on_existing,
        on_json_text=options.on_json_text,
        exclude=options.exclude,
        defaults=dict(map(_default, options.default)),
        ignore_nonexistent=options.ignore_nonexistent,
        renames=parse_renames(options.rename),
        diff=options.diff,
        verify=options.verify,
        signals=options.signals,
        progress=progress,
    )
    confirm = None
    if not options.dry_run:
        talk(f"restore {', '.join(options.backups)} into {manager.target}")
        confirm = None if options.no_input else _confirmation(progress)
    with _handing_over():
        report = manager.restore_any_format(one_or_several(options.backups), confirm=confirm)
    command = ["restore", *options.backups, *_given_again(options)] if options.dry_run else ()
    code = 0 if report.complete else LOSS
    return Outcome(report.as_dict(), _restore_text(report), command, code)


@contextmanager
def _handing_over() -> Iterator[None]:
    """Let threads have the interpreter soon: those that splice need it often, and but for a moment.

    It belongs to the whole process, so that only the command line may change it.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(HANDOVER)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def _given_again(options: argparse.Namespace) -> list[str]:
    """The options of a restore as they were given, without `--dry-run`."""
    words = ["--database", options.database]
    if options.schema:
        words += ["--schema", options.schema]
    words += keys_again(options)
    words += [f"--{name}" for name in ("verify", "signals") if getattr(options, name)]
    words += ["--ignore-nonexistent"] if options.ignore_nonexistent else []
    words += [f"--exclude={word}" for word in options.exclude]
    words += [f"--default={word}" for word in options.default]
    words += [f"--rename={word}" for word in options.rename]
    for name, word in vars(options).items():
        default = "update" if name == "on_existing" else "error"
        if name.startswith("on_") and word != default:
            words += [f"--{name.replace('_', '-')}", word]
    words += ["--memory-limit", str(options.memory_limit)] if options.memory_limit else []
    return words + read_again(options)


def _default(word: str) -> tuple[str, Any]:
    """A path and the value for it, of words such as `app.model.field=5`."""
    path, sign, text = word.partition("=")
    if not sign:
        raise UsageError(f'--default "{word}" has no value', remedy="app.model.field=VALUE")
    try:
        value = json.loads(text)
    except ValueError:
        return path, text
    # A text may look like a number, and fields read numbers from texts as well.
    is_changed = type(value) in (int, float) and str(value) != text
    return path, text if is_changed else value


def _confirmation(progress: Progress) -> Callable[[RestoreReport], None]:
    """Asks whether to go ahead. Raises `UsageError` at once where there is nobody to ask."""
    if not sys.stdin.isatty():
        raise UsageError("nobody here to confirm that", remedy="--no-input goes ahead")

    def confirm(report: RestoreReport) -> None:
        progress.close()
        lines = [
            f"{report.where}: {report.rows_present:,} rows are there; {report.created:,} will be"
            f" created and {report.updated:,} changed",
            *_privilege_lines(report),
        ]
        talk("\n".join(lines))
        sys.stderr.write("go ahead? [y/N] ")
        sys.stderr.flush()
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise UsageError("not confirmed; nothing was changed")

    return confirm


def _restore_text(report: RestoreReport) -> str:
    verb = "dry run, nothing was written:" if report.dry_run else "restored"
    lines = [
        f"{verb} {report.records:,} records, {report.where}:"
        f" {report.created:,} created, {report.updated:,} updated,"
        f" {report.unchanged:,} unchanged, {report.renumbered:,} renumbered"
    ]
    if report.conversion is not None:
        lines += [f"  {note}" for note in report.conversion.read_as]
        lines += salvage_lines(report.conversion)
        lines += dropped_lines(report.conversion.records_dropped)
        lines += ids_left_lines(report.conversion.ids_left)
    seconds = sum(report.seconds.values())
    if seconds >= 1:
        lines.append(f"  in {seconds:,.1f} s, {report.records / seconds:,.0f} rows/s")
    if report.verified:
        lines.append("  read back and compared: what the backup says is what the database holds")
    for label, count in sorted(report.further_rows.items()):
        lines.append(f"  rows of {label} that came in besides: {count:,}")
    if report.kept:
        lines.append(f"  differ and are left as they are: {report.kept:,}")
    lines += generic_lines(report.generic_kept)
    for label, why in sorted(report.weak_keys.items()):
        lines.append(f"  the natural key of {label} does not tell its rows apart: {why}")
    for path in report.misread:
        lines.append(f"  {path} makes another value of what it writes into backups: look at it")
    for path, count in sorted(report.replaced_nulls.items()):
        lines.append(f"  nulls that are not taken became the default, {path}: {count:,}")
    for names, count in report.renamed.items():
        lines.append(f"  renamed {names}: {count:,} records")
    for what, count in sorted(report.left_out.items()):
        lines.append(f"  left out, since the project has no {what}: {count:,}")
    for label, count in sorted(report.excluded.items()):
        lines.append(f"  left out, since it is excluded, {label}: {count:,}")
    for label, count in sorted(report.superseded.items()):
        lines.append(f"  left out, since later records have their keys, {label}: {count:,}")
    for what, count in sorted(report.let_go.items()):
        lines.append(f"  let go, since nothing answers it, {what}: {count:,}")
    rows = [
        (label, c.created, c.updated, c.unchanged, c.kept, c.renumbered, c.unknown_rows)
        for label, c in sorted(report.models.items())
    ]
    head = ("model", "created", "updated", "unchanged", "kept", "renumbered", "not in backup")
    lines += table(head, rows)
    lines += [*_default_lines(report), *_privilege_lines(report)]
    lines += [*_difference_lines(report), *_receiver_lines(report)]
    if report.dry_run:
        lines.append("this was a dry run; nothing was written")
    return "\n".join(lines)


def _default_lines(report: RestoreReport) -> list[str]:
    lines = [
        f"  {path}: {_default_text(one)} ({one.rows:,})"
        for path, one in sorted(report.defaulted.items())
    ]
    head = "fields that the backup does not say, and what new rows have there (how many):"
    return [head, *_shortened(lines)] if lines else []


def _default_text(default: Default) -> str:
    if default.value is UNSET:
        return "of each its own"
    return shorten(json.dumps(default.value, ensure_ascii=False))


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
