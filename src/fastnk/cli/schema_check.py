"""`fastnk schema check`: say whether a schema fits a backup."""

from __future__ import annotations

import argparse

from fastnk.check import COLUMNS, check
from fastnk.cli.arguments import (
    add_backups_argument,
    add_embedded_argument,
    add_keys_argument,
    add_methods_argument,
    add_reading_arguments,
    keys_again,
    one_or_several,
    output_for,
    read_again,
    set_up_project,
)
from fastnk.cli.printing import LOSS, Outcome, table
from fastnk.errors import FindingsError
from fastnk.progress import Progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("schema", metavar="SCHEMA", help="the file of the schema")
    add_backups_argument(parser)
    add_reading_arguments(parser)
    add_keys_argument(parser)
    add_embedded_argument(parser)
    add_methods_argument(parser)


def run(options: argparse.Namespace, progress: Progress) -> Outcome:
    set_up_project(options.settings)
    report = check(
        options.schema,
        one_or_several(options.backups),
        options.keys,
        embedded=options.embedded,
        encoding=options.encoding,
        salvage=options.salvage,
        progress=progress,
    )
    misfits = "1 misfit" if len(report.misfits) == 1 else f"{len(report.misfits):,} misfits"
    verdict = "fits" if report.fits else f"does not fit, {misfits}"
    lines = [f"{options.schema} and {report.backup}, {report.records:,} records: {verdict}"]
    if report.rows:
        lines += table(COLUMNS, [row.cells() for row in report.rows])
    allowed = sorted({row.option for row in report.misfits if row.option})
    if allowed:
        lines.append(f"allowed by: {', '.join(allowed)}")
    if report.fits:
        output = output_for(options.backups)
        command = ["convert", *options.backups, output, "--schema", options.schema]
        command += [*keys_again(options), *read_again(options)]
        return Outcome(report, "\n".join(lines), command, LOSS if report.damage else 0)
    return Outcome(report, "\n".join(lines), exit_code=FindingsError.exit_code)
