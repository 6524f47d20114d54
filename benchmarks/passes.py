"""The two passes of a conversion by themselves, on a backup in memory.

`python -m benchmarks.passes PASS BACKUP SCHEMA ROUNDS` makes one of them again and again.
"""

from __future__ import annotations

import sys
from pathlib import Path

from fastnk._core import Indexer, Plan, Splicer, Walker
from fastnk.planning import Plans
from fastnk.schema import Schema
from fastnk.source import BLOCK_SIZE

PASSES = ("index", "splice")


def plan_of(schema: Schema) -> Plan:
    return Plans(schema).lean.plan


def feed(walker: Walker, data: bytes) -> None:
    """All of a backup, in blocks as a conversion reads them."""
    whole = memoryview(data)
    for start in range(0, len(data), BLOCK_SIZE):
        walker.feed(whole[start : start + BLOCK_SIZE])
    walker.finish()


def index(plan: Plan, data: bytes) -> Indexer:
    """The first pass."""
    indexer = Indexer(plan)
    feed(indexer, data)
    return indexer


class Splice:
    """The second pass, as often as it is called."""

    def __init__(self, plan: Plan, data: bytes) -> None:
        self._data = data
        self._indexer = index(plan, data)
        self._log = self._indexer.take_log()
        self._splicer = Splicer(self._indexer)

    def __call__(self) -> memoryview:
        """The output; valid until the next call."""
        self._splicer.take_prints()  # which would pile up from call to call
        return self._splicer.splice(self._data, 0, self._log, 0, 0)


def main() -> None:
    name, backup, schema, rounds = sys.argv[1:]
    plan, data = plan_of(Schema.load(schema)), Path(backup).read_bytes()
    splice = Splice(plan, data)
    for _ in range(int(rounds)):
        if name == "index":
            index(plan, data)
        else:
            splice()


if __name__ == "__main__":
    main()
