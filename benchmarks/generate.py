"""Writes a legacy backup of any size, and the schema that fits it.

    python -m benchmarks.generate --size 256 --layout compact --seed 1 OUT

The same seed gives the same bytes on every machine, and the same size gives the same records in
every layout. Memory does not grow with the size.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO, NamedTuple

from benchmarks.edms import SCHEMA, Row, rows
from benchmarks.templates import Template, templates

BYTES_PER_DOCUMENT = 41_800
"""What one document and all that belongs to it take in the compact layout."""

ROWS_PER_WRITE = 250


class Layout(NamedTuple):
    """How `dumpdata` arranges records."""

    head: str
    between: str
    tail: str
    indent: int | None


LAYOUTS = {
    "compact": Layout("[", ", ", "]", None),
    "indented": Layout("[\n", ",\n", "\n]\n", 2),
    "jsonl": Layout("", "\n", "\n", None),
}


def generate(output: Path, megabytes: float, layout: str = "compact", seed: int = 1) -> None:
    """Write a backup of about `megabytes` (of a million bytes, compact) and its schema.

    The schema goes to `schema_path(output)`. Raises `KeyError` for an unknown layout.
    """
    documents = round(megabytes * 1e6 / BYTES_PER_DOCUMENT)
    with output.open("wb") as stream:
        write(stream, rows(documents, seed), LAYOUTS[layout])
    schema_path(output).write_text(json.dumps(SCHEMA, indent=2) + "\n")


def schema_path(backup: Path) -> Path:
    """Where the schema of a generated backup stands."""
    return backup.with_name("schema.json")


def write(stream: BinaryIO, rows: Iterator[Row], layout: Layout) -> None:
    """Write those rows as `dumpdata` would."""
    rendered = {
        label: [_format(label, template, layout.indent) for template in of_model]
        for label, of_model in templates().items()
    }
    separator = layout.head
    while batch := list(islice(rows, ROWS_PER_WRITE)):
        records = [_pick(rendered[label], number) % values for label, number, values in batch]
        stream.write((separator + layout.between.join(records)).encode())
        separator = layout.between
    stream.write(layout.tail.encode())


def _pick(formats: list[str], number: int) -> str:
    return formats[number % len(formats)]


def _format(label: str, template: Template, indent: int | None) -> str:
    """The template's JSON as the left side of Python's `%`."""
    record = {"model": label, "pk": template.pk, "fields": template.fields}
    text = json.dumps(record, ensure_ascii=False, indent=indent).replace("%", "%%")
    text = re.sub(r'"<(\w+):raw>"', r"%(\1)s", text)
    return re.sub(r"<(\w+)>", r"%(\1)s", text)


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.generate", description=__doc__)
    parser.add_argument("output", type=Path, help="the backup; the schema goes beside it")
    parser.add_argument("--size", type=float, default=64, help="megabytes (default: 64)")
    parser.add_argument("--layout", choices=LAYOUTS, default="compact")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    arguments = _arguments(argv)
    generate(arguments.output, arguments.size, arguments.layout, arguments.seed)


if __name__ == "__main__":
    main()
