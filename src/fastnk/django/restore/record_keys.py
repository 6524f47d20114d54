"""The natural keys of records: what they say, what their fields make, what methods make of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from fastnk.django.refusals import refusal
from fastnk.django.restore import findings as codes
from fastnk.django.restore.backup import Record
from fastnk.django.restore.directory import DanglingError, Directory
from fastnk.django.restore.findings import Findings
from fastnk.django.restore.natural_keys import CalledKey, Key, KeyForm, KeyPart, KeyShapeError, Path
from fastnk.django.restore.plan import Reference
from fastnk.django.restore.repeats import Repeats, hashes_of
from fastnk.django.restore.rows import InBackup
from fastnk.django.restore.unsaid import KeyMaker
from fastnk.django.restore.values import REFUSALS, comparable, digest
from fastnk.django.unmade import RefusalError

SAME_PK = "another record has the same pk"
SAME_KEY = "another record has the same natural key (--on-duplicate-pk drop: the last one counts)"


class Hop(NamedTuple):
    """A key part that can only be told once all records are known."""

    reference: Reference
    value: Any
    path: Path


class RecordKeys:
    """Makes keys, enters them in the directory, and notes those that several records have."""

    def __init__(
        self, directory: Directory, findings: Findings, repeats: Repeats, *, null_keys: bool
    ) -> None:
        """With `null_keys` a natural key with a null in it is one all the same. `repeats` takes
        those of lean rows, by label and `True`."""
        self._directory = directory
        self._findings = findings
        self._repeats = repeats
        self._null_keys = null_keys
        self.weak: dict[str, str] = {}
        """Of models whose natural keys turned out not to tell their records apart: why."""
        self._deferred: list[tuple[InBackup, list[Any]]] = []
        self._unsaid: dict[CalledKey, list[InBackup]] = {}
        """Rows whose keys methods make and records do not say."""
        self._spelled: dict[tuple[str, bytes], int] = {}
        """By label and digest: the first record of keys that only the target will tell."""
        self._hold_ids: dict[str, bool] = {}
        """Of models whose keys methods make: whether each holds the id of a generic reference."""

    def enter(self, record: Record) -> None:
        """Enter the key of a record, unless it has to wait."""
        key = self._name(record) if record.plan.weak else self.key(record)
        if key is not None:
            self._set_key(record.row, key)

    def key(self, record: Record) -> Key | None:
        """The record's natural key; `None` where it has none, or where it has to wait."""
        form = record.plan.key
        spelled = record.data.get("natural_key")
        if form is None:
            if spelled is not None and not record.plan.weak:
                what = "a natural key, and the schema has none for this model"
                self._findings.wants_schema = True
                record.note(self._findings, codes.NO_KEY, what, value=spelled)
            return None
        if record.plan.key_lacks_model:
            self.weak[record.plan.label] = "it holds an id, and not of which model"
            return None
        if spelled is None:
            return self._key_of_fields(record, form)
        if isinstance(form, CalledKey):
            self._note_ids(record, spelled)
        try:
            return self._without_null(record, form.read(spelled))
        except (*REFUSALS, KeyShapeError) as error:
            what = f"not a natural key of this model: {refusal(error)}"
            record.note(self._findings, codes.NO_KEY, what, value=spelled)
            return None

    def value_of(self, record: Record, part: KeyPart) -> Any:
        """A part of the record's key from its fields: comparable, or a `Hop`.

        Raises a refusal, `KeyShapeError` or `DanglingError`.
        """
        name, rest = part.path[0], part.path[1:]
        value = record.raw(name)
        if value is None:
            if name == record.plan.pk.name:
                raise DanglingError("the key holds the pk, which the record has not")
            return None
        if not rest:
            return part.comparable(value)
        reference = record.plan.columns[name].reference
        if reference is None:
            raise DanglingError(f"{name} is not a relation")
        target = self._directory.plans[reference.target]
        if isinstance(value, list) and not reference.proxy_key:
            position = target.key.positions.get(rest) if target.key else None
            if target.key and position is not None and not part.is_foreign_pk:
                return target.key.read(value)[position]
        elif rest == (target.pk.name,) and reference.to_field is None:
            return target.pk_value(value)
        return Hop(reference, value, rest)

    def note_same(self, row: InBackup, first: int, key: Key | None) -> None:
        """Note that a record has the same key, or for `None` the same pk, as the first one."""
        rows, number = row
        form = rows.plan.key
        if key is not None and not rows.plan.key_is_enforced:
            pair = map(self._findings.number_in_backup, (first, rows.record_numbers[number]))
            self.weak.setdefault(rows.plan.label, "records {} and {} have the same".format(*pair))
            return
        if key is not None and self._findings.lets_supersede(first, rows.plan.label):
            return
        self._findings.add(
            codes.SAME_ROW,
            SAME_PK if key is None else SAME_KEY,
            record=rows.record_numbers[number],
            other_record=first,
            model=rows.plan.label,
            value=... if key is None or form is None else form.spell(key),
        )

    def settle(self, bodies: Callable[[], Iterator[bytes]]) -> None:
        """Make the keys that had to wait until all records were met; `bodies` gives them all."""
        self._call_unsaid(bodies)
        self._compose_deferred()
        for label, hold_ids in self._hold_ids.items():
            if hold_ids:
                self.weak.setdefault(label, "it holds ids of generic relations, which may change")

    def _name(self, record: Record) -> Key | None:
        """The natural key by which others may refer to a record though it counts as none; `None`
        where they have its pk, or where it has to wait."""
        form, spelled = record.plan.spelled_key, record.data.get("natural_key")
        if form is None or (spelled is None and record.data.get("pk") is not None):
            return None
        if spelled is None:
            return self._key_of_fields(record, form)
        try:
            return form.read(spelled)
        except (*REFUSALS, KeyShapeError):
            return None  # nothing can refer to it by that

    def _note_ids(self, record: Record, key: Any) -> None:
        """Note whether a key that a method made holds the id of a generic reference. One that does
        by accident stands among others that do not."""
        label, plan = record.plan.label, record.plan
        ids = record.data["ids"] if record.data.get("references") else {}
        held = {str(ids[name]) for name in plan.generics if ids.get(name) is not None}
        if held and self._hold_ids.get(label, True):
            self._hold_ids[label] = not held.isdisjoint(map(str, _ends_of(key)))

    def _key_of_fields(self, record: Record, form: KeyForm) -> Key | None:
        if isinstance(form, CalledKey):
            self._unsaid.setdefault(form, []).append(record.row)
            return None
        try:
            parts = [self.value_of(record, part) for part in form.parts]
        except (*REFUSALS, KeyShapeError, DanglingError):
            if form.has_foreign_pk and not record.plan.weak:
                self._note_same_words(record, form)
            return None  # the check of the fields reports it
        if any(isinstance(part, Hop) for part in parts):
            self._deferred.append((record.row, parts))
            return None
        return self._without_null(record, tuple(parts))

    def _call_unsaid(self, bodies: Callable[[], Iterator[bytes]]) -> None:
        """Have the methods make the keys that records do not say. If one cannot be made, the
        natural keys of that model tell nothing."""
        if not self._unsaid:
            return
        renamed = self._directory.plans.naming.changed
        with KeyMaker(self._unsaid, bodies, renamed) as maker:
            for row, form in ((row, form) for form, rows in self._unsaid.items() for row in rows):
                label = row.rows.plan.label
                if label not in self.weak:
                    try:
                        self._set_key(row, maker.key(form, row))
                    except RefusalError as refused:
                        if row.rows.plan.weak:
                            row.rows.has_unnamed = True
                            continue  # nothing can refer to it by its key
                        number = row.rows.record_numbers[row.number]
                        number = self._findings.number_in_backup(number)
                        why = f"record {number} does not say it, and {form.method} {refused}"
                        self.weak[label] = why

    def _without_null(self, record: Record, key: Key) -> Key | None:
        """The key, unless it has a null part that nobody said is one: then there is a finding."""
        if None not in key or self._null_keys or record.plan.weak:
            return key
        what = (
            "the natural key has a null part, so it identifies no row (--on-null-key null: it does)"
        )
        record.note(self._findings, codes.NO_KEY, what, value=record.data.get("natural_key", ...))
        return None

    def _set_key(self, row: InBackup, key: Key) -> None:
        rows, number = row
        if rows.is_lean:
            rows.late_keys[number] = key
            self._repeats.add((rows.plan.label, True), hashes_of([key]))
            return
        if rows.plan.weak:
            rows.names[key] = None if key in rows.names else number
            return
        rows.keys[number] = key
        first = rows.by_key.setdefault(key, number)
        if first != number:
            self.note_same(row, rows.record_numbers[first], key)

    def _note_same_words(self, record: Record, form: KeyForm) -> None:
        """Note a record that says its key, with a row in it whose pk is not known yet, as another
        one does."""
        rows, number = record.row
        words = digest(tuple(comparable(record.raw(part.path[0])) for part in form.parts))
        first = self._spelled.setdefault((rows.plan.label, words), number)
        if first != number and not rows.plan.key_is_enforced:
            self.note_same(record.row, rows.record_numbers[first], ())

    def _compose_deferred(self) -> None:
        """Make the keys that pass through other records; those may wait for theirs in turn."""
        waiting = self._deferred
        while waiting:
            still = [(row, parts) for row, parts in waiting if not self._compose(row, parts)]
            if len(still) == len(waiting):
                break
            waiting = still
        self._deferred = []

    def _compose(self, row: InBackup, parts: list[Any]) -> bool:
        try:
            self._set_key(row, tuple(map(self._resolved, parts)))
        except (DanglingError, *REFUSALS):
            return False
        return True

    def _resolved(self, part: Any) -> Any:
        if not isinstance(part, Hop):
            return part
        end = self._directory.follow(self._directory.find(part.reference, part.value), part.path)
        if isinstance(end, InBackup):
            end = end.rows.old_pks[end.number]
            if end is None:
                raise DanglingError("the backup does not say which pk the row had")
        return end


def _ends_of(key: Any) -> Iterator[Any]:
    """What stands in the lists of a key, however deep."""
    if isinstance(key, list):
        for inner in key:
            yield from _ends_of(inner)
    else:
        yield key
