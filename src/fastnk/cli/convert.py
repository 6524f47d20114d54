"""`fastnk convert`: turn ids into natural keys."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from fastnk.cli.arguments import (
    add_backups_argument,
    add_conversion_arguments,
    add_methods_argument,
    add_resource_arguments,
    one_or_several,
    policies,
    project_again,
    set_up_project,
)
from fastnk.cli.printing import LOSS, Outcome, dropped_lines, generic_lines, ids_left_lines
from fastnk.convert import ConversionReport, convert
from fastnk.errors import MAX_SHOWN, Finding
from fastnk.progress import Progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_backups_argument(parser)
    parser.add_argument("output", metavar="OUT", help="where to write it; - for standard output")
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


def run(options: argparse.Namespace, progress: Progress) -> Outcome:
    set_up_project(options.settings)
    report = convert(
        one_or_several(options.backups),
        options.output,
        options.schema,
        keys=options.keys,
        policies=policies(options),
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
        ["restore", options.output, "--schema", options.schema, *project_again(options)],
        0 if report.complete else LOSS,
        takes_stdout=options.output == "-",
    )


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
    lines += salvage_lines(report)
    lines += dropped_lines(report.records_dropped)
    lines += generic_lines(report.generic_kept)
    lines += ids_left_lines(report.ids_left)
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


def salvage_lines(report: ConversionReport) -> Iterator[str]:
    if report.salvaged is None:
        return
    yield f"  salvaged: {report.salvaged}"
    yield from (f"    lost {loss}" for loss in report.losses[:MAX_SHOWN])
    if report.places_lost > MAX_SHOWN:
        listed = len(report.losses)
        some = "all" if listed == report.places_lost else f"the first {listed:,}"
        yield f"    and {report.places_lost - MAX_SHOWN:,} more; --report writes {some} of them"
    if report.dangling:
        count = f"{len(report.dangling):,}"
        yield f"  need what is lost, or was never there: {count} references and keys"
        for one in map(Finding.from_dict, report.dangling[:MAX_SHOWN]):
            yield f"    {one.place}: {one.value or one.what}"
