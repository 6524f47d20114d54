"""Which records may belong together: one of the backup, and one of the converted backup."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastnk.schema import Model, Schema
from fastnk.verify.inside import paths_into_fields
from fastnk.verify.keys import Rows, Target
from fastnk.verify.leeway import Leeway
from fastnk.verify.reading import Entry
from fastnk.verify.values import MISSING, digest, is_reference


class Likeness:
    """Compares records by what should be left of them.

    Every record has a signature: two have the same where one is the faithful conversion of the
    other, but for pk and key.
    """

    def __init__(self, schema: Schema, rows: Rows, leeway: Leeway, *, embedded: bool) -> None:
        self._schema = schema
        self._rows = rows
        self._leeway = leeway
        self._unsigned = {
            label: _unsigned(schema, model, embedded=embedded)
            for label, model in schema.models.items()
        }

    def are_alike(self, before: Entry, after: Entry) -> bool:
        """Whether the second was made of the first."""
        if before.label != after.label:
            return False
        if "pk" in after.members:
            alike = before.get("pk") == after.members["pk"]
        elif "natural_key" in after.members:
            alike = self._rows.own_key(before) == after.members["natural_key"]
        else:
            alike = False
        return alike or self.old_signature(before) == self.new_signature(after)

    def may_be_dropped(self, entry: Entry) -> bool:
        """Whether a policy may leave it out: the model is unknown, or a reference leads nowhere."""
        return entry.label not in self._schema.models or self._leeway.leads_nowhere(entry)

    def new_names(self, entry: Entry) -> Iterator[bytes]:
        """What a record may have in common with the one it was made of, the surest first."""
        yield from _names(entry.label, entry.get("pk"), entry.get("natural_key"))
        yield self.new_signature(entry)

    def old_names(self, entry: Entry) -> Iterator[bytes]:
        """The same for a record of the backup."""
        key = entry.get("natural_key")
        if key is MISSING and entry.label not in self._leeway.keeping:
            made = self._rows.own_key(entry)
            key = MISSING if made is None else made
            if made is not None and not self._schema.models[entry.label].keep_pk:
                yield from _names(entry.label, MISSING, key)
                yield self.old_signature(entry)  # in style django neither is left
        yield from _names(entry.label, entry.get("pk"), key)
        yield self.old_signature(entry)

    # -- signatures --

    def old_signature(self, entry: Entry) -> bytes:
        if entry.signature is None:
            model = self._schema.models.get(entry.label)
            fields = entry.fields
            if model is not None:
                fields = {name: self._expected(model, name, one) for name, one in fields.items()}
            entry.signature = self._signature(entry, fields)
        return entry.signature

    def new_signature(self, entry: Entry) -> bytes:
        if entry.signature is None:
            entry.signature = self._signature(entry, entry.fields)
        return entry.signature

    def _signature(self, entry: Entry, fields: dict[str, Any]) -> bytes:
        model = self._schema.models.get(entry.label)
        unsigned = self._unsigned.get(entry.label, ())
        fields = {name: value for name, value in fields.items() if name not in unsigned}
        if model is None or not model.has_natural_key:
            return digest([entry.label, fields, entry.rest(), entry.members.get("pk")])
        # A parent link is among the fields of the one and the pk of the other.
        fields.pop(model.pk, None)
        return digest([entry.label, fields, entry.rest()])

    def _expected(self, model: Model, name: str, value: Any) -> Any:
        relation = model.relations.get(name)
        if relation is None or not self._rows.is_keyed(relation.to):
            return value
        target = Target(relation.to, relation.to_field)
        if relation.many and isinstance(value, list):
            return self._leeway.written_list(target, value)
        return self._leeway.written(target, value) if is_reference(value) else value


def _names(label: str, pk: Any, key: Any) -> Iterator[bytes]:
    """By what it has of the two, then by one of them: several records may have one pk."""
    if pk is not MISSING and key is not MISSING:
        yield digest([label, pk, key])
    if pk is not MISSING:
        yield digest(["pk", label, pk])
    if key is not MISSING:
        yield digest(["natural_key", label, key])


def _unsigned(schema: Schema, model: Model, *, embedded: bool) -> set[str]:
    """The fields that tell too little, or in each style something else."""
    inside = paths_into_fields(schema, model) if embedded else ()
    return {*inside, *(name for name, one in model.relations.items() if one.has_natural_key)}
