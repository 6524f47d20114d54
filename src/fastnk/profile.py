"""What the records of a backup show: counts per model and relation, and the format they add up to.

A `Profile` is fed one record at a time, by whatever reads records, and holds counts only.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

import msgspec

from fastnk.schema import Schema

Format = Literal["legacy_database_ids", "enhanced_natural_keys", "mixed"]


class ModelReport(msgspec.Struct):
    """What the backup holds of one model: counts."""

    records: int = 0
    with_pk: int = 0
    """Records with a pk that is not null, `natural_key` beside it or not."""
    with_natural_key: int = 0
    """Records with a member `natural_key`."""
    with_neither: int = 0
    """Records that only their fields identify, as in Django's natural dumps."""
    ids: int = 0
    """Relation values that are ids of models with a natural key: they are to be converted."""
    neutral_ids: int = 0
    """Relation values that are ids of models without a natural key: they stay."""
    keys: int = 0
    """Relation values that are natural keys."""
    nulls: int = 0
    """Relation values that are null."""
    keyed: bool | None = None
    """Whether the model has a natural key, from the schema or from what the backup shows;
    `None` when neither tells."""

    @property
    def with_pk_only(self) -> int:
        """Records that nothing but a pk identifies for certain."""
        return self.records - self.with_natural_key - self.with_neither

    def count(self, has_pk: bool, has_natural_key: bool) -> None:
        """Count one record."""
        self.records += 1
        self.with_pk += has_pk
        self.with_natural_key += has_natural_key
        self.with_neither += not (has_pk or has_natural_key)


class Verdict(NamedTuple):
    format: Format
    models: dict[str, ModelReport]
    evidence: list[str]


class Profile:
    """Counts what the records of one backup show; at the end `judge` says what that means.

    Memory grows with the number of models and fields, not with the number of records.
    """

    def __init__(self) -> None:
        self.models: dict[str, ModelReport] = {}

    def add(self, model: str, pk: Any, has_natural_key: bool, fields: Mapping[str, Any]) -> None:
        """Take in one record. A `pk` of `None` is no pk."""
        report = self.models.get(model)
        if report is None:
            report = self.models[model] = ModelReport()
        report.count(pk is not None, has_natural_key)
        self._add(model, pk, fields)

    def has_too_many(self, fields: Mapping[str, Any]) -> bool:
        """Whether the fields whose values are counted are more than any project has; to be asked
        before these are added."""
        raise NotImplementedError

    def judge(self) -> Verdict:
        """What all records so far make of the backup."""
        raise NotImplementedError

    def _reports(self) -> dict[str, ModelReport]:
        """Copies, to which `judge` adds what it finds."""
        return {label: msgspec.structs.replace(report) for label, report in self.models.items()}

    def _add(self, model: str, pk: Any, fields: Mapping[str, Any]) -> None:
        raise NotImplementedError


class Values:
    """The values of one relation field, counted."""

    __slots__ = ("ids", "keys", "nulls")

    def __init__(self, ids: int = 0, keys: int = 0, nulls: int = 0) -> None:
        self.ids = ids
        self.keys = keys
        self.nulls = nulls

    def count(self, value: Any) -> None:
        if value is None:
            self.nulls += 1
        elif isinstance(value, list):
            self.keys += 1
        elif isinstance(value, str | int) and not isinstance(value, bool):
            self.ids += 1


class Marks:
    """What speaks for either format: how often, by model label or by `app.model.field`."""

    def __init__(self) -> None:
        self.pks: Counter[str] = Counter()
        self.ids: Counter[str] = Counter()
        self.named: Counter[str] = Counter()
        self.bare: Counter[str] = Counter()
        self.keys: Counter[str] = Counter()
        self.neutral: Counter[str] = Counter()

    def add_record_counts(self, label: str, report: ModelReport, pk_is_legacy: bool) -> None:
        (self.pks if pk_is_legacy else self.neutral)[label] += report.with_pk_only
        self.named[label] += report.with_natural_key
        self.bare[label] += report.with_neither

    def add_values(
        self, report: ModelReport, name: str, values: Values, id_is_legacy: bool
    ) -> None:
        if id_is_legacy:
            report.ids += values.ids
            self.ids[name] += values.ids
        else:
            report.neutral_ids += values.ids
        report.keys += values.keys
        report.nulls += values.nulls
        self.keys[name] += values.keys

    @property
    def format(self) -> Format:
        legacy = self.pks.total() + self.ids.total()
        natural = self.named.total() + self.bare.total() + self.keys.total()
        if legacy and natural:
            return "mixed"
        return "enhanced_natural_keys" if natural else "legacy_database_ids"

    def sentences(self) -> Iterator[str]:
        yield from told(self.pks, "record", "identified by a pk alone")
        yield from told(self.ids, "relation value", "given by id")
        yield from told(self.named, "record", "identified by a natural_key")
        yield from told(self.bare, "record", "without a pk")
        yield from told(self.keys, "relation value", "given by natural key")
        if self.pks.total() and self.keys.total() and not (self.named + self.bare):
            yield (
                "every record has a pk though relations hold natural keys, as dumpdata "
                "--natural-foreign without --natural-primary writes them"
            )


class SchemaProfile(Profile):
    """Judges by a schema: which models have natural keys and which fields are relations."""

    def __init__(self, schema: Schema) -> None:
        super().__init__()
        self._schema = schema.by_column_names()
        self._proxies = schema.proxies
        self._values: dict[tuple[str, str], Values] = defaultdict(Values)

    def add(self, model: str, pk: Any, has_natural_key: bool, fields: Mapping[str, Any]) -> None:
        super().add(self._proxies.get(model, model), pk, has_natural_key, fields)

    def has_too_many(self, fields: Mapping[str, Any]) -> bool:
        return False

    def _add(self, model: str, pk: Any, fields: Mapping[str, Any]) -> None:
        known = self._schema.models.get(model)
        if known is None:
            return
        for name, relation in known.relations.items():
            if name not in fields:
                continue
            values = self._values[model, name]
            value = fields[name]
            if relation.many and isinstance(value, list):
                for element in value:
                    values.count(element)
            else:
                values.count(value)

    def judge(self) -> Verdict:
        marks = Marks()
        models = self._reports()
        for label, report in models.items():
            report.keyed = self._keyed(label)
            marks.add_record_counts(label, report, report.keyed is True)
        for (label, field), values in self._values.items():
            to = self._schema.models[label].relations[field].to
            marks.add_values(models[label], f"{label}.{field}", values, self._keyed(to) is True)
        return Verdict(marks.format, models, [*marks.sentences(), *self._notes(marks)])

    def _keyed(self, label: str) -> bool | None:
        model = self._schema.models.get(label)
        return None if model is None else model.has_natural_key

    def _notes(self, marks: Marks) -> Iterator[str]:
        unknown = Counter(
            {k: r.records for k, r in self.models.items() if k not in self._schema.models}
        )
        keyless = Counter({k: n for k, n in marks.neutral.items() if k not in unknown})
        yield from told(
            keyless, "record", "with a pk, of models without a natural key, which says nothing"
        )
        yield from told(
            unknown, "record", "of models not in the schema; their pks and relations say nothing"
        )
        if marks.format == "legacy_database_ids" and not (marks.pks.total() or marks.ids.total()):
            yield "nothing in it is or should be a natural key; its pks are all it has"


def _top(counts: Mapping[str, int], most: int = 3) -> str:
    """The greatest of `counts` in words: `users.user (7), users.role (3) and 4 more`."""
    ranked = [(name, n) for name, n in Counter(counts).most_common() if n]
    shown = ", ".join(f"{name} ({n:,})" for name, n in ranked[:most])
    return f"{shown} and {len(ranked) - most} more" if len(ranked) > most else shown


def told(counts: Counter[str], noun: str, what: str) -> Iterator[str]:
    if counts.total():
        yield f"{number_of(counts.total(), noun)} {what}: {_top(counts)}"


def number_of(count: int, noun: str) -> str:
    """`1 record`, `2,000 records`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
