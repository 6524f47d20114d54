"""`fastnk detect`: say what backups are."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from fastnk.cli.arguments import (
    SCHEMA,
    SETTINGS,
    add_methods_argument,
    add_reading_arguments,
    output_for,
    project_again,
    read_again,
    set_up_project,
)
from fastnk.cli.printing import LOSS, Outcome, table
from fastnk.detect import BackupFormatDetector, DetectionReport
from fastnk.progress import Progress
from fastnk.schema import Schema


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("backups", metavar="BACKUP", nargs="+", help="the backups to look at")
    parser.add_argument(
        "--together", action="store_true", help="they make up one backup, as in all other verbs"
    )
    parser.add_argument("--schema", metavar="FILE", help="tell relations from other fields by it")
    parser.add_argument("--full", action="store_true", help="read all of it, not only its head")
    add_reading_arguments(parser)
    add_methods_argument(parser)


def run(options: argparse.Namespace, progress: Progress) -> Outcome:
    set_up_project(options.settings)
    schema = None if options.schema is None else Schema.load(options.schema)
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
    command = _next_command(options, first, report)
    code = LOSS if any(one.damage for one in reports.values()) else 0
    return Outcome(reports, text, command, code)


def _next_command(
    options: argparse.Namespace, backup: list[str], report: DetectionReport
) -> list[str]:
    """A restore, or a conversion, or what makes the schema that a conversion needs."""
    # Without it nothing takes a backup that is cut off.
    again = read_again(options) + ["--salvage"] * (report.cut_off_at is not None)
    if report == "enhanced_natural_keys":
        return ["restore", *backup, *project_again(options), *again]
    if options.schema or Path(SCHEMA).exists():
        schema = options.schema or SCHEMA
        return ["convert", *backup, output_for(backup), "--schema", schema, *again]
    if options.settings or SETTINGS in os.environ:
        return ["schema", "django", *project_again(options), "-o", SCHEMA]
    return ["schema", "infer", *backup, "-o", SCHEMA, *again]


def _detection_text(name: str, report: DetectionReport) -> str:
    lines = [f"{name}: {report.format}"]
    lines += [f"  {sentence}" for sentence in report.evidence]
    rows = [
        (label, m.records, m.with_pk, m.with_natural_key, m.with_neither, m.ids, m.keys)
        for label, m in sorted(report.models.items())
    ]
    head = ("model", "records", "with pk", "with key", "with neither", "ids", "keys")
    return "\n".join([*lines, *table(head, rows)])
