"""A survey that two processes share: the other one looks at every second chunk.

Of records of new rows that are plainly right the survey needs little, which the other process
tells. Everything else is looked at in this one, as is every chunk that holds anything else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from mmap import mmap
from typing import Any

from fastnk.django.restore import checks
from fastnk.django.restore.accounting import is_about_rights
from fastnk.django.restore.backup import Backup, PlainRun, Share
from fastnk.django.restore.directory import Directory
from fastnk.django.restore.early import EarlyCheck
from fastnk.django.restore.engines.base import Engine
from fastnk.django.restore.findings import Findings
from fastnk.django.restore.matching import pks_if_new
from fastnk.django.restore.natural_keys import CalledKey
from fastnk.django.restore.plan import Plan, UnknownModelError
from fastnk.django.restore.processes import is_made_by_django, other_process
from fastnk.django.restore.reading import Decode, Runs
from fastnk.django.restore.repeats import hashes_of
from fastnk.django.restore.survey import (
    Lean,
    is_in_fastnk_style,
    kinds_in,
    lean_keys,
    lean_pks,
    says_pk,
)
from fastnk.django.restore.uniques import UniqueColumns, needed
from fastnk.django.restore.values import TEXTS
from fastnk.processes import Ends

ROOM = 4 << 20
"""Bytes of memory that both see, for a chunk; through a pipe it would take longer. Larger ones, in
which a record is that large, are not shared."""

FEWEST_RECORDS = 20_000
"""Fewer are looked at in less time than another process saves."""


class PlainLook:
    """Looks at records without changing what is known of their rows."""

    def __init__(
        self,
        backup: Backup,
        directory: Directory,
        findings: Findings,
        early: EarlyCheck,
        uniques: UniqueColumns,
        engine: Engine,
    ) -> None:
        self._backup = backup
        self._decode = backup.decoder()
        self._directory = directory
        self._findings = findings
        self._early = early
        self._uniques = uniques
        self._engine = engine
        self._labels: set[str] = set()
        """Those of the models whose records may be plain."""

    def expect(self, records: Mapping[str, int]) -> int:
        """Find out, of how many records of each label, how many may be plain."""
        count = 0
        for label, some in records.items():
            try:
                plan = self._directory.plans.of_records(label)
            except UnknownModelError:
                continue
            if self._may_be_plain(plan):
                self._labels.add(plan.label)
                count += some
        return count

    def _may_be_plain(self, plan: Plan) -> bool:
        """Whether records become new rows to which nothing refers, and whether Django and what is
        known by now are all that it takes to look at them."""
        fields = [column.field for column in plan.columns.values()]
        texts = [field for field in fields if field.get_internal_type() in TEXTS]
        uniques = self._uniques.of(plan)
        return (
            self._directory.rows_of(plan).are_first
            and not isinstance(plan.key, CalledKey)
            and is_made_by_django(plan)
            and not is_about_rights(plan)
            and not any(plan.pk.name in needed(unique) for unique in uniques)
            and not any(self._engine.merges(text) or self._engine.loses(text) for text in texts)
        )

    def told(self, chunk: bytes) -> list[PlainRun] | None:
        """What the records of a chunk tell; `None` where any of them is not plain."""
        told = []
        for run in self._decode(chunk):
            one = self._told(run)
            if one is None:
                return None
            told.append(one)
        return told

    def _told(self, run: list[Any]) -> PlainRun | None:
        lean = self._lean(run)
        new_pks = lean and pks_if_new(lean)
        looked = lean and self._early.look(lean)
        if lean is None or new_pks is None or looked is None:
            return None
        checks.look(looked.table, self._findings, self._engine)
        if self._findings or looked.table.unsaid:
            return None
        references = looked.references
        return PlainRun(
            lean.rows.plan.label,
            len(run),
            any(map(is_in_fastnk_style, run)),
            any(map(says_pk, run)),
            {name: kinds_in(pairs) for name, pairs in references.generic.items()},
            hashes_of(lean.keys),
            hashes_of(lean.pks),
            new_pks,
            references,
            self._uniques.hashes(looked.table),
        )

    def _lean(self, run: list[Any]) -> Lean | None:
        shape = self._backup.shape_of(run[0])
        if shape is None or shape.plan.label not in self._labels:
            return None
        plan, rows = shape.plan, self._directory.rows_of(shape.plan)
        keys = lean_keys(plan, run)
        if keys is None or not plan.generics.keys() <= shape.generics:
            return None
        pks = lean_pks(run, shape, keys) if rows.keeps_pks else ()
        return None if pks is None else Lean(rows, len(rows), keys, (), pks, run, shape)


@contextmanager
def shared(look: PlainLook) -> Iterator[Share]:
    """Another process that looks at every second chunk, until the end of the `with` statement."""
    with mmap(-1, ROOM) as room, other_process(partial(_answer, look, room)) as other:
        yield partial(_by_turns, other, room)


def alone(chunks: Iterator[bytes], decode: Decode) -> Iterator[list[PlainRun] | Runs]:
    """A `Share` of everything."""
    return map(decode, chunks)


def _answer(look: PlainLook, room: mmap, there: Ends) -> None:
    while True:
        length = there.receiver.recv()
        there.sender.send(look.told(room[:length]))


def _by_turns(
    other: Ends, room: mmap, chunks: Iterator[bytes], decode: Decode
) -> Iterator[list[PlainRun] | Runs]:
    """One chunk after the other, at the second of which the other process looks while the caller
    is at the first."""
    for chunk in chunks:
        second = next(chunks, None)
        is_asked = second is not None and _ask(other, room, second)
        yield decode(chunk)
        if second is not None:
            yield (is_asked and _answer_of(other)) or decode(second)


def _ask(other: Ends, room: mmap, chunk: bytes) -> bool:
    """Whether the other process is still there to look at a chunk."""
    if len(chunk) > len(room):
        return False
    room[: len(chunk)] = chunk
    try:
        other.sender.send(len(chunk))
    except OSError:
        return False
    return True


def _answer_of(other: Ends) -> list[PlainRun] | None:
    try:
        told: list[PlainRun] | None = other.receiver.recv()
    except (EOFError, OSError):
        return None
    return told
