"""`fastnk schema infer`: propose a schema from a backup."""

from __future__ import annotations

import argparse

from fastnk.cli.arguments import (
    SCHEMA,
    add_backups_argument,
    add_keys_argument,
    add_methods_argument,
    add_reading_arguments,
    one_or_several,
    read_again,
    set_up_project,
)
from fastnk.cli.printing import LOSS, Outcome, table
from fastnk.errors import UsageError
from fastnk.infer import infer
from fastnk.infer.proposal import COLUMNS
from fastnk.progress import Progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
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


def run(options: argparse.Namespace, progress: Progress) -> Outcome:
    set_up_project(options.settings)
    if not 0 <= options.minimum <= 1:
        raise UsageError("--minimum is a number from 0 to 1")
    proposal = infer(
        one_or_several(options.backups),
        options.example,
        keys=options.keys,
        encoding=options.encoding,
        salvage=options.salvage,
        progress=progress,
    )
    lines = table(COLUMNS, proposal.table())
    lines += [f"note: {note}" for note in proposal.notes]
    lines += [f"left out: {what}" for what in proposal.left_out(options.minimum)]
    command = ["schema", "infer", *options.backups, "-o", SCHEMA]
    if options.output is not None:
        proposal.schema(options.minimum).save(options.output)
        lines.append(f"{options.output}: a guess; look at it before it is used")
        command = ["schema", "check", options.output, *options.backups]
    command += read_again(options)
    code = LOSS if proposal.damage else 0
    return Outcome(proposal.document(options.minimum), "\n".join(lines), command, code)
