"""What the schema asks of the rows: how natural keys are made, and by what rows are found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from fastnk.schema import GenericRelation, KeyPart, Model, Relation, Schema, parse_path

Proxy = tuple[str, str] | None
"""The relation that leads through a proxy whose key is meant; `None` for the model's own key."""


class Hop(NamedTuple):
    """A step of a path: from a column of a row to the row that it refers to."""

    column: int
    table: tuple[str, str]
    place: tuple[int, ...]
    """Where the rest of the path stands in the natural key of the target; empty for nowhere."""
    transform: str | None
    """What is still to be done with what stands there."""


class Route(NamedTuple):
    """The way from a row to a part of its natural key."""

    hops: tuple[Hop, ...]
    column: int
    transform: str | None


Maker = list[Any] | str
"""The routes to the parts of a key, nested as the key is, or the method that makes it."""


class KeyPlan:
    """How the natural keys of all models are made."""

    def __init__(self, schema: Schema, *, embedded: bool, for_logs: bool) -> None:
        self._schema = schema
        self.expects_logs = for_logs or schema.has_firm_generics
        """Whether any row with a natural key can be found, as generic relations need it."""
        self._embedded = embedded
        self.columns: dict[str, dict[str, int]] = {label: {} for label in schema.models}
        """By label and field: the number of the column of a row, from 1."""
        self.tables: dict[str, list[str]] = {}
        """By label: the fields by which rows are found, the pk first."""
        self.makers: dict[tuple[str, Proxy], Maker] = {
            (label, proxy): self._maker(label, holder)
            for label, proxy, holder in self._holders()
            if holder.has_natural_key
        }
        self._add_tables()

    def _holders(self) -> Iterator[tuple[str, Proxy, Model | Relation]]:
        """What may say how a natural key of a model is made."""
        for label, model in self._schema.models.items():
            yield label, None, model
            for name, relation in model.relations.items():
                yield relation.to, (label, name), relation

    def _maker(self, label: str, holder: Model | Relation) -> Maker:
        if holder.natural_key_method is None:
            return self._compiled(label, holder.natural_key or [])
        self.column(label, "pk")
        return holder.natural_key_method

    def _add_tables(self) -> None:
        for label, model in self._schema.models.items():
            for name, relation in model.relations.items():
                if self.is_keyed(relation.to) or (relation.to, (label, name)) in self.makers:
                    self.table(relation.to, relation.to_field)
            for generic in model.generic_relations.values():
                self._add_generic_tables(model, generic)
            for embedded in model.embedded.values() if self._embedded else ():
                if self.is_keyed(embedded.to):
                    self.table(embedded.to, embedded.to_field)

    def _add_generic_tables(self, model: Model, generic: GenericRelation) -> None:
        """Any record may be meant, if the relation is used at all."""
        if generic.content_type is not None:
            types = model.relations[generic.content_type]
            self.table(types.to, types.to_field)
            self.column(types.to, "app_label")
            self.column(types.to, "model")
        for label, proxy in self.makers:
            if proxy is None and self.expects_logs:
                self.table(label, None)

    def pk_part(self, label: str) -> int | None:
        """Where the pk of a model stands in its natural key, as it is or as a text."""
        model = self._schema.models[label]
        parts = model.natural_key or []
        places = (self._place(label, pk, parts) for pk in ("pk", "pk|str"))
        found = next((place[0] for place in places if len(place) == 1), None)
        return None if model.pk in model.relations else found

    def is_keyed(self, label: str) -> bool:
        """Whether records of this model have natural keys."""
        return (label, None) in self.makers

    def table(self, label: str, field: str | None) -> tuple[str, str]:
        """Make sure that rows are found by a field (by the pk for `None`); that table."""
        pk = self._schema.models[label].pk
        fields = self.tables.setdefault(label, [pk])
        name = pk if field is None else self._schema.field_name(label, field)
        if name not in fields:
            fields.append(name)
        return label, name

    def column(self, label: str, field: str) -> int:
        """Make sure of a column; its number."""
        columns = self.columns[label]
        return columns.setdefault(self._schema.field_name(label, field), len(columns) + 1)

    def _compiled(self, label: str, parts: Sequence[KeyPart]) -> list[Any]:
        return [
            self._path(label, part) if isinstance(part, str) else self._compiled(label, part)
            for part in parts
        ]

    def _path(self, label: str, part: str) -> Route:
        names, field, transform = parse_path(part)
        hops = []
        for number, name in enumerate(names):
            column = self.column(label, name)
            relation = self._schema.models[label].relations[self._schema.field_name(label, name)]
            table = self.table(relation.to, relation.to_field)
            label = relation.to
            rest = "__".join([*names[number + 1 :], field])
            standing = self._schema.models[label].natural_key or []
            place = self._place(label, f"{rest}|{transform}", standing) if transform else ()
            left = None if place else transform
            place = place or self._place(label, rest, standing)
            hops.append(Hop(column, table, place, left))
        return Route(tuple(hops), self.column(label, field), transform)

    def _place(self, label: str, part: str, parts: Sequence[KeyPart]) -> tuple[int, ...]:
        """Where a part stands in a natural key: its number, or that of the list it is in and so
        on."""
        for number, one in enumerate(parts):
            if isinstance(one, list):
                if place := self._place(label, part, one):
                    return (number, *place)
            elif self._spelled_out(label, one) == self._spelled_out(label, part):
                return (number,)
        return ()

    def _spelled_out(self, label: str, part: str) -> tuple[str, str]:
        path, _, transform = part.partition("|")
        return self._schema.spelled_out(label, path), transform
