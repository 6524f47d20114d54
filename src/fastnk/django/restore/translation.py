"""From the fields of a record to the values of a row: types, references, generic references."""

from __future__ import annotations

from typing import Any

from django.db.models import IntegerField, UUIDField
from msgspec import UNSET

from fastnk.django.refusals import refusal
from fastnk.django.restore import findings as codes
from fastnk.django.restore.backup import Record
from fastnk.django.restore.columns import takes_null
from fastnk.django.restore.directory import (
    UNSOLVED,
    DanglingError,
    Directory,
    NoKeyError,
    Row,
    UnmadeKeyError,
)
from fastnk.django.restore.findings import Findings
from fastnk.django.restore.pending import IdInside, PkOf, WithIds, as_far_as_known
from fastnk.django.restore.plan import Column, PkKind, Plan, Reference, UnknownModelError
from fastnk.django.restore.rows import InBackup, InDatabase, Missing
from fastnk.django.restore.values import REFUSALS, Inside, converted, end_of, refuse_unfit
from fastnk.schema import GenericRelation


class StrangerError(DanglingError):
    """An id that no record of the backup has, and a row that the backup does not know."""


class Translator:
    """Translates records and notes what cannot be."""

    def __init__(self, directory: Directory, findings: Findings, connection: Any) -> None:
        self._directory = directory
        self._findings = findings
        self._connection = connection
        self.generic_kept = 0
        """Generic references so far to rows that the backup does not hold."""

    def columns(self, record: Record) -> dict[str, Any]:
        """Column name to value or `Pending`; columns that cannot be translated are left out."""
        values: dict[str, Any] = {}
        for generic in record.plan.generics.values():
            self._put_generic(values, record, generic)
        for name in record.fields:
            if name not in values:
                self._put_field(values, record, name)
        return values

    def column(self, record: Record, name: str) -> Any:
        """One of `columns`, or `Missing.VALUE` where it cannot be translated."""
        values: dict[str, Any] = {}
        if name in record.plan.generics:
            self._put_generic(values, record, record.plan.generics[name])
        if name not in values:
            self._put_field(values, record, name)
        return values.get(name, Missing.VALUE)

    def _put_field(self, values: dict[str, Any], record: Record, name: str) -> None:
        plan, raw = record.plan, record.fields[name]
        column = plan.columns.get(name)
        if column is not None and name in plan.inside:
            self._put_with_ids(values, record, name, column, raw)
        elif column is not None:
            self._put(values, record, name, column, raw)
        elif name in plan.many or self._directory.passes_over(plan, name):
            return
        elif not self._findings.leaves_out(f"{plan.label}.{name}"):
            what = f"{plan.label} has no such field to restore into{_told_of_column(plan, name)}"
            record.note(self._findings, codes.UNKNOWN_FIELD, what, field=name)

    def many(self, record: Record) -> dict[str, list[PkOf]]:
        """Many-to-many field to the rows it holds, each once."""
        result = {}
        for name, column in record.plan.many.items():
            raw = record.fields.get(name)
            if raw is None or self._directory.passes_over(record.plan, name):
                continue
            if not isinstance(raw, list):
                record.note(
                    self._findings,
                    codes.REFUSED_VALUE,
                    "a list of keys was expected",
                    field=name,
                    value=raw,
                )
                continue
            found = (self._member(record, name, column.reference, value) for value in raw)
            result[name] = [one for one in dict.fromkeys(found) if one is not None]
        return result

    def _member(self, record: Record, name: str, reference: Reference, value: Any) -> PkOf | None:
        """The pk of the row that one of many keys or ids means; `None`, and perhaps a finding, if
        none."""
        row = self._find(record, name, reference, value, may_be_null=True)
        return None if row is None else PkOf(row, self._directory.plans[reference.target].pk)

    def pk_relation(self, record: Record) -> Any:
        """The pk of a record whose pk is a relation: a value or `PkOf`; `None` if it is unknown."""
        name = record.plan.pk.name
        column = record.plan.columns[name]
        value = record.pk
        if value is None and column.reference is not None:
            value = self._key_of_pk_relation(record, column.reference)
        values: dict[str, Any] = {}
        if value is None:
            record.note(self._findings, codes.NO_PK, f"the record does not say its {name}")
        else:
            self._put(values, record, name, column, value)
        return values.get(name)

    def _put(
        self, values: dict[str, Any], record: Record, name: str, column: Column, raw: Any
    ) -> None:
        is_declared = raw is None and column.default is not UNSET
        if is_declared and not takes_null(column.field, self._connection):
            raw = column.default
            self._findings.replace_null(f"{record.plan.label}.{name}")
        try:
            if raw is None or column.reference is None:
                if name in (record.data.get("references") or ()):
                    raise ValueError("a natural key, and in the schema this is no relation")
                value = converted(column.field, raw)
                refuse_unfit(column.field, value, self._connection)
                values[name] = value
                self._refuse_null(record, name, column, values[name])
                return
            may_be_null = column.field.null
            # Where the database does not look, an id may go on referring to nothing.
            may_dangle = not (isinstance(raw, list) or column.field.db_constraint)
            row = self._find(
                record,
                name,
                column.reference,
                raw,
                may_be_null=may_be_null,
                may_dangle=may_dangle,
            )
            if row is None:
                if may_be_null and self._findings.on_dangling == "null":
                    values[name] = None
                elif may_dangle and self._findings.on_dangling == "keep":
                    values[name] = self._directory.loose(column.reference, raw)
            else:
                held = self._directory.held(row, column.reference)
                is_row = isinstance(held, InBackup | InDatabase)
                values[name] = PkOf(held, column.field) if is_row else held
        except REFUSALS as error:
            is_null = raw is None and name not in (record.data.get("references") or ())
            if is_null and not takes_null(column.field, self._connection):
                self._refuse_null(record, name, column, None)  # in words that name the way out
            else:
                self.refuse(record, name, error, raw)
        except DanglingError as error:
            record.note(self._findings, codes.DANGLING, str(error), field=name, value=raw)

    def value_of_id(self, plan: Plan, name: str, item: int) -> Any:
        """What a column holds for an id that is all its value: a value or `Pending`.

        Raises one of `UNSOLVED`.
        """
        inside = plan.inside[name]
        known = self._of_record(item, Reference(inside.to, inside.to_field))
        return as_far_as_known(WithIds(item, inside, [known], plan.columns[name].field))

    def _put_with_ids(
        self, values: dict[str, Any], record: Record, name: str, column: Column, raw: Any
    ) -> None:
        """Put a value in which keys, and ids of records that are renumbered, become new ids."""
        ids: list[IdInside | None] = []

        def gather(place: Inside, item: Any) -> Any:
            ids.append(self._id_inside(record, place, item))
            return item

        record.plan.inside[name].replaced(raw, gather)
        known = [one for one in ids if one is not None]
        if not ids:
            self._put(values, record, name, column, raw)
        elif len(known) == len(ids):
            whole = WithIds(raw, record.plan.inside[name], known, column.field)
            try:
                values[name] = as_far_as_known(whole)
            except REFUSALS as error:
                self.refuse(record, name, error, raw)

    def _id_inside(self, record: Record, place: Inside, item: Any) -> IdInside | None:
        """The new id for a key, or for the id of a record; any other id stays.

        `None`, and a finding, for a key that leads nowhere.
        """
        reference = Reference(place.to, place.to_field)
        try:
            if not isinstance(item, list):
                return self._of_record(item, reference)
            if self._directory.plans[place.to].key is None:
                return IdInside(item, item)  # no key, then: nothing has made it one
            row = self._find(record, place.path, reference, item)
            return None if row is None else self._of_row(item, row, reference)
        except DanglingError as error:
            record.note(self._findings, codes.DANGLING, str(error), field=place.path, value=item)
            return None
        except (UnknownModelError, *REFUSALS):
            return IdInside(item, item)

    def _of_record(self, item: Any, reference: Reference) -> IdInside:
        """The new id for that of a record; one that no record has stays, and no new row gets it.

        Raises one of `UNSOLVED`.
        """
        row = self._directory.in_backup_by_id(reference, item)
        if row is not None:
            return self._of_row(item, row, reference)
        self._directory.loose(reference, item)
        return IdInside(item, item)

    def _of_row(self, item: Any, row: Row, reference: Reference) -> IdInside:
        held = self._directory.held(row, reference)
        pk = self._directory.plans[reference.target].pk
        return IdInside(item, PkOf(held, pk) if isinstance(held, Row) else held)

    def refuse(self, record: Record, name: str, error: Exception, raw: Any) -> None:
        """Note that a column does not take what a record has."""
        record.note(self._findings, codes.REFUSED_VALUE, refusal(error), field=name, value=raw)

    def _refuse_null(self, record: Record, name: str, column: Column, value: Any) -> None:
        if value is None and not takes_null(column.field, self._connection):
            what = "null, which the column does not take"
            if record.raw(name) is None:  # and not a key that leads nowhere
                what += codes.DECLARABLE
            record.note(self._findings, codes.REFUSED_VALUE, what, field=name)

    def _find(
        self,
        record: Record,
        name: str,
        reference: Reference,
        value: Any,
        *,
        may_be_null: bool = False,
        may_dangle: bool = False,
    ) -> Row | None:
        """The row that is meant; `None`, and a finding, if none is, unless it may be let go."""
        try:
            if value is None:
                raise DanglingError("null among many keys")
            return self._directory.find(reference, value)
        except DanglingError as error:
            self._findings.wants_ids |= isinstance(error, UnmadeKeyError)
            self._findings.wants_schema |= isinstance(error, NoKeyError)
            code = codes.AMBIGUOUS_KEY if error.ambiguous else codes.DANGLING
            if not error.ambiguous and self._findings.lets_go(
                f"{record.plan.label}.{name}",
                record.number,
                may_be_null=may_be_null,
                may_dangle=may_dangle,
            ):
                return None
            record.note(self._findings, code, str(error), field=name, value=value)
        except UnknownModelError as error:
            record.note(self._findings, codes.DANGLING, str(error), field=name, value=value)
        return None

    def _key_of_pk_relation(self, record: Record, reference: Reference) -> Any:
        """What tells the row whose pk is the record's, out of the record's own natural key."""
        own, target = record.plan.key, self._directory.plans[reference.target]
        key = record.row.rows.keys[record.row.number]
        if own is None or key is None:
            return None
        name = record.plan.pk.name
        held = {path[1:]: key[number] for path, number in own.positions.items() if path[0] == name}
        if target.key and target.key.parts and all(part.path in held for part in target.key.parts):
            return target.key.spell(tuple(held[part.path] for part in target.key.parts))
        return held.get((reference.to_field,) if reference.to_field else target.pk_path)

    def _put_generic(
        self, values: dict[str, Any], record: Record, generic: GenericRelation
    ) -> None:
        name, kind = generic.object_id, record.fields.get(generic.kind)
        raw = record.fields.get(name)
        if raw is None or kind is None:
            return
        row = self._generic_row(record, generic, kind, raw)
        if row is not None:
            try:
                values[name] = _pk_in(record.plan.columns[name].field, row)
            except ValueError as error:
                self.refuse(record, name, error, raw)
        elif isinstance(raw, list):
            values[name] = None  # what is wrong with it has been noted, or was let go
        else:
            self.generic_kept += 1

    def _generic_row(
        self, record: Record, generic: GenericRelation, kind: Any, raw: Any
    ) -> Row | None:
        """The row meant by an object id, as far as the backup knows it."""
        name = generic.object_id
        try:
            target = self._directory.generic_target(record.plan, generic, kind)
            if isinstance(raw, list):
                return self._find(record, name, Reference(target.label, None), raw)
            return self._row_by_id(generic, target, raw)
        except StrangerError as error:
            record.note(self._findings, codes.DANGLING, str(error), field=name, value=raw)
        except UNSOLVED:
            # Of the content type itself its own column tells; without it a key leads nowhere.
            if isinstance(raw, list):
                self._refuse_null(record, name, record.plan.columns[name], None)
        return None

    def generic_value(self, plan: Plan, name: str, kind: Any, raw: Any) -> tuple[Any, bool]:
        """What a column holds for a generic reference and what names its model: a value or a
        `PkOf`; and whether it is an id that goes on referring to nothing.

        Raises one of `UNSOLVED`.
        """
        field = plan.columns[name].field
        if raw is None and not field.null:
            raise ValueError("null, which the column does not take")
        is_used = kind is not None and raw is not None
        row = self._row_meant(plan, plan.generics[name], kind, raw) if is_used else None
        if row is not None:
            return _pk_in(field, row), False
        value = converted(field, raw)
        refuse_unfit(field, value, self._connection)
        return value, is_used

    def _row_meant(self, plan: Plan, generic: GenericRelation, kind: Any, raw: Any) -> Row | None:
        """The row meant by an object id and what names its model, neither of them null; `None` for
        an id that goes on referring to nothing.

        Raises `StrangerError`, and one of `UNSOLVED` for a key that leads nowhere.
        """
        try:
            target = self._directory.generic_target(plan, generic, kind)
            if isinstance(raw, list):
                return self._directory.find(Reference(target.label, None), raw)
            return self._row_by_id(generic, target, raw)
        except StrangerError:
            raise
        except UNSOLVED:
            if isinstance(raw, list):
                raise
            return None

    def _row_by_id(self, generic: GenericRelation, target: Plan, raw: Any) -> InBackup | None:
        """The row of the record with an id. One that no record has may go on referring to nothing;
        raises `StrangerError` where it cannot."""
        row = self._directory.in_backup_by_id(Reference(target.label, None), raw)
        if row is not None:
            return row
        pk = target.pk_value(raw)
        self._directory.loose_ids[target.label].add(pk)
        tells = target.pk_kind is PkKind.OWN or not self._directory.has_records(target)
        may_be_any = generic.may_dangle or self._findings.keeps_generic
        if not (tells or may_be_any) and pk in self._directory.existing(target).pks:
            raise StrangerError(self._directory.stranger(target, "--on-generic keep"))
        return None


def _pk_in(field: Any, row: Row) -> PkOf:
    """What a column holds for the row that a generic reference means. Raises `ValueError` where it
    cannot: a number can be made of a UUID, but of no use."""
    plan = row.plan if isinstance(row, InDatabase) else row.rows.plan
    if isinstance(end_of(plan.pk), UUIDField) and isinstance(field, IntegerField):
        raise ValueError(f"the pks of {plan.label} are UUIDs, which the column does not take")
    return PkOf(row, field)


def _told_of_column(plan: Plan, name: str) -> str:
    """What is to be said of a field that the model does not have but for the name of a column, or
    whose links are rows of a model."""
    for relation, column in plan.columns.items():
        if column.field.attname == name:
            path = f"{plan.label}.{name}={plan.label}.{relation}"
            return f", but a relation whose column is called so: --rename {path}"
    for field in plan.model._meta.local_many_to_many:
        if field.name == name:
            label = field.remote_field.through._meta.label_lower
            return f", but links that are rows of {label}: --default {label}.field=VALUE"
    return ""
