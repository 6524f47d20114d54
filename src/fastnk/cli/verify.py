"""`fastnk verify`: prove that a conversion is faithful."""

from __future__ import annotations

import argparse

from fastnk.cli.arguments import (
    add_backups_argument,
    add_conversion_arguments,
    add_jobs_argument,
    add_methods_argument,
    one_or_several,
    policies,
    project_again,
    set_up_project,
)
from fastnk.cli.printing import LOSS, Outcome, generic_lines, table
from fastnk.progress import Progress
from fastnk.verify import VerificationError, VerificationReport, verify


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_backups_argument(parser)
    parser.add_argument("converted", metavar="OUT", help="what was made of it")
    parser.add_argument("--schema", metavar="FILE", required=True, help="what refers to what")
    add_methods_argument(parser)
    parser.add_argument(
        "--any-order", action="store_true", help="the records may stand in another order"
    )
    add_conversion_arguments(parser)
    add_jobs_argument(parser)


def run(options: argparse.Namespace, progress: Progress) -> Outcome:
    set_up_project(options.settings)
    report = verify(
        one_or_several(options.backups),
        options.converted,
        options.schema,
        keys=options.keys,
        policies=policies(options),
        embedded=options.embedded,
        any_order=options.any_order,
        salvage=options.salvage,
        encoding=options.encoding,
        jobs=options.jobs,
        progress=progress,
    )
    text = _verification_text(report)
    if not report.faithful:
        return Outcome(report, text, exit_code=VerificationError.exit_code)
    command = ["restore", options.converted, "--schema", options.schema, *project_again(options)]
    return Outcome(report, text, command, 0 if report.complete else LOSS)


def _verification_text(report: VerificationReport) -> str:
    verdict = "faithful: every record, value and reference is accounted for"
    if not report.complete:
        verdict = "faithful, but not complete: what is not converted is accounted for here"
    lines = [verdict if report.faithful else str(VerificationError(report))]
    for name, one in (("backup", report.backup), ("converted", report.converted)):
        lines.append(f"  {name}: {one.records:,} records, {one.bytes:,} bytes, sha256 {one.sha256}")
    lines += [f"  {note}" for note in report.read_as]
    if report.damage is not None:
        lines.append(f"  only what is whole was compared: {report.damage}")
    lines += [
        f"  {what}: {count:,}, by --{policy.replace('_', '-')} {report.policies[policy]}"
        for policy, counts in report.allowed.items()
        for what, count in counts.items()
    ]
    lines += generic_lines(report.generic_kept)
    if not report.envelope_kept:
        lines.append("  what stands around the records is not the same")
    rows = [
        (label, m.records, m.converted_records, m.keys, m.references, m.differences)
        for label, m in report.models.items()
    ]
    head = ("model", "records", "converted", "keys", "references", "differences")
    return "\n".join([*lines, *table(head, rows)])
