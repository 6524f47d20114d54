"""Do a schema and a backup fit? Told before any work, by a conversion into nowhere."""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Iterable, Iterator
from typing import BinaryIO, Literal, cast, get_args

import msgspec

from fastnk.convert import LegacyBackupConverter
from fastnk.convert.policies import option_of
from fastnk.errors import (
    BackupSyntaxError,
    Finding,
    FindingKind,
    FindingList,
    FindingsError,
    shorten,
)
from fastnk.infer.fields import ModelSurvey, Survey, survey
from fastnk.infer.guess import guess_relations
from fastnk.infer.inheritance import guess_parents
from fastnk.infer.proposal import MINIMUM
from fastnk.policies import Policies
from fastnk.schema import Model, Schema, column_name, embedded_steps, flat_parts, parse_path
from fastnk.source import Backup, Progress, name_of, rereadable, several

Severity = Literal["misfit", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)


Kind = Literal[
    "damage",
    "unknown_model",
    "absent_model",
    "absent_relation_field",
    "absent_key_field",
    "unlisted_relation",
    "finding",
]

MOST_VALUES = 5
"""How many of the offending values a row shows."""

COLUMNS = ("severity", "code", "model", "field", "count", "what", "option")


class CheckRow(msgspec.Struct, frozen=True, kw_only=True):
    """One way in which schema and backup do or do not fit."""

    severity: Severity
    """`misfit`: a conversion refuses it, or a natural key cannot be made. `warning`: it will go
    through, but the schema may be that of another version of the system."""
    kind: Kind
    what: str
    model: str | None = None
    field: str | None = None
    count: int = 0
    """Records, or values of a relation."""
    code: str | None = None
    """Of a finding that a conversion would report."""
    option: str | None = None
    """What allows it."""
    values: list[str] = []
    """Some of the values, as they stand in the backup."""
    place: str | None = None
    """Where the first one is."""

    def cells(self) -> tuple[str, str, str, str, str, str, str]:
        """The row under each of `COLUMNS`."""
        values = f": {', '.join(self.values)}" if self.values else ""
        return (
            self.severity,
            self.code or "",
            self.model or "",
            self.field or "",
            f"{self.count:,}",
            f"{self.what}{values}",
            self.option or "",
        )


class CheckReport(msgspec.Struct, kw_only=True):
    """Whether a schema and a backup fit, and why not."""

    backup: str | None
    fits: bool
    """Whether there is no misfit: a conversion with default policies will go through."""
    records: int
    models: dict[str, int]
    """Records of each model of the backup."""
    rows: list[CheckRow]
    """Misfits first."""
    damage: list[str] = []
    """What is lost of the backup, if it is damaged."""

    @property
    def misfits(self) -> list[CheckRow]:
        return [row for row in self.rows if row.severity == "misfit"]


def check(
    schema: Schema | str | os.PathLike[str],
    backup: Backup,
    keys: Iterable[Backup] = (),
    *,
    embedded: bool = False,
    encoding: str | None = None,
    salvage: bool = False,
    progress: Progress | None = None,
) -> CheckReport:
    """Compare a schema (or the path of one) with a backup; nothing is written.

    `keys`, `embedded` and `salvage` are what a conversion would be given. Of a damaged backup the
    whole records are compared; the damage is a misfit, unless `salvage` allows it. Raises
    `SchemaError`, `SourceError`, and `BackupSyntaxError` for what is no backup.
    """
    if not isinstance(schema, Schema):
        schema = Schema.load(schema)
    with rereadable(backup) as again:
        held = _survey(again, encoding, salvage, progress)
        found = _found(schema, again, several(keys), embedded, encoding)
    rows = [
        *(_damage(what, salvage) for what in held.damage),
        *_models(schema, held),
        *_absent_fields(schema, held),
        *_finding_rows(found),
        *_unlisted_relations(schema.by_column_names(), held),
    ]
    rows.sort(key=lambda row: SEVERITIES.index(row.severity))
    return CheckReport(
        backup=name_of(backup),
        damage=held.damage,
        fits=all(row.severity != "misfit" for row in rows),
        records=held.records,
        models={label: model.records for label, model in sorted(held.models.items())},
        rows=rows,
    )


def _survey(
    backup: Backup, encoding: str | None, salvage: bool, progress: Progress | None
) -> Survey:
    """What the whole records of the backup hold. Where none is whole, and nobody asked for those
    alone, the error is that of the first fault."""
    try:
        return survey(backup, encoding=encoding, salvage=True, progress=progress)
    except BackupSyntaxError:
        if not salvage:
            survey(backup, encoding=encoding, progress=progress)
        raise


class _Nowhere(io.RawIOBase):
    """Takes the output of a conversion that nobody wants."""

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        return len(memoryview(data))  # type: ignore[arg-type]


def _found(
    schema: Schema,
    backup: Backup,
    keys: tuple[Backup, ...],
    embedded: bool,
    encoding: str | None,
) -> FindingList:
    converter = LegacyBackupConverter(
        schema,
        keys=keys,
        policies=Policies(),
        embedded=embedded,
        salvage=True,
        encoding=encoding,
    )
    try:
        report = converter.convert_to_natural_keys(backup, cast(BinaryIO, _Nowhere()))
    except FindingsError as error:
        return error.found
    found = FindingList()
    for one in report.dangling:
        found.add(Finding.from_dict(one))
    return found


# ---- rows --------------------------------------------------------------------------------------


def _damage(what: str, is_allowed: bool) -> CheckRow:
    severity: Severity = "warning" if is_allowed else "misfit"
    return CheckRow(severity=severity, kind="damage", what=what, count=1, option="--salvage")


def _models(schema: Schema, held: Survey) -> Iterator[CheckRow]:
    proxies = schema.proxies
    for label, model in sorted(held.models.items()):
        if label not in schema.models and label not in proxies:
            yield CheckRow(
                severity="misfit",
                kind="unknown_model",
                what="the schema does not know this model",
                model=label,
                count=model.records,
                code="FNK302",
                option=option_of("FNK302"),
            )
    for label in sorted(schema.models.keys() - {proxies.get(one, one) for one in held.models}):
        yield CheckRow(
            severity="note",
            kind="absent_model",
            what="the backup has no record of this model",
            model=label,
        )


def _absent_fields(schema: Schema, held: Survey) -> Iterator[CheckRow]:
    """Fields that the schema names and no record has. The pk is not among a record's fields."""
    links = _links(schema)
    for label, model in sorted(schema.models.items()):
        found = held.models.get(label)
        if found is None:
            continue
        in_keys = _fields_in_key(schema, label)
        of_generics = {
            name
            for one in model.generic_relations.values()
            for name in (one.content_type, one.label, one.object_id)
            if name is not None
        }
        embedded = {embedded_steps(path)[0] for path in model.embedded}
        elsewhere = {model.pk, "pk", *_many_of_parents(schema, label)}
        named = {*model.relations, *of_generics, *embedded, *in_keys} - elsewhere
        for field in sorted(named):
            if found.columns.keys().isdisjoint((field, column_name(field))):
                is_key = field in in_keys
                link = links.get((label, field))
                hint = "" if link is None else f"; its links may be records of {link}"
                yield CheckRow(
                    severity="misfit" if is_key else "warning" if link is None else "note",
                    kind="absent_key_field" if is_key else "absent_relation_field",
                    what=f"no record has this field, {'a key part' if is_key else 'a relation'}"
                    f" in the schema{hint}",
                    model=label,
                    field=field,
                    count=found.records,
                )


def _links(schema: Schema) -> dict[tuple[str, str], str]:
    """Many-to-many fields, each with a model that refers to both ends, and to the least beside
    them: its records may be the links (`through`), and Django then writes nothing of the field."""
    between: dict[frozenset[str], str] = {}
    ends_of = {
        label: [one.to for one in model.relations.values() if not one.many]
        for label, model in schema.models.items()
    }
    for label in sorted(ends_of, key=lambda one: len(ends_of[one]), reverse=True):
        pairs = map(frozenset, itertools.combinations(ends_of[label], 2))
        between |= dict.fromkeys(pairs, label)
    return {
        (label, field): between[pair]
        for label, model in schema.models.items()
        for field, relation in model.relations.items()
        if relation.many and (pair := frozenset((label, relation.to))) in between
    }


def _many_of_parents(schema: Schema, label: str) -> Iterator[str]:
    """The many-to-many fields that only records of parents have since Django 3.0."""
    for relation in schema.models[label].relations.values():
        parent = schema.models.get(relation.to) if relation.parent_link else None
        if parent is not None:
            yield from (name for name, one in parent.relations.items() if one.many)


def _fields_in_key(schema: Schema, label: str) -> set[str]:
    """The fields of a model itself that its natural key begins with. What lies behind them is
    looked at with the target's own records, where it has some."""
    fields = set()
    for part in flat_parts(schema.models[label].natural_key or []):
        hops, field, _ = parse_path(part)
        fields.add(hops[0] if hops else field)
    return fields


def _finding_rows(found: FindingList) -> Iterator[CheckRow]:
    """A row for each kind of finding; unknown models have rows already."""
    groups: dict[FindingKind, list[Finding]] = {}
    for one in found.kept:
        if one.code != "FNK302":
            groups.setdefault(one.kind, []).append(one)
    for kind, group in groups.items():
        values = dict.fromkeys(shorten(one.value) for one in group if one.value is not None)
        shown = list(values)[:MOST_VALUES]
        yield CheckRow(
            severity="misfit",
            kind="finding",
            what=kind.what,
            model=kind.model,
            field=kind.field,
            count=found.counts[kind],
            code=kind.code,
            option=option_of(kind.code),
            values=[*shown, "…"] if len(values) > MOST_VALUES else shown,
            place=str(group[0].place),
        )


def _unlisted_relations(schema: Schema, held: Survey) -> Iterator[CheckRow]:
    """Fields that are named after a model and hold ids of it, but are no relation to the schema."""
    for one in guess_relations(held, guess_parents(held)):
        known = schema.models.get(one.model)
        if known is None or one.field in _spoken_for(known):
            continue
        if one.named and one.values and one.confidence >= MINIMUM:
            yield CheckRow(
                severity="note",
                kind="unlisted_relation",
                what=f"looks like a relation to {one.to}, but is none in the schema"
                f" ({'; '.join(one.evidence)})",
                model=one.model,
                field=one.field,
                count=_values(held.models[one.model], one.field),
            )


def _spoken_for(model: Model) -> set[str]:
    return {*model.relations, *(one.object_id for one in model.generic_relations.values())}


def _values(model: ModelSurvey, field: str) -> int:
    column = model.columns[field]
    return column.count - column.nulls
