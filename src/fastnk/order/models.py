"""The models that refer to each other in circles, and the order of all of them."""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from fastnk.order.keys import Key, UnknownKeyError, compiled
from fastnk.order.sorting import Graph, Sorter
from fastnk.schema import KeyPart, Schema, flat_parts, parse_path

MANY, NULLABLE, REQUIRED, IDENTIFYING = range(4)
"""How much depends on a reference. `loaddata` can put off what a many-to-many field holds, and
what a field holds that may be null; never what it looks for a record by."""

OWN = ""
"""The natural key of a model that is no proxy's."""


class Reference(NamedTuple):
    """A relation between models of one cycle."""

    number: int
    field: str
    to: str
    to_field: str
    key: str
    """Which of the target's natural keys it holds, as `Model.keys` calls it."""
    many: bool
    strength: int


class Model(NamedTuple):
    """A model in a cycle: what its records are found by, and what they refer to."""

    pk: str
    keys: dict[str, Key | None]
    """Its natural keys; `None` for one that its records do not tell."""
    fields: set[str]
    """Those whose values relations hold; the pk may be among them."""
    references: list[Reference]


def cyclic_models(schema: Schema) -> dict[str, Model]:
    """The models that refer to themselves, or to each other in circles."""
    components = _components(schema, list(schema.models))
    sizes = Counter(components.values())
    models = {
        label: Model(model.pk, {OWN: _known_key(schema, label, model.natural_key)}, set(), [])
        for label, model in schema.models.items()
        if sizes[components[label]] > 1
        or any(relation.to == label for relation in model.relations.values())
    }
    numbers = itertools.count(1)
    for label, model in models.items():
        for field, relation in schema.models[label].relations.items():
            if components[relation.to] == components[label]:
                reference = _reference(schema, next(numbers), label, field)
                model.references.append(reference)
                target = models[relation.to]
                target.fields.add(reference.to_field)
                if reference.key != OWN:
                    known = _known_key(schema, relation.to, relation.natural_key)
                    target.keys[reference.key] = known
    return models


def _known_key(schema: Schema, label: str, parts: list[KeyPart] | None) -> Key | None:
    with contextlib.suppress(UnknownKeyError):
        return None if parts is None else compiled(schema, label, parts)
    return None


def _reference(schema: Schema, number: int, label: str, field: str) -> Reference:
    model = schema.models[label]
    relation = model.relations[field]
    key = relation.natural_key_method or (
        str(relation.natural_key) if relation.natural_key else OWN
    )
    to_field = schema.field_name(relation.to, relation.to_field or "pk")
    hops = [
        hop for part in flat_parts(model.natural_key or ()) for hop in parse_path(part).hops[:1]
    ]
    if relation.many:
        strength = MANY
    elif field in {model.pk, *(schema.field_name(label, hop) for hop in hops)}:
        strength = IDENTIFYING
    else:
        strength = REQUIRED
    return Reference(number, field, relation.to, to_field, key, relation.many, strength)


def ranks_of(schema: Schema, labels: Iterable[str]) -> list[int]:
    """The place of each of `labels` in an order that follows the relations.

    Models that refer to each other in circles share one; those that the schema does not know
    share the last.
    """
    labels = list(labels)
    known = [label for label in labels if label in schema.models]
    every = list(dict.fromkeys([*known, *schema.models]))
    components = _components(schema, every)
    return [components.get(label, len(every)) for label in labels]


def _components(schema: Schema, labels: Sequence[str]) -> dict[str, int]:
    """All models of the schema, given in some order, with the place of the circle that each is in.

    A model that is in none has a place of its own.
    """
    numbers = {label: number for number, label in enumerate(labels)}
    firsts, targets = [0], []
    for label in labels:
        relations = schema.models[label].relations.values()
        targets += sorted({numbers[relation.to] for relation in relations})
        firsts.append(len(targets))
    sorter = Sorter(Graph(firsts, targets, [0] * len(targets), [REQUIRED]))
    sorter.sort()
    return {label: sorter.components[number] for label, number in numbers.items()}
