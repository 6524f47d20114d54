"""`ijson`: one record at a time, so the file is parsed twice. Memory is the keys.

`ijson` writes no JSON; Python's `json` does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import ijson

from benchmarks.rivals import files
from benchmarks.rivals.rewrite import Record, Rewriter

BUFFER = 1 << 20
encode = json.JSONEncoder(ensure_ascii=False).encode


def records(stream: BinaryIO, as_array: bool) -> Iterator[Record]:
    options: dict[str, Any] = {"buf_size": BUFFER, "use_float": True}
    if as_array:
        return iter(ijson.items(stream, "item", **options))
    return iter(ijson.items(stream, "", multiple_values=True, **options))


def convert(backup: Path, output: Path, schema: Path) -> None:
    rewriter = Rewriter(json.loads(schema.read_bytes()))
    as_array = files.is_array(backup)
    with backup.open("rb") as stream:
        for record in records(stream, as_array):
            rewriter.index(record)
    rewriter.resolve()
    head, between, tail = ("[", ", ", "]") if as_array else ("", "\n", "\n")
    with backup.open("rb") as stream, output.open("w", buffering=BUFFER, encoding="utf-8") as out:
        separator = head
        for record in records(stream, as_array):
            rewriter.rewrite(record)
            out.write(separator)
            out.write(encode(record))
            separator = between
        out.write(tail)


if __name__ == "__main__":
    files.main(convert)
