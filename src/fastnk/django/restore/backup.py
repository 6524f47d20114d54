"""Reads the records of a backup, as often as the loader must."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple

import msgspec

from fastnk.django.restore.directory import Directory
from fastnk.django.restore.distinct import Unique
from fastnk.django.restore.findings import Findings
from fastnk.django.restore.plan import Plan, Reference, UnknownModelError
from fastnk.django.restore.reading import Chunks, Decode, Reader, Runs, Shape, label_of
from fastnk.django.restore.renaming import Data
from fastnk.django.restore.repeats import Hashes
from fastnk.django.restore.rows import BackupRows, InBackup, NewPks
from fastnk.errors import SourceError


class Record(NamedTuple):
    """One record of a model that the target has."""

    row: InBackup
    data: dict[str, Any]

    @property
    def plan(self) -> Plan:
        return self.row.rows.plan

    @property
    def fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = self.data["fields"]
        return fields

    @property
    def pk(self) -> Any:
        """The pk as the backup has it, wherever that is; for a relation perhaps a key."""
        among_fields = self.fields.get(self.plan.pk.name)
        return self.data.get("pk") if among_fields is None else among_fields

    def raw(self, name: str) -> Any:
        """The value of a field as it stands in the backup; `None` where there is none."""
        return self.pk if name == self.plan.pk.name else self.fields.get(name)

    @property
    def number(self) -> int:
        """Its place in the backup, from 1."""
        return self.row.rows.record_numbers[self.row.number]

    def note(self, findings: Findings, code: str, what: str, **rest: Any) -> None:
        """Add a finding about this record."""
        findings.add(
            code,
            what,
            record=self.number,
            model=self.plan.label,
            pk=self.data.get("pk"),
            pk_name=self.plan.pk.name,
            **rest,
        )


Done = Callable[[BackupRows], bytes]
"""The fates of rows that a pass has nothing to do with, of each model."""


class Part(NamedTuple):
    """Rows that follow each other, of records that do."""

    rows: BackupRows
    first: int
    length: int


Enter = Callable[[list[Any], int], list[Part]]
"""Is given structs of one label that follow each other, or one record; and the number of the first.
Gives their rows, which are none if the target does not know the model."""


GenericReference = tuple[Any, Any]
"""What names the model, and the key or id."""


class References(NamedTuple):
    """What records refer to."""

    plain: dict[Reference, set[Any]]
    generic: dict[str, Counter[GenericReference]]
    """By field, and how often each occurs."""


class PlainRun(NamedTuple):
    """Records that follow each other, of new rows in which all is plainly right: what the survey
    needs of them."""

    label: str
    length: int
    is_in_fastnk_style: bool
    says_pks: bool
    kinds: dict[str, set[tuple[Any, bool]]]
    """By field: what names the models that generic relations lead to, and whether by a key."""
    keys: Hashes
    pks: Hashes
    new_pks: NewPks
    references: References
    uniques: dict[Unique, Hashes]


EnterPlain = Callable[[PlainRun, int], Part]
"""Is given records that were looked at before, and the number of the first. Gives their rows."""

Share = Callable[[Iterator[bytes], Decode], Iterator[list[PlainRun] | Runs]]
"""Gives what is known of chunk after chunk: what somebody else has told, or the records."""


class Met(NamedTuple):
    """What the survey met in a chunk."""

    records: int
    parts: list[Part]
    """Without the records of unknown models."""

    def are(self, done: Done) -> bool:
        """Whether all rows are done with."""
        return all(
            part.rows.all_are(part.first, part.length, done(part.rows)) for part in self.parts
        )


class Run(NamedTuple):
    """Records that follow each other and have the same shape, or none."""

    rows: BackupRows
    first: int
    """The number of the first one's row; the others follow."""
    records: list[Any]
    """Structs of the shape; without one, dictionaries."""
    shape: Shape | None


class Backup:
    """The records of a backup."""

    def __init__(
        self,
        chunks: Chunks,
        directory: Directory,
        connection: Any,
        *,
        left_out: Collection[int] = (),
        count_rows: Callable[[int], None] = lambda count: None,
    ) -> None:
        """`left_out` are the numbers of records that count as not there. `count_rows` is told how
        many records are done with, chunk by chunk."""
        self._count_rows = count_rows
        self._left_out = left_out
        self._reader = Reader(chunks, directory.plans, connection)
        self._directory = directory
        self._met: list[Met] = []
        """Chunk by chunk."""

    def survey(self, enter: Enter, enter_plain: EnterPlain, share: Share) -> None:
        """Read all records for the first time."""
        number = 1
        for runs in share(self._reader.chunks(), self.decoder()):
            first, parts = number, []
            for run in runs:
                if isinstance(run, PlainRun):
                    parts.append(enter_plain(run, number))
                    number += run.length
                    continue
                together = isinstance(run[0], msgspec.Struct)
                for one, some in self._stretches(run, number, together=together):
                    parts += enter(some, one)
                number += len(run)
            self._met.append(Met(number - first, parts))
            self._count_rows(number - first)

    def decoder(self) -> Decode:
        """What makes of a chunk the records as the survey takes them."""
        return self._reader.heads(self._directory.needed)

    def singly(self) -> Iterator[tuple[int, Any]]:
        """Every record as in the survey, with its number."""
        runs = itertools.chain.from_iterable(map(self.decoder(), self._reader.chunks()))
        records = itertools.chain.from_iterable(runs)
        return (
            (number, record)
            for number, record in enumerate(records, start=1)
            if number not in self._left_out
        )

    def runs(self, phase: str, done: Done) -> Iterator[Run]:
        """The records as they come, with their rows; without the chunks all of whose rows are
        `done`, and only as far as there are others. Raises `SourceError` if the records changed."""
        wanted = [not met.are(done) for met in self._met]
        while wanted and not wanted[-1]:
            wanted.pop()
        chunks = self._reader.records(phase, wanted)
        seen: Counter[str] = Counter()
        number = 1
        for is_wanted, met in zip(wanted, self._met, strict=False):
            runs = next(chunks, None)
            if runs is None or (is_wanted and sum(map(len, runs)) != met.records):
                raise _changed()
            yield from self._with_rows(runs, number, seen)
            if not is_wanted:
                for part in met.parts:
                    seen[part.rows.plan.label] += part.length
            number += met.records
            self._count_rows(met.records)
        if len(wanted) == len(self._met) and next(chunks, None) is not None:
            raise _changed()

    def record(self, rows: BackupRows, number: int, record: Any) -> Record:
        """One record of a run to look into."""
        return Record(InBackup(rows, number), self.data(record))

    def data(self, record: Any) -> Data:
        """A struct or dictionary as a dictionary."""
        return self._reader.data(record)

    def shape_of(self, record: Any) -> Shape | None:
        """The shape of a struct; `None` for a dictionary."""
        return self._reader.shape_of(record)

    def known_plan(self, label: str) -> Plan | None:
        """What is known of the model; `None` where the target does not know it."""
        try:
            return self._directory.plans.of_records(label)
        except UnknownModelError:
            return None

    def bodies(self) -> Iterator[bytes]:
        """Every record that is not left out, as it stands in the backup."""
        bodies = enumerate(self._reader.bodies(), start=1)
        return (body for number, body in bodies if number not in self._left_out)

    def _with_rows(self, runs: Runs, number: int, seen: Counter[str]) -> Iterator[Run]:
        """The records of a chunk, of which `number` is the first, behind those that were seen."""
        for records in runs:
            shape = self._reader.shape_of(records[0])
            stretches = self._stretches(records, number, together=shape is not None)
            number += len(records)
            for one, some in stretches:
                plan = shape.plan if shape else self.known_plan(label_of(one, some[0]))
                if plan is None:
                    continue
                rows, first = self._directory.rows_of(plan), seen[plan.label]
                seen[plan.label] += len(some)
                if seen[plan.label] > len(rows):
                    raise _changed()
                yield Run(rows, first, some, shape)

    def _stretches(
        self, run: list[Any], number: int, *, together: bool
    ) -> Iterator[tuple[int, list[Any]]]:
        """The records of a run that are not left out, those that follow each other together if they
        may be; with the number of the first, which is `number` for the run's."""
        if together and not self._left_out:
            yield number, run
            return
        start = 0
        for end in range(len(run) + 1):
            is_out = end == len(run) or number + end in self._left_out
            if start < end and (is_out or not together):
                yield number + start, run[start:end]
                start = end
            if is_out:
                start = end + 1


def _changed() -> SourceError:
    return SourceError("the backup changed while it was read")
