"""Decides which row of the database each record is, or that it is a new one.

A natural key decides; then a unique column; then a pk that the application gives. Where there is
only a pk that the database made, the content does. Most records are decided at once. Those whose
key, pk or content holds pks of other rows wait until those are decided.
"""

from __future__ import annotations

import itertools
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from typing import Any

from fastnk.django.restore import findings as codes
from fastnk.django.restore.backup import Backup, Record
from fastnk.django.restore.batches import only_row
from fastnk.django.restore.directory import DanglingError, Directory
from fastnk.django.restore.findings import Findings
from fastnk.django.restore.lookalikes import LookAlikes
from fastnk.django.restore.natural_keys import Key, KeyPart, KeyShapeError
from fastnk.django.restore.plan import PkKind
from fastnk.django.restore.record_keys import Hop, RecordKeys
from fastnk.django.restore.rows import Fate, InBackup, Missing
from fastnk.django.restore.survey import Lean
from fastnk.django.restore.translation import PENDING, PkOf, Translator, settled
from fastnk.django.restore.uniques import unique_values
from fastnk.django.restore.values import REFUSALS, comparable, digest, in_column
from fastnk.django.restore.waiting import (
    ByCompositePk,
    ByContent,
    ByForeignPk,
    ByRelation,
    ByUniqueColumns,
    Shape,
    Waiting,
    settle_in_order,
)


class Claims(dict[str, dict[Any, int]]):
    """By label and comparable pk: the record that has the row. Made of what is decided when it is
    first asked for, because lean rows can mostly do without."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory

    def __missing__(self, label: str) -> dict[Any, int]:
        pks = enumerate(self._directory.backup(self._directory.plans[label]).pks)
        claims = {comparable(pk): number for number, pk in pks if not isinstance(pk, Missing)}
        self[label] = claims
        return claims


class Matcher:
    """Fills in `pks` and `fates` of all rows that the backup holds."""

    def __init__(
        self,
        backup: Backup,
        keys: RecordKeys,
        directory: Directory,
        findings: Findings,
        connection: Any,
        *,
        duplicate_keys: bool = False,
    ) -> None:
        """With `duplicate_keys` natural keys of which the database has one twice tell nothing."""
        self._duplicate_keys = duplicate_keys
        self._backup = backup
        self._keys = keys
        self._directory = directory
        self._findings = findings
        self._translator = Translator(directory, findings, connection)
        # What is wrong with fields is for the check of all records to say, once pks are known.
        quiet = Findings(None, on_dangling=findings.on_dangling)
        self._quiet_translator = Translator(directory, quiet, connection)
        self._claims = Claims(directory)
        self._look_alikes = LookAlikes(directory, [])
        self._continuations: dict[InBackup, list[ByContent | None]] = defaultdict(list)
        """By the row of a record: those that go on under its pk in tables of their own, and that
        have nothing else to tell which rows they are; `None` for one that must be new."""
        self._like_continuations = self._look_alikes
        self._with_columns: dict[str, Mapping[Any, Any]] = {}
        self._users: dict[InBackup, list[tuple[ByContent, int]]] = defaultdict(list)
        """By the row of a record that says nothing at all: what refers to it in columns that are
        unique together, and where among its soft columns."""
        self.shared_pks: dict[InBackup, InBackup] = {}
        """New rows whose pk will be that of another new row."""

    def match(self) -> None:
        """Decide for every record; what cannot be decided is noted as a finding."""
        for rows in self._directory.in_backup:
            if not rows.is_lean:
                existing = self._directory.existing(rows.plan)
                existing.expect(rows.old_pks, rows.keys, rows.uniques)
            # Lean rows are decided by now but for the few whose keys had to wait.
            for number in rows.late_keys if rows.is_lean else range(len(rows)):
                self._match_at_once(InBackup(rows, number))
        self._match_by_heirs()
        if any(rows.pks.count(Missing.MATCH) for rows in self._directory.in_backup):
            waiting = list(self._all_waiting())
            contents = [entry for entry in waiting if isinstance(entry, ByContent)]
            self._look_alikes = LookAlikes(self._directory, contents)
            self._note_users(contents)
            self._with_columns = self._existing_with_columns(waiting)
            behind = filter(None, itertools.chain.from_iterable(self._continuations.values()))
            self._like_continuations = LookAlikes(self._directory, behind)
            settle_in_order(waiting, self)
            while circles := _circles(waiting := _undecided(waiting)):
                self._settle_circles(circles)
                settle_in_order(_undecided(waiting), self)
            self._refuse_circles(waiting)

    def match_lean(self, lean: Lean) -> None:
        """Decide for lean rows as far as each of them tells by itself."""
        rows = lean.rows
        if rows.are_first and self._are_all_new(lean):
            return
        if lean.pks:
            rows.keep_old_pks(lean.first, lean.pks)
        self._directory.existing(rows.plan).expect(lean.pks, lean.keys, lean.uniques)
        for at, key in enumerate(lean.keys):
            row = InBackup(rows, lean.first + at)
            if key is not None:
                self.match_by_key(row, key)
            elif lean.uniques and lean.uniques[at] is not Missing.VALUE:
                self.match_by_unique(row, lean.uniques[at])
            else:
                self._match_by_pk_alone(row)

    def _are_all_new(self, lean: Lean) -> bool:
        """Decide for lean rows of an empty table together, if nothing is special about any."""
        rows, plan = lean.rows, lean.rows.plan
        is_auto = plan.pk_kind is PkKind.AUTO
        if is_auto and plan.own_pk_part is None and None not in lean.keys:
            rows.create(lean.first, Missing.PK)
            return True
        if plan.key is not None or lean.shape is None:
            return False
        told = [record.pk for record in lean.records]
        if set(map(type, told)) != {int} if is_auto else None in [*told, *lean.pks]:
            return False
        rows.create(lean.first, Missing.OWN)
        if is_auto:
            rows.highest_own = max(rows.highest_own, *told)
        return True

    # What a record is matched by

    def match_by_key(self, row: InBackup, key: Key) -> None:
        """Match by the natural key as the target spells it."""
        plan = row.rows.plan
        pk = None if Missing.PK in key else self._directory.existing(plan).by_key.get(key)
        if pk is Missing.UNIQUE:
            what = "more than one row of the database has this natural key"
            self._refuse(row, codes.AMBIGUOUS_KEY, what, plan.key.spell(key) if plan.key else key)
            if self._duplicate_keys:
                number = row.rows.record_numbers[row.number]
                why = f"more than one row of the database has that of record {number}"
                self._keys.weak.setdefault(plan.label, why)
        elif pk is not None and row.rows.is_lean and plan.label not in self._claims:
            # No other key leads to the row, and of lean records with one key the survey tells.
            _take(row, pk)
        elif pk is not None:
            self._claim(row, pk)
        elif plan.pk_kind is PkKind.OWN:
            self._create_with_own_pk(row)
        elif plan.pk_kind is PkKind.AUTO and plan.own_pk_part is not None:
            self._keep_free_pk(row)
        elif plan.pk_kind is PkKind.AUTO:
            row.rows.pks[row.number] = Missing.PK

    def match_by_unique(self, row: InBackup, value: Any) -> None:
        """Match by the comparable value of the column that identifies rows."""
        self._match_by_unique(row, self._directory.existing(row.rows.plan).by_unique.get(value))

    def match_by_columns(self, row: InBackup, values: tuple[Any, ...]) -> None:
        """Match by the comparable values of the columns that together identify rows."""
        self._match_by_unique(row, self._with_columns[row.rows.plan.label].get(values))

    def _match_by_unique(self, row: InBackup, pk: Any) -> None:
        """Match by the pk of the one row that has the same in what must be unique; `None` where
        there is none."""
        if pk is not None:
            self._claim(row, pk)
            return
        self._keep_free_pk(row)
        if row.pk is Missing.MATCH:
            self.renumber(row)

    def match_by_pk(self, row: InBackup, pk: Any) -> None:
        """Match by a comparable pk that identifies its row."""
        existing = self._directory.existing(row.rows.plan).pks
        if pk in existing:
            self._claim(row, existing[pk])
        else:
            self.create_with_pk(row, pk)

    def match_by_content(self, entry: ByContent) -> None:
        """Match by content: best the row with the same pk, else one that nobody else claims."""
        row, content = entry.row, entry.content()
        own = row.rows.old_pk_of(row.number)
        claims = self._claims[entry.shape.label]
        alike = itertools.chain(
            [own] if own not in claims and self._look_alikes.is_like(own, content) else [],
            (
                pk
                for pk in self._look_alikes.of(content, claims)
                if not self._look_alikes.is_for_another(row, pk, content)
            ),
        )
        pk = next((pk for pk in alike if self._goes_on_alike(row, pk)), None)
        if pk is not None:
            self._claim(row, pk)
        elif not self._claims_own(entry):
            self.renumber(row)

    def _claims_own(self, entry: ByContent) -> bool:
        """Whether the row with a record's pk is its own, having the same in unique columns."""
        own = entry.row.rows.old_pk_of(entry.row.number)
        is_own = self._look_alikes.is_own(entry) or self._goes_on_as_own(entry.row)
        if is_own and own not in self._claims[entry.shape.label]:
            self._claim(entry.row, own)
            return True
        return False

    def _goes_on_as_own(self, row: InBackup) -> bool:
        """Whether unique columns of another table, in which the record goes on, tell its row."""
        return any(
            entry is not None
            and (self._like_continuations.is_own(entry) or self._goes_on_as_own(entry.row))
            for entry in self._continuations.get(row, ())
        )

    def _goes_on_alike(self, row: InBackup, pk: Any) -> bool:
        """Whether the existing row with `pk` goes on in other tables as the record does in others,
        as far as that is known: a record that says next to nothing is like anybody's row."""
        return all(
            entry is not None
            and pk in self._like_continuations.of_part(entry)
            and self._goes_on_alike(entry.row, pk)
            for entry in self._continuations.get(row, ())
        ) and all(
            any(alike.soft[place] == pk for alike in self._look_alikes.of_part(user).values())
            for user, place in self._users.get(row, ())
        )

    def _existing_with_columns(self, waiting: list[Waiting]) -> dict[str, Mapping[Any, Any]]:
        """By label and the values of the columns that together identify rows: the pks of existing
        rows, those alone that records may be."""
        wanted: dict[str, set[tuple[Any, ...]]] = defaultdict(set)
        for entry in waiting:
            if isinstance(entry, ByUniqueColumns):
                wanted[entry.row.rows.plan.label].add(entry.values)
        found: dict[str, Mapping[Any, Any]] = {}
        for label, values in wanted.items():
            plan = self._directory.plans[label]
            columns = [plan.columns[name].field.attname for name in plan.together]
            are_known = Missing.MATCH not in itertools.chain.from_iterable(values)
            existing = self._directory.existing(plan)
            found[label] = existing.with_values(columns, values if are_known else None)
        return found

    def _note_users(self, contents: list[ByContent]) -> None:
        """Note what tells records that say nothing, as those do whose texts are all in a table of
        translations: what refers to them in columns that are unique together."""
        silent = {entry.row for entry in contents if not any(entry.shape[1:])}
        for entry in contents if silent else ():
            plan = entry.row.rows.plan
            names = set(itertools.chain.from_iterable(plan.sets)) - plan.special
            for place, (name, part) in enumerate(zip(entry.shape.soft, entry.soft, strict=True)):
                for row in silent.intersection(part.awaited if name in names else ()):
                    self._users[row].append((entry, place))

    # What becomes of a record that is a new row

    def create_with_pk(self, row: InBackup, pk: Any) -> None:
        """Create a row with a comparable pk that identifies it."""
        if pk in self._directory.existing(row.rows.plan).pks:
            what = "a row with another natural key has the pk of this one"
            self._refuse(row, codes.NO_PK, what, pk)
        elif not self._is_claimed(row, pk):
            row.rows.pks[row.number] = pk

    def create_under_new_pk(self, row: InBackup) -> None:
        """Create a row whose pk will be known once others have theirs."""
        row.rows.pks[row.number] = Missing.PK

    def share_pk(self, row: InBackup, other: InBackup) -> None:
        """Create a row with the pk that another new row will get."""
        self.create_under_new_pk(row)
        self.shared_pks[row] = other

    def renumber(self, row: InBackup) -> None:
        """Create a row under a new pk, its own being taken."""
        rows, number = row
        rows.pks[number] = Missing.PK
        if rows.old_pk_of(number) is not None:
            rows.fates[number] = Fate.RENUMBERED

    def _create_with_own_pk(self, row: InBackup) -> None:
        rows, number = row
        pk = rows.old_pk_of(number)
        if pk is None and rows.plan.pk.has_default():
            pk = rows.plan.pk.get_default()
        if pk is None:
            what = f"the record does not say its {rows.plan.pk.name}, and the database makes none"
            self._refuse(row, codes.NO_PK, what)
        else:
            self.create_with_pk(row, pk)

    def _keep_free_pk(self, row: InBackup) -> None:
        """Give a new row its old pk unless that is taken: then something else must tell."""
        rows, number = row
        pk = rows.old_pk_of(number)
        existing = self._directory.existing(rows.plan)
        if pk is not None and (existing.is_empty or pk not in existing.pks):
            rows.pks[number] = pk

    def _claim(self, row: InBackup, pk: Any) -> None:
        if not self._is_claimed(row, pk):
            _take(row, pk)

    def _is_claimed(self, row: InBackup, pk: Any) -> bool:
        """Whether another record has the row already, which is then noted; else this one has."""
        rows, number = row
        first = self._claims[rows.plan.label].setdefault(comparable(pk), number)
        if first == number:
            return False
        what = f"record {rows.record_numbers[first]} is the same row of the database"
        self._refuse(row, codes.SAME_ROW, what)
        return True

    def _refuse(self, row: InBackup, code: str, what: str, value: Any = ...) -> None:
        rows, number = row
        rows.pks[number] = Missing.PK
        self._findings.add(
            code,
            what,
            record=rows.record_numbers[number],
            model=rows.plan.label,
            pk=rows.old_pk_of(number),
            value=value,
        )

    # Records at once, and those that wait

    def _match_at_once(self, row: InBackup) -> None:
        rows, number = row
        if _has_foreign_pk(row) or row.pk is not Missing.MATCH:
            return
        key = rows.key_of(number)
        if key is not None:
            self.match_by_key(row, key)
        elif rows.unique_of(number) is not Missing.VALUE:
            self.match_by_unique(row, rows.unique_of(number))
        elif not rows.plan.together and not rows.is_lean:
            self._match_by_pk_alone(row)

    def _match_by_heirs(self) -> None:
        """Match rows that only their pks would tell by those that exist and have the same pks, such
        as children in multi-table inheritance with natural keys of their own."""
        for rows in self._directory.in_backup:
            if rows.plan.pk_kind is PkKind.RELATION:
                for number in range(len(rows)):
                    self._match_by_heir(InBackup(rows, number))

    def _match_by_heir(self, heir: InBackup) -> None:
        row = self._directory.pk_relation(heir) if _exists(heir) else None
        if isinstance(row, InBackup) and not _exists(row) and _has_only_a_pk(row):
            self._claim(row, heir.pk)
            if row.rows.plan.pk_kind is PkKind.RELATION:
                self._match_by_heir(row)

    def _match_by_pk_alone(self, row: InBackup) -> None:
        if row.rows.plan.pk_kind is PkKind.AUTO:
            self._keep_free_pk(row)
        elif row.rows.plan.pk_kind is PkKind.OWN:
            self._match_by_own_pk(row)

    def _all_waiting(self) -> Iterator[Waiting]:
        """What must be known of each record that is not decided yet."""
        for run in self._backup.runs("match", lambda rows: b""):
            for number, record in enumerate(run.records, start=run.first):
                if run.rows.pks[number] is Missing.MATCH:
                    whole = self._backup.record(run.rows, number, record, run.shape)
                    if (waiting := self._waiting(whole)) is not None:
                        yield waiting

    def _match_by_own_pk(self, row: InBackup) -> None:
        pk = row.rows.old_pk_of(row.number)
        if pk is None:
            self._create_with_own_pk(row)
        else:
            self.match_by_pk(row, pk)

    def _waiting(self, record: Record) -> Waiting | None:
        """What must be known of a record before it can be decided; `None` when it is now."""
        row, plan = record.row, record.plan
        if row.pk is not Missing.MATCH:
            return None
        if plan.pk_kind is PkKind.RELATION:
            return self._by_relation(record)
        if plan.pk_kind is PkKind.COMPOSITE:
            return self._by_composite_pk(record)
        if _has_foreign_pk(row):
            parts = self._foreign_key_parts(record)
            if parts is not None:
                return ByForeignPk(row, parts)
            if plan.pk_kind is PkKind.OWN:
                self._match_by_own_pk(row)
                return None
        if plan.together:
            columns = self._quiet_translator.columns(record)
            told = [columns.get(name) for name in plan.together]
            if all(value is not None for value in told):
                return ByUniqueColumns(row, list(map(_part, told)))
            self._keep_free_pk(row)
        return self._by_content(record) if row.pk is Missing.MATCH else None

    def _by_relation(self, record: Record) -> Waiting | None:
        target = self._translator.pk_relation(record)
        if target is None:
            self.create_under_new_pk(record.row)
            return None
        if _is_awaited(target) and record.row.rows.key_of(record.row.number) is None:
            self._continuations[target.row].append(self._content_of(record))
        return ByRelation(record.row, _part(target))

    def _by_composite_pk(self, record: Record) -> Waiting | None:
        columns = self._quiet_translator.columns(record)
        names = [field.name for field in record.plan.pk_fields]
        for name in names:
            if name not in record.fields:
                record.note(
                    self._findings, codes.NO_PK, f"the record does not say its {name}", field=name
                )
        if any(columns.get(name) is None for name in names):
            self.create_under_new_pk(record.row)
            return None
        key = self._foreign_key_parts(record) if _has_foreign_pk(record.row) else None
        return ByCompositePk(record.row, [_part(columns[name]) for name in names], key)

    def _foreign_key_parts(self, record: Record) -> list[Any] | None:
        """The parts of a key that holds pks of other rows; `None` where it cannot be made."""
        key_parts = record.plan.key.parts if record.plan.key else []
        try:
            return [self._key_part(record, *part) for part in enumerate(key_parts)]
        except (DanglingError, KeyShapeError, *REFUSALS):
            return None

    def _key_part(self, record: Record, position: int, part: KeyPart) -> Any:
        """A part of the key as the target spells it: comparable, or the pk it will be."""
        key = record.row.rows.keys[record.row.number]
        if key is not None and not part.is_foreign_pk:
            return key[position]
        if len(part.path) == 1 and part.path[0] in record.plan.columns:
            return _part(self._quiet_translator.columns(record).get(part.path[0]))
        value = record.raw(part.path[0])
        if value is None:
            return None
        reference = record.plan.told(part.path[0]).reference
        made = self._keys.value_of(record, part)
        if reference is None or not (part.is_foreign_pk or isinstance(made, Hop)):
            return made
        end = self._directory.follow(self._directory.find(reference, value), part.path[1:])
        return PkOf(end, part.field) if isinstance(end, InBackup) else end

    def _by_content(self, record: Record) -> Waiting | None:
        entry = self._content_of(record)
        if entry is None:
            self.renumber(record.row)
        return entry

    def _content_of(self, record: Record) -> ByContent | None:
        """What a record's row must be like; `None` where it refers to a row that is new, to which
        no existing one can refer."""
        plan = record.plan
        columns = self._quiet_translator.columns(record)
        columns.pop(plan.pk.name, None)
        soft = {name: value for name, value in columns.items() if _is_awaited(value)}
        firm = {name: settled(value) for name, value in columns.items() if name not in soft}
        many = self._quiet_translator.many(record)
        # By identity: objects that only their field knows may not let themselves be compared.
        if any(value is Missing.PK for value in firm.values()):
            return None
        held = {name: in_column(plan.columns[name].field, firm[name]) for name in firm}
        return ByContent(
            record.row,
            Shape(plan.label, tuple(firm), tuple(soft), tuple(many)),
            digest(tuple(held.values())),
            list(soft.values()),
            list(many.values()),
            unique_values(only_row(record.row, columns), {**held, **soft}),
        )

    def _settle_circles(self, circle: list[ByContent]) -> None:
        """Settle records that need each other, or what does: those at first that few rows are
        like. What unique columns tell, or may tell once others are settled, is no guess."""
        if sum(map(self._claims_own, circle)):
            return
        told_later = {entry.row for entry in circle if self._look_alikes.may_be_own(entry)}
        circle = _independent(circle, told_later) or circle
        users: dict[InBackup, list[ByContent]] = defaultdict(list)
        for entry in circle:
            for row in entry.needs:
                users[row].append(entry)
        for entry in sorted(circle, key=lambda entry: len(self._look_alikes.of_part(entry))):
            if entry.row.pk is not Missing.MATCH:
                continue
            found = self._look_alikes.circle(entry, self._claims)
            if found is None or not all(itertools.starmap(self._goes_on_alike, found.items())):
                self._renumber_with_users(entry, users)
            else:
                for row, pk in found.items():
                    self._claim(row, pk)

    def _renumber_with_users(
        self, entry: ByContent, users: dict[InBackup, list[ByContent]]
    ) -> None:
        """Renumber a record and, since nothing existing refers to it, those that need it."""
        new = deque([entry])
        while new:
            entry = new.popleft()
            if entry.row.pk is Missing.MATCH and not self._claims_own(entry):
                self.renumber(entry.row)
                new.extend(users[entry.row])

    def _refuse_circles(self, waiting: list[Waiting]) -> None:
        for entry in waiting:
            if entry.row.pk is Missing.MATCH:
                self._refuse(entry.row, codes.NO_KEY, "which row this is depends on itself")


def _take(row: InBackup, pk: Any) -> None:
    """Let a record's row be the existing one with this pk."""
    row.rows.pks[row.number] = pk
    row.rows.fates[row.number] = Fate.MATCHED


def _exists(row: InBackup) -> bool:
    return row.rows.exists(row.number)


def _has_only_a_pk(row: InBackup) -> bool:
    """Whether nothing tells which row it is but a pk that says nothing of it."""
    rows, number = row
    return (
        rows.plan.pk_kind in (PkKind.AUTO, PkKind.RELATION)
        and not rows.plan.together
        and rows.key_of(number) is None
        and rows.unique_of(number) is Missing.VALUE
    )


def _undecided(waiting: list[Waiting]) -> list[Waiting]:
    return [entry for entry in waiting if entry.row.pk is Missing.MATCH]


def _circles(left: list[Waiting]) -> list[ByContent]:
    """The records without keys that need each other; if they can be told, those alone that need
    nothing else that is not decided."""
    contents = [entry for entry in left if isinstance(entry, ByContent)]
    others = {entry.row for entry in left if not isinstance(entry, ByContent)}
    return _independent(contents, others) or contents


def _independent(entries: list[ByContent], rows: set[InBackup]) -> list[ByContent]:
    """The entries that are none of the rows and need none of them, nor what does."""
    users: dict[InBackup, list[InBackup]] = defaultdict(list)
    for entry in entries:
        for row in entry.needs:
            users[row].append(entry.row)
    blocked = set(rows)
    open_rows = deque(rows)
    while open_rows:
        new = set(users[open_rows.popleft()]) - blocked
        blocked |= new
        open_rows.extend(new)
    return [entry for entry in entries if entry.row not in blocked]


def _part(value: Any) -> Any:
    """A part of a key or pk as `Waiting` takes it."""
    return value if isinstance(value, PENDING) else comparable(value)


def _is_awaited(value: Any) -> bool:
    return isinstance(value, PENDING) and bool(value.awaited)


def _has_foreign_pk(row: InBackup) -> bool:
    key = row.rows.plan.key
    return key is not None and key.has_foreign_pk
