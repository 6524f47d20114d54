"""A proposed schema: each thing with how sure it is and why, for a person to check."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import msgspec

from fastnk.schema import (
    CONTENT_TYPE,
    GenericRelation,
    KeyPart,
    Model,
    Relation,
    Schema,
    flat_parts,
    parse_path,
)

MINIMUM = 0.9
"""What a schema is made of unless another confidence is asked for."""

DOUBTFUL = 0.5
"""From here on a model that may be a child keeps its parent from going by a natural key."""

COLUMNS = ("model", "what", "proposed", "confidence", "evidence")


class Target(msgspec.Struct, frozen=True):
    """Another model that a relation may lead to."""

    to: str
    confidence: float


class OtherKey(msgspec.Struct, frozen=True):
    """Another natural key that a model may have."""

    natural_key: list[KeyPart]
    confidence: float


class RelationProposal(msgspec.Struct, kw_only=True):
    """A field that seems to hold ids of a model."""

    model: str
    field: str
    to: str
    to_field: str | None = None
    many: bool = False
    parent_link: bool = False
    """Whether it is the pk, which continues a row of another model, as Django would name it."""
    confidence: float
    """From 0 to 1."""
    named: bool = False
    """Whether the field's name speaks for it."""
    values: int = 0
    """Different ids seen."""
    evidence: list[str] = []
    others: list[Target] = []

    def cells(self) -> tuple[str, str]:
        to = self.to if self.to_field is None else f"{self.to}.{self.to_field}"
        others = "".join(f", or {other.to} ({other.confidence:.2f})" for other in self.others)
        kind = "many " if self.many else "parent " if self.parent_link else ""
        return self.field, f"{kind}-> {to}{others}"


class KeyProposal(msgspec.Struct, kw_only=True):
    """What seems to identify the records of a model; `None` where it seems to have no key."""

    model: str
    natural_key: list[KeyPart] | None
    confidence: float
    evidence: list[str] = []
    others: list[OtherKey] = []

    def cells(self) -> tuple[str, str]:
        others = "".join(
            f", or {_spelled(other.natural_key)} ({other.confidence:.2f})" for other in self.others
        )
        return "natural key", f"{_spelled(self.natural_key)}{others}"


class Proposal(msgspec.Struct, kw_only=True):
    """What a backup, and perhaps an example, say of the schema. A guess: look at it first."""

    backup: str | None
    example: str | None
    models: dict[str, int]
    """Records of each model; 0 for one that is only referred to."""
    relations: list[RelationProposal]
    keys: list[KeyProposal]
    object_ids: dict[str, list[str]]
    """By model with a content type: the fields that by their names hold ids of what it names."""
    notes: list[str]
    """What else a person should know, in sentences."""
    damage: list[str] = []
    """With `salvage`: what is lost of the backups; among the notes, too."""

    def table(self, minimum: float = 0.0) -> list[tuple[str, str, str, str, str]]:
        """A row under each of `COLUMNS` for what is at least that sure: by model, keys first."""
        things: list[KeyProposal | RelationProposal] = [*self.keys, *self.relations]
        things.sort(key=lambda one: (one.model, isinstance(one, RelationProposal)))
        return [
            (one.model, *one.cells(), f"{one.confidence:.2f}", "; ".join(one.evidence))
            for one in things
            if one.confidence >= minimum
        ]

    def schema(self, minimum: float = MINIMUM) -> Schema:
        """The schema of all models with what is at least that sure. A natural key that passes
        through a relation that is not is left out; see `left_out`."""
        sure = _Sure(self, minimum)
        return Schema.of({label: sure.model(label) for label in sorted(self.models)})

    def left_out(self, minimum: float = MINIMUM) -> list[str]:
        """What `schema` leaves out, in sentences."""
        sure = _Sure(self, minimum)
        return [*sure.relations_left_out(), *sure.generics_left_out(), *sure.keys_left_out()]

    def document(self, minimum: float = MINIMUM) -> dict[str, Any]:
        """All of it as data for JSON: the schema and what it rests on."""
        return {
            "backup": self.backup,
            "example": self.example,
            "minimum": minimum,
            "schema": msgspec.to_builtins(self.schema(minimum)),
            "relations": msgspec.to_builtins(self.relations),
            "keys": msgspec.to_builtins(self.keys),
            "notes": self.notes,
            "damage": self.damage,
            "left_out": self.left_out(minimum),
        }


class _Sure:
    """What is sure enough of a proposal, and what is not."""

    def __init__(self, proposal: Proposal, minimum: float) -> None:
        self._proposal = proposal
        self._minimum = minimum
        self._relations: dict[str, dict[str, Relation]] = defaultdict(dict)
        self._doubtful: dict[str, str] = {}
        """For a model one that may continue its rows, so that their pks are needed."""
        for one in proposal.relations:
            if one.confidence >= minimum:
                self._relations[one.model][one.field] = Relation(
                    to=one.to, to_field=one.to_field, many=one.many, parent_link=one.parent_link
                )
            elif one.parent_link and one.confidence >= DOUBTFUL:
                self._doubtful.setdefault(one.to, one.model)
        self._keys = {
            one.model: one.natural_key
            for one in proposal.keys
            if one.natural_key is not None and one.confidence >= minimum
        }

    def model(self, label: str) -> Model:
        relations = self._relations[label]
        links = [name for name, relation in relations.items() if relation.parent_link]
        return Model(
            pk=links[0] if links else Model().pk,
            natural_key=self._key(label),
            relations=relations,
            generic_relations={
                name: GenericRelation(content_type=CONTENT_TYPE, object_id=name, may_dangle=True)
                for name in self._proposal.object_ids.get(label, ())
                if CONTENT_TYPE in relations and name not in relations
            },
        )

    def _key(self, label: str) -> list[KeyPart] | None:
        key = self._keys.get(label)
        if key is None or label in self._doubtful:
            return None
        return key if all(self._leads_on(label, part) for part in flat_parts(key)) else None

    def _leads_on(self, label: str, part: str) -> bool:
        """Whether the relations that a path passes are all sure enough, and it ends at a field."""
        hops, field, _ = parse_path(part)
        for hop in hops:
            relation = self._relations[label].get(hop)
            if relation is None or relation.many:
                return False
            label = relation.to
        return field not in self._relations[label]

    def relations_left_out(self) -> Iterator[str]:
        for one in self._proposal.relations:
            if one.named and one.values and one.confidence < self._minimum:
                where = f"{one.model}.{one.field} -> {one.to}"
                yield f"{where}: {one.confidence:.2f} is not sure enough"

    def generics_left_out(self) -> Iterator[str]:
        for label, names in self._proposal.object_ids.items():
            if CONTENT_TYPE not in self._relations[label]:
                for name in names:
                    yield f"{label}.{name} -> what {CONTENT_TYPE} names: that is not sure enough"

    def keys_left_out(self) -> Iterator[str]:
        for one in self._proposal.keys:
            if one.natural_key is None or self._key(one.model) is not None:
                continue
            why = f"{one.confidence:.2f} is not sure enough"
            if one.confidence >= self._minimum:
                why = "a relation on its way is not sure enough"
                if one.model in self._doubtful:
                    why = f"{self._doubtful[one.model]} may continue its rows, by their pks"
            yield f"the natural key {_spelled(one.natural_key)} of {one.model}: {why}"


def _spelled(natural_key: list[KeyPart] | None) -> str:
    return "none" if natural_key is None else ", ".join(flat_parts(natural_key))
