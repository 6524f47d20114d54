"""`fastnk bench`: say what converting a backup costs here."""

from __future__ import annotations

import argparse

from fastnk.bench import RESTORE_RATES, BenchReport, bench
from fastnk.cli.arguments import (
    add_conversion_arguments,
    add_methods_argument,
    add_resource_arguments,
    keys_again,
    output_for,
    policies,
    set_up_project,
)
from fastnk.cli.printing import Outcome, table
from fastnk.progress import Progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("backup", metavar="BACKUP", help="the file of a backup")
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


def run(options: argparse.Namespace, progress: Progress) -> Outcome:
    set_up_project(options.settings)
    report = bench(
        options.backup,
        options.schema,
        folder=options.folder,
        runs=options.runs,
        restore_rates=options.restore_rate or RESTORE_RATES,
        keys=options.keys,
        policies=policies(options),
        embedded=options.embedded,
        jobs=options.jobs,
        memory_limit=options.memory_limit,
        salvage=options.salvage,
        encoding=options.encoding,
        progress=progress,
    )
    command = ["convert", options.backup, output_for([options.backup]), "--schema", options.schema]
    return Outcome(report, _bench_text(report), command + keys_again(options))


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
