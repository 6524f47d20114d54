"""Who is meant: finds the row that a value in a backup refers to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from functools import partial
from typing import Any

from django.db import connections

from fastnk.django.refusals import refusal
from fastnk.django.restore.engines import engine_of
from fastnk.django.restore.engines.base import Engine
from fastnk.django.restore.existing import ExistingRows
from fastnk.django.restore.natural_keys import Key, KeyShapeError, Path
from fastnk.django.restore.plan import (
    Column,
    ManyColumn,
    PkKind,
    Plan,
    Reference,
    UnknownModelError,
    looked_through,
    referred_to,
)
from fastnk.django.restore.plans import Plans
from fastnk.django.restore.rows import BackupRows, InBackup, InDatabase, Missing
from fastnk.django.restore.sought import Sought
from fastnk.django.restore.values import REFUSALS, comparable, converted, pk_range
from fastnk.schema import GenericRelation, plain_label

Row = InBackup | InDatabase

CONTENT_TYPE = "contenttypes.contenttype"


_OF_A_PROXY = (
    "perhaps the natural key of a proxy, which is another one than that of its model; convert the"
    " backup with ids in the style fastnk"
)


class DanglingError(Exception):
    """A value that refers to nothing, or to more than one row; the text says why."""

    def __init__(self, why: str, *, ambiguous: bool = False) -> None:
        self.ambiguous = ambiguous
        super().__init__(why)


class UnmadeKeyError(DanglingError):
    """A natural key of a model of whose records not all say theirs, and no method can make them, or
    one without parts."""


class NoKeyError(DanglingError):
    """A natural key of a model that has none in the schema."""


UNSOLVED = (*REFUSALS, DanglingError, UnknownModelError)
"""What is raised for a reference that leads nowhere."""


def _hides_unless_all(model: Any) -> bool:
    """Whether dumpdata leaves out rows of a model that it writes with `--all`."""
    default, base = model._default_manager.all(), model._base_manager.all()
    return bool(default.query.where) and not base.query.where


class Directory:
    """The rows of all models, in the backup and in the database."""

    def __init__(
        self,
        plans: Plans,
        engine: Engine,
        labels: Collection[str] | None = None,
        *,
        named: Collection[str] = (),
        keeps_names: bool = False,
        keeps_ids: bool = False,
    ) -> None:
        """`labels` are those of the backup's records, where they are known, and `named` those that
        generic relations lead to. With `keeps_names` the rows that nothing refers to can be called
        by their keys, too, which takes memory; with `keeps_ids` an id that no record has means the
        row of the database that has it."""
        self._keeps_names = keeps_names
        self._keeps_ids = keeps_ids
        self._labels = labels
        self.plans = plans
        self._engine = engine
        self._rows: dict[str, BackupRows] = {}
        self._existing: dict[str, ExistingRows] = {}
        self._kept: dict[str, set[str]] = {}
        self._links: dict[str, set[tuple[Any, ...]]] = {}
        self.loose_ids: dict[str, set[Any]] = defaultdict(set)
        """By model: pks in references to rows that are gone; no new row may get them."""
        self.is_in_fastnk_style = False
        """Whether the backup shows that every key in it is that of the row's own model."""
        plans_of_all = list(plans.all(labels))
        for label, name in looked_through(plans_of_all):
            self._kept.setdefault(label, set()).add(name)
        self._kept.setdefault(CONTENT_TYPE, set()).update(("app_label", "model"))
        self._referred = referred_to(plans_of_all).union(named)

    def rows_of(self, plan: Plan) -> BackupRows:
        """The rows of a model that the backup holds, by now."""
        rows = self._rows.get(plan.label)
        if rows is None:
            kept = sorted(self._kept_of(plan))
            is_referred = plan.label in self._referred
            # A model of which there are no records may have no table either.
            has_records = self._labels is None or plan.label in self._labels
            is_asked_for = kept or is_referred or self._keeps_names
            is_lean = bool(has_records and plan.can_be_lean and not is_asked_for)
            if plan.together:  # which others that wait may hold, unless there are no rows yet
                is_lean = is_lean and self.existing(plan).is_empty
            rows = self._rows[plan.label] = BackupRows(
                plan,
                kept,
                is_lean=is_lean,
                are_first=is_lean and self.existing(plan).is_empty,
                pk_range=pk_range(plan.pk, self._engine.connection),
            )
        return rows

    def needed(self, plan: Plan) -> list[str] | None:
        """The fields that the survey looks at; `None` where that is all of them."""
        if self.rows_of(plan).is_lean:
            return None
        names = {plan.pk.name, *self._kept_of(plan)}
        for name, generic in plan.generics.items():
            names.update((name, generic.kind))
        form = plan.spelled_key
        names.update(part.path[0] for part in (form.parts if form else ()))
        names.update(filter(None, [plan.unique]))
        return sorted(names)

    def _kept_of(self, plan: Plan) -> set[str]:
        """The fields of a model that must be known when other records are read, or all are."""
        kept = self._kept.get(plan.label, set())
        return kept | {plan.pk.name} if plan.pk_kind is PkKind.RELATION else kept

    @property
    def in_backup(self) -> list[BackupRows]:
        """The rows of every model that the backup holds."""
        return [rows for rows in self._rows.values() if rows]

    def passes_over(self, plan: Plan, name: str) -> bool:
        """Whether a member of a record says nothing that is not said, or made, elsewhere."""
        owner = plan.many_of_others.get(name)
        if name in plan.generated or name in plan.made_of_others:
            return True
        return bool(owner and self.rows_of(self.plans[owner]))

    def existing(self, plan: Plan) -> ExistingRows:
        existing = self._existing.get(plan.label)
        if existing is None:
            engine = engine_of(connections[plan.database]) if plan.database else self._engine
            existing = self._existing[plan.label] = ExistingRows(
                plan, engine, partial(self._in_another_database, plan)
            )
        return existing

    def _in_another_database(self, plan: Plan, model: Any) -> ExistingRows | None:
        """The rows of `model`, to which those of `plan` refer, unless both are in one database."""
        if self.plans.elsewhere(model) == plan.database:
            return None
        return self.existing(self.plans[model._meta.label_lower])

    def find(self, reference: Reference, value: Any) -> Row:
        """The row that `value`, not null, refers to. Raises `DanglingError`."""
        plan = self.plans[reference.target]
        try:
            if isinstance(value, list):
                if reference.proxy_key and not self.is_in_fastnk_style:
                    raise DanglingError(_OF_A_PROXY)
                return self._find_by_key(plan, value)
            if reference.former and not self._keeps_ids:
                own = f"by the schema an id of {reference.former}"
                raise DanglingError(f"{own}, and today the field leads to {plan.label}")
            if reference.to_field:
                return self._find_by_field(plan, reference.to_field, value)
            return self._find_by_pk(plan, value)
        except (*REFUSALS, KeyShapeError) as error:
            what = f"no key of {plan.label}: {refusal(error)}"
            if not isinstance(value, list):  # but perhaps of a field that had this name before
                what += " (--rename: what the field is called today; or --exclude it)"
            raise DanglingError(what) from None

    def generic_target(self, plan: Plan, generic: GenericRelation, kind: Any) -> Plan:
        """The plan of the model that `kind` names, which is not null. Raises one of `UNSOLVED`."""
        if generic.content_type is None:
            return self.plans[generic.labels.get(str(kind)) or plain_label(str(kind))]
        reference = plan.columns[generic.content_type].reference
        if reference is None:
            raise DanglingError(f"{generic.content_type} is not a relation")
        row = self.find(reference, kind)
        return self.plans[".".join(self.follow(row, (part,)) for part in ("app_label", "model"))]

    def in_backup_by_id(self, reference: Reference, value: Any) -> InBackup | None:
        """The row of the record that has an id, if there is one.

        Raises a refusal, or `UnknownModelError`.
        """
        plan = self.plans[reference.target]
        rows = self.rows_of(plan)
        if reference.to_field is None:
            number = _number_of_pk(rows, value)
        else:
            wanted = self._comparable(plan, reference.to_field, value)
            number = rows.by_value(reference.to_field).get(wanted)
        return None if number is None else InBackup(rows, number)

    def loose(self, reference: Reference, value: Any) -> Any:
        """What a column holds that goes on referring to nothing by an id, which no new row gets."""
        plan = self.plans[reference.target]
        if reference.to_field is not None:
            return converted(plan.told(reference.to_field).field, value)
        self.loose_ids[plan.label].add(plan.pk_value(value))
        return converted(plan.pk, value)

    def held(self, row: Row, reference: Reference) -> Any:
        """What a column holds that refers to `row`: a value, or the row whose pk it is.

        Raises `DanglingError` or a refusal.
        """
        if reference.to_field is None:
            return row
        plan = self.plans[reference.target]
        column = plan.told(reference.to_field)
        if isinstance(row, InBackup):
            value = row.rows.values[reference.to_field][row.number]
            if value is not Missing.VALUE:
                if column.reference is None or value is None:
                    return converted(column.field, value)
                return self.held(self.find(column.reference, value), column.reference)
            if not row.rows.exists(row.number):
                raise DanglingError(f"the record has no {reference.to_field}")
        return self.existing(plan).value(row.pk, column.field.attname)

    def pk_relation(self, row: InBackup) -> Any:
        """What the pk of a row that exists leads to, as its record says: another row, or a value;
        `None` where it says nothing, or what leads nowhere."""
        name = row.rows.plan.pk.name
        value, reference = row.rows.values[name][row.number], row.rows.plan.columns[name].reference
        if value is None or value is Missing.VALUE or reference is None:
            return None
        try:
            return self.held(self.find(reference, value), reference)
        except UNSOLVED:
            return None

    def links(self, column: ManyColumn) -> set[tuple[Any, ...]]:
        """The links of a many-to-many field that are records themselves, by comparable pks.

        To be asked once all pks are known.
        """
        plan = self.plans[column.through._meta.label_lower]
        if plan.label not in self._links:
            rows = self.rows_of(plan)
            ends = [self._pks_at(rows, plan.columns[name]) for name in column.ends]
            self._links[plan.label] = set(zip(*ends, strict=True))
        return self._links[plan.label]

    def _pks_at(self, rows: BackupRows, column: Column) -> Iterator[Any]:
        """The comparable pks of what a relation refers to, record by record."""
        for value in rows.values[column.field.name]:
            if column.reference is not None:
                yield comparable(self.find(column.reference, value).pk)

    def follow(self, row: Row, path: Path) -> Any:
        """The comparable value at the end of `path` from `row`, or the row whose pk it is.

        Raises `DanglingError`.
        """
        if isinstance(row, InDatabase):
            return comparable(self.existing(row.plan).value(row.pk, "__".join(path)))
        plan = row.rows.plan
        if path[0] == plan.pk.name and len(path) == 1:
            return row
        key = row.rows.keys[row.number]
        position = plan.key.positions.get(path) if plan.key else None
        if key is not None and position is not None and not _is_foreign_pk(plan, position):
            return key[position]
        return self._follow_record(row, path)

    def _follow_record(self, row: InBackup, path: Path) -> Any:
        plan = row.rows.plan
        name, rest = path[0], path[1:]
        value = row.rows.values[name][row.number]
        if value is Missing.VALUE and name == plan.pk.name:
            value = row.rows.old_pks[row.number]
        if value is None or value is Missing.VALUE:
            return None
        column = plan.told(name)
        if column.reference is None:
            return self._comparable(plan, name, value)
        return self.follow(self.find(column.reference, value), rest)

    def _find_by_key(self, plan: Plan, value: list[Any]) -> Row:
        if plan.spelled_key is None:
            why = f"{plan.label} has no natural key in the schema"
            # One without parts says nothing, whatever the schema.
            raise NoKeyError(why) if value else UnmadeKeyError(why)
        key = plan.spelled_key.read(value)
        rows = self.rows_of(plan)
        if plan.weak:
            return _named(rows, key)
        number = rows.by_key.get(key)
        if number is not None:
            return InBackup(rows, number)
        return self._in_database(plan, self.existing(plan).by_key, key)

    def _find_by_field(self, plan: Plan, name: str, value: Any) -> Row:
        wanted = self._comparable(plan, name, value)
        rows = self.rows_of(plan)
        number = rows.by_value(name).get(wanted)
        if number is not None:
            return InBackup(rows, number)
        if rows.holds_keys(name):
            raise DanglingError(f"an id, but the backup has keys as {name} of {plan.label}")
        lookup = plan.told(name).field.attname
        return self._in_database(plan, self.existing(plan).by_value(lookup), wanted)

    def _find_by_pk(self, plan: Plan, value: Any) -> Row:
        rows = self.rows_of(plan)
        number = _number_of_pk(rows, value)
        if number is not None:
            return InBackup(rows, number)
        wanted = plan.pk_value(value)
        if rows.lost_pks:
            raise DanglingError(
                f"no record of the backup has this id; it names rows of {plan.label} without ids"
            )
        existing = self.existing(plan).pks
        tells = self._keeps_ids or plan.pk_kind is PkKind.OWN or not self.has_records(plan)
        if wanted in existing and not tells:
            raise DanglingError(self.stranger(plan, "--on-unresolved keep"))
        return self._in_database(plan, existing, wanted)

    def has_records(self, plan: Plan) -> bool:
        """Whether the backup has records of a model, be they left out."""
        return bool(self.rows_of(plan) if self._labels is None else plan.label in self._labels)

    def stranger(self, plan: Plan, option: str) -> str:
        """Why an id that no record has does not mean the row of the database that has it."""
        if self._leaves_out(plan):
            who = f"the backup's records of {plan.label} are excluded"
        elif self.rows_of(plan).lost_pks:
            who = "the backup names rows without ids"
        else:
            who = "the backup has no record with this id"
        return f"{who}, and in the database this id is some {plan.label} ({option}: it may be)"

    def _leaves_out(self, plan: Plan) -> bool:
        """Whether the backup has records of a model that are excluded."""
        return self.plans.excludes(plan.label) and self.has_records(plan)

    def _in_database(self, plan: Plan, index: Sought, wanted: Any) -> InDatabase:
        pk = index.get(wanted)
        if pk is None:
            what = f"no such row of {plan.label} in the backup or the database"
            if self._leaves_out(plan):
                what = f"no such row of {plan.label} in the database, and its records are excluded"
            elif plan.model._meta.auto_created:
                what += "; dumpdata leaves this table out unless it is named"
            elif _hides_unless_all(plan.model):
                what += "; dumpdata leaves out what the model's manager hides, but with --all"
            raise DanglingError(what)
        if pk is Missing.UNIQUE:
            raise DanglingError(f"more than one row of {plan.label} has this key", ambiguous=True)
        return InDatabase(plan, pk)

    def _comparable(self, plan: Plan, name: str, value: Any) -> Any:
        return comparable(converted(plan.told(name).field, value))


def _number_of_pk(rows: BackupRows, value: Any) -> int | None:
    """Which row had a pk in the backup. Raises a refusal."""
    may_be_odd = rows.by_odd_pk and isinstance(value, str | int)
    number = rows.by_odd_pk.get(str(value)) if may_be_odd else None
    return rows.by_old_pk.get(rows.plan.pk_value(value)) if number is None else number


def _named(rows: BackupRows, key: Key) -> InBackup:
    """The row that the backup names by a key that counts as none in the target."""
    number = rows.names.get(key)
    if number is None:
        why = f"{rows.plan.label} has no natural key: {rows.plan.weak}"
        raise UnmadeKeyError(why) if rows.has_unnamed else DanglingError(why)
    return InBackup(rows, number)


def _is_foreign_pk(plan: Plan, position: int) -> bool:
    return bool(plan.key and plan.key.parts[position].is_foreign_pk)
