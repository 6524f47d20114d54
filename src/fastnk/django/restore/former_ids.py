"""Ids of models to which relations led once, which today's schema would take for other rows'."""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, NamedTuple

import msgspec
from django.apps import apps

from fastnk.django.restore.findings import DANGLING, Findings
from fastnk.django.restore.values import from_json
from fastnk.django.schema.retargeted import Former, Retargeted, Shape, retargeted, unchanged
from fastnk.renames import Renames
from fastnk.schema import Schema, model_name, plain_label

Doubtful = dict[str, dict[str, Retargeted]]
"""Relations that led elsewhere once, or may have, by the names of the backup: of the model, of the
field."""

Chunks = Callable[[], Iterable[bytes]]
"""Gives all records as they stand in the backup."""


class _Record(msgspec.Struct):
    model: str
    pk: Any = None
    fields: msgspec.Raw = msgspec.Raw()


_RECORDS = msgspec.json.Decoder(list[_Record])


class _Found(NamedTuple):
    """Ids in a record that are those of another model, or may be."""

    number: int
    label: str
    pk: Any
    field: str
    value: Any
    relation: Retargeted
    former: Former
    is_sure: bool

    @property
    def doubt(self) -> tuple[str, str, str]:
        """What all of them have in common that are to be told apart together."""
        return self.label, self.field, self.former.label

    @property
    def ids(self) -> set[str]:
        return {str(one) for one in _ids_in(self.relation, self.value)}

    @property
    def what(self) -> str:
        former, target = self.former, self.relation.target
        led = f"to which the field led up to {former.until}"
        if self.is_sure:
            return f"an id of {former.label}, {led}; today it leads to {target}"
        why = led if former.until else "which the field is called like"
        either = f"an id of {target}, or of {former.label}"
        return f"{either}, {why} and of which the backup has these ids"


def doubtful_relations(labels: Collection[str], schema: Schema, renames: Renames) -> Doubtful:
    """Those that the models of a backup have.

    Migrations tell where relations led, unless settings do, as for a model of teams that may be
    another one: then it may be one that is gone, which the field is called like. What the backup is
    said to call a model of today is that model.
    """
    changed = _retargeted()
    known = schema.models.keys() | schema.proxies.keys()
    gone = [Former(one, None, set()) for one in labels if renames.label(one) not in known]
    found: Doubtful = {}
    for label in labels:
        today = renames.label(label)
        today = schema.proxies.get(today, today)
        relations = unchanged(apps.get_model(today)) if today in schema.models else {}
        for name, one in (relations | changed.get(today, {})).items():
            formers = [each for each in one.formers if renames.label(each.label) != one.target]
            formers += [each for each in gone if _is_called_like(name, each, one)]
            if formers:
                relation = one._replace(formers=formers)
                found.setdefault(label, {})[renames.old_field(today, name)] = relation
    return found


def refuse_former_ids(
    chunks: Chunks, doubtful: Doubtful, labels: Collection[str], name: str | None
) -> None:
    """Raise `FindingsError` for ids that are, or may be, those of a model to which their relation
    led once; `labels` are the models of the backup.

    A natural key is none, and neither is an id in a record with fields as there were only since
    the relation leads to its model of today. Where fields do not tell, all ids of the relation must
    be those of records of the other model.
    """
    strange: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    are_sure = False
    for one in _all_found(chunks(), doubtful, labels):
        are_sure |= one.is_sure
        if not one.is_sure:
            strange[one.doubt] |= one.ids
    if strange:
        _leave_strange(chunks(), strange)
    if not are_sure and all(strange.values()):
        return
    findings = Findings(name)
    formers: list[Former] = []
    for one in _all_found(chunks(), doubtful, labels):
        if one.is_sure or not strange[one.doubt]:
            formers.append(one.former)
            findings.add(
                DANGLING,
                one.what,
                record=one.number,
                model=one.label,
                pk=one.pk,
                pk_name=one.relation.pk,
                field=one.field,
                value=one.value,
            )
    if formers:
        findings.refuse(_remedy(formers[0]))


def _remedy(former: Former) -> str:
    otherwise = "or leave the field out: --exclude app.model.field"
    if former.until is None:
        return (
            "--schema, which decides it: by one that fastnk schema django makes the ids are of"
            f' today; by one that has {former.label}, and that as what the field is "to", they are'
            f" not; {otherwise}"
        )
    return (
        "--schema with one of the time of the backup, as fastnk schema django"
        f" --at {former.until} makes it; where ids are those of today, with one without --at;"
        f" {otherwise}"
    )


def _retargeted() -> Doubtful:
    try:
        return retargeted()
    except Exception:  # which `migrate` tells, and which need not stand in the way here
        return {}


def _is_called_like(name: str, former: Former, relation: Retargeted) -> bool:
    """Whether a relation has the name of a model, and not that of the one to which it leads."""
    own = model_name(former.label)
    names = {own, f"{own}s"} if relation.is_many else {own}
    return name in names and model_name(relation.target) != own


def _all_found(
    chunks: Iterable[bytes], doubtful: Doubtful, labels: Collection[str]
) -> Iterator[_Found]:
    for number, record in enumerate(_records_of(chunks), start=1):
        label = plain_label(record.model)
        relations = doubtful.get(label)
        if not relations:
            continue
        fields = from_json(bytes(record.fields))
        for field in relations.keys() & fields.keys():
            relation, value = relations[field], fields[field]
            shape = frozenset(fields) - {relation.pk}
            for former in relation.formers if _ids_in(relation, value) else ():
                is_sure = _is_sure(former, relation, shape, labels)
                if is_sure is not None:
                    place = (number, label, record.pk, field)
                    yield _Found(*place, value, relation, former, is_sure)
                    break


def _is_sure(
    former: Former, relation: Retargeted, shape: Shape, labels: Collection[str]
) -> bool | None:
    """Whether ids in a record of this shape are surely those of a model, or may be; `None` where
    they are not."""
    is_of_then, is_of_today = shape in former.shapes, shape in relation.shapes
    if is_of_then != is_of_today:
        return is_of_then or None
    return False if former.label in labels else None


def _leave_strange(chunks: Iterable[bytes], strange: dict[tuple[str, str, str], set[str]]) -> None:
    """Leave of the ids those that no record of the other model has."""
    formers = defaultdict(list)
    for (*_, former), ids in strange.items():
        formers[former].append(ids)
    for record in _records_of(chunks):
        for ids in formers.get(plain_label(record.model), ()):
            ids.discard(str(record.pk))


def _records_of(chunks: Iterable[bytes]) -> Iterator[_Record]:
    return itertools.chain.from_iterable(map(_decoded, chunks))


def _decoded(chunk: bytes) -> list[_Record]:
    try:
        return _RECORDS.decode(chunk)
    except (msgspec.DecodeError, RecursionError):  # what msgspec does not read, and Python does
        return [
            _Record(one["model"], one.get("pk"), msgspec.Raw(json.dumps(one["fields"]).encode()))
            for one in from_json(chunk)
        ]


def _ids_in(relation: Retargeted, value: Any) -> list[Any]:
    """The ids that a relation holds; a natural key is a list, and none of them."""
    held = value if relation.is_many and isinstance(value, list) else [value]
    return [one for one in held if not (one is None or isinstance(one, list))]
