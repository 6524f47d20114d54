"""What the rivals that read a whole file have in common, whatever library does the JSON."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.rivals.rewrite import Rewriter


def is_array(path: Path) -> bool:
    """Whether a backup is one JSON array; else it is JSON Lines."""
    with path.open("rb") as stream:
        return stream.read(64).lstrip().startswith(b"[")


def convert_whole_file(
    loads: Callable[[bytes], Any],
    dumps: Callable[[Any], bytes],
    backup: Path,
    output: Path,
    schema: Path,
    *,
    collect_garbage: bool = False,
) -> None:
    """Decode everything, rewrite it, encode everything. Memory is a multiple of the file."""
    if not collect_garbage:
        # Millions of containers and not one cycle: the collector would look again and again and
        # find nothing, in more time than all the rest takes.
        gc.disable()
    as_array = is_array(backup)
    if as_array:
        records = loads(backup.read_bytes())
    else:
        with backup.open("rb") as stream:
            records = [loads(line) for line in stream]
    rewriter = Rewriter(json.loads(schema.read_bytes()))
    for record in records:
        rewriter.index(record)
    rewriter.resolve()
    for record in records:
        rewriter.rewrite(record)
    with output.open("wb") as stream:
        if as_array:
            stream.write(dumps(records))
        else:
            stream.writelines(dumps(record) + b"\n" for record in records)


def main(convert: Callable[[Path, Path, Path], None]) -> None:
    """Run a rival on the command line `IN OUT SCHEMA`."""
    arguments = sys.argv[1:]
    if len(arguments) != 3:
        sys.exit("usage: python -m benchmarks.rivals.NAME IN OUT SCHEMA")
    convert(*map(Path, arguments))
