"""A backup whose records all look alike, with schemas that declare more and more relations.

The file is the same whatever the schema says, so that only the number of relations differs.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

COUNTS = (0, 1, 2, 4, 8, 16)
"""How many fields of a record are declared to be relations."""

TARGETS = 10_000
TEXT = "Every deviation is entered and signed on the same day. " * 8


def generate(output: Path, megabytes: float, seed: int) -> None:
    """Write a backup of `megabytes` (of a million bytes) and a schema for each of `COUNTS`."""
    with output.open("w") as stream:
        left = megabytes * 1e6 - stream.write("[")
        for number, record in enumerate(_records(megabytes, seed)):
            left -= stream.write((", " if number else "") + json.dumps(record))
            if left <= 0:
                break
        stream.write("]")
    for count in COUNTS:
        schema_path(output, count).write_text(json.dumps(_schema(count), indent=2) + "\n")


def _records(megabytes: float, seed: int) -> Iterator[dict[str, Any]]:
    targets = round(min(TARGETS, megabytes * 1000))  # not all of a small backup
    for pk in range(1, targets + 1):
        yield {"model": "fields.target", "pk": pk, "fields": {"code": f"T-{pk:07}"}}
    bits = Random(f"fields/{seed}").getrandbits
    for pk in itertools.count(1):
        ids = {f"f{n:02}": bits(24) % targets + 1 for n in range(COUNTS[-1])}
        yield {"model": "fields.record", "pk": pk, "fields": {**ids, "text": TEXT}}


def schema_path(backup: Path, relations: int) -> Path:
    """Where the schema stands that declares so many relations."""
    return backup.with_name(f"{backup.name}.{relations}-relations")


def _schema(relations: int) -> dict[str, Any]:
    declared = {f"f{n:02}": {"to": "fields.target"} for n in range(relations)}
    models = {
        "fields.target": {"natural_key": ["code"]},
        "fields.record": {"relations": declared},
    }
    return {"version": 1, "models": models}
