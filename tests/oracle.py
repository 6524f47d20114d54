"""Conversion as slow and plain Python over parsed JSON: what the core is compared with.

It works on whole lists of dicts, looks everything up as often as it likes, and starts again from
the beginning until nothing changes any more. Nothing here is shared with the product but the
schema's data types.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from fastnk.schema import (
    ELEMENTS,
    Embedded,
    GenericRelation,
    KeyPart,
    Model,
    Relation,
    Schema,
    embedded_steps,
    parse_path,
)
from tests import jsontext
from tests.jsontext import Node

Record = dict[str, Any]
Called = Mapping[tuple[str, str, str], list[Any]]
"""What methods have made: by label, method and the JSON text of the pk."""

UNRESOLVED = "FNK301"
UNKNOWN_MODEL = "FNK302"
DUPLICATE_PK = "FNK303"
DUPLICATE_KEY = "FNK304"
NULL_KEY = "FNK305"
DUPLICATE_MEMBER = "FNK306"
UNMADE_KEY = "FNK307"
NO_CONTENT_TYPE = "FNK308"
NO_GENERIC_TARGET = "FNK309"
NO_GENERIC_KEY = "FNK310"
UNRESOLVED_INSIDE = "FNK311"
NOT_JSON = "FNK312"

KEY_FINDINGS = (DUPLICATE_KEY, NULL_KEY)

POLICY_OF = {
    UNRESOLVED: "on_unresolved",
    UNKNOWN_MODEL: "on_unknown_model",
    DUPLICATE_PK: "on_duplicate_pk",
    DUPLICATE_KEY: "on_duplicate_key",
    NULL_KEY: "on_null_key",
    DUPLICATE_MEMBER: "on_duplicate_member",
    UNMADE_KEY: "on_unresolved",
    NO_CONTENT_TYPE: "on_generic",
    NO_GENERIC_TARGET: "on_generic",
    NO_GENERIC_KEY: "on_generic",
    UNRESOLVED_INSIDE: "on_embedded",
    NOT_JSON: "on_embedded",
}


class Found(NamedTuple):
    code: str
    record: int
    model: str
    pk: str | None
    field: str | None


@dataclass
class Result:
    """The converted records, the input numbers (from 1) of those, and what was found."""

    records: list[Record]
    numbers: list[int]
    findings: list[Found]
    policies: Mapping[str, str] = field(repr=False)
    keeping_models: set[str]
    """The models that keep their pks. They are then as models without a natural key are:
    nothing more is found in their keys or in references to them."""
    spliced: Callable[[Record, str, str], str] = field(repr=False)
    """The JSON text of a field (record, name, text) with keys in place of the ids inside."""
    keys_inside: int
    """How many ids inside fields became keys."""

    @property
    def refused(self) -> list[Found]:
        """The findings that the policies do not allow."""
        return [
            found
            for found in self.findings
            if self.policies.get(POLICY_OF[found.code], "error") == "error"
        ]


class CannotMakeError(Exception):
    """A natural key that cannot be made: a hop leads to no row, or to a key without the part."""


def convert(
    records: Sequence[Record],
    schema: Schema,
    *,
    keys: Sequence[Record] = (),
    policies: Mapping[str, str] | None = None,
    style: str = "fastnk",
    embedded: bool = False,
    called: Called | None = None,
) -> Result:
    """Convert `records`; with a finding under "error" the records are as under "keep"."""
    made = {
        (label, method, canonical_id(json.loads(pk))): key
        for (label, method, pk), key in (called or {}).items()
    }
    conversion = _Conversion(
        list(records), schema, list(keys), policies or {}, style, embedded=embedded, called=made
    )
    return conversion.run()


def natural_key_of(record: Record, rows: Sequence[Record], schema: Schema) -> list[Any] | None:
    """The natural key of one record among `rows`; None if it has none, or has null parts."""
    conversion = _Conversion(list(rows), schema)
    if record["model"] not in schema.models:
        return None
    try:
        key = conversion.natural_key(record)
    except CannotMakeError:
        return None
    return key if None not in leaves(key) else None


def leaves(key: Any) -> list[Any]:
    return [leaf for part in key for leaf in leaves(part)] if isinstance(key, list) else [key]


def canonical_id(value: Any) -> str | None:
    """The text by which ids are compared; None for what is no id (null, booleans, lists)."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return getattr(value, "raw", None) or json.dumps(value)
    return None


def transformed(value: Any, transform: str | None) -> Any:
    if transform == "str":
        return as_str(value)
    if transform == "isoformat":
        return as_isoformat(value)
    return value


def as_str(value: Any) -> Any:
    """Python's `str` of a JSON value."""
    return value if isinstance(value, str) else str(value)


def as_isoformat(value: Any) -> Any:
    """`isoformat()` of a time that DjangoJSONEncoder wrote; anything else as it is."""
    if not isinstance(value, str):
        return value
    if "." not in value:
        return re.sub("Z$", "+00:00", str(value))
    time = re.fullmatch(r"([^.]*)\.(\d+)(Z|[+-]\d\d:?\d\d|)", value)
    if time is None:
        return value
    start, digits, zone = time.groups()
    fraction = "" if set(digits) == {"0"} else "." + digits.ljust(6, "0")
    return start + fraction + ("+00:00" if zone == "Z" else zone)


# Ids inside fields


class NotJsonError(Exception):
    """A text that paths lead into and that is not JSON."""


@dataclass
class Tree:
    """The paths into a field (or the rest of them), by their first steps."""

    path: str = ""
    relation: Relation | None = None
    """Where a path ends: what the id there refers to."""
    steps: dict[str, Tree] = field(default_factory=dict)


def trees(paths: Mapping[str, Embedded]) -> dict[str, Tree]:
    """The fields that paths lead into, and where they go on to."""
    root = Tree()
    for path, embedded in paths.items():
        tree = root
        for step in embedded_steps(path):
            tree = tree.steps.setdefault(step, Tree())
        tree.path, tree.relation = path, Relation(embedded.to, embedded.to_field)
    return root.steps


class Slot(NamedTuple):
    """An id inside a field: where it stands in the JSON text of the field, and what it is."""

    start: int
    end: int
    path: str
    relation: Relation
    id: Any
    in_string: bool


def slots(tree: Tree, text: str) -> list[Slot]:
    """The ids in a field's JSON text; raises `NotJsonError` where it should hold a second one."""
    node = jsontext.parse(text)[0]
    if not isinstance(node.value, str):
        return list(_slots_below(tree, node))
    if node.value == "":
        return []
    inner = str(node.value)
    places = _places(text)
    if not tree.steps:
        assert tree.relation is not None
        whole = Slot(0, len(inner), tree.path, tree.relation, inner, False)
        found = [] if _is_list(inner) else [whole]
    else:
        if _loaded(inner) is NotJsonError:
            raise NotJsonError
        found = list(_slots_below(tree, jsontext.parse(inner)[0]))
    return [
        one._replace(start=places[one.start], end=places[one.end], in_string=True) for one in found
    ]


def _slots_below(tree: Tree, node: Node) -> Iterator[Slot]:
    if isinstance(node.value, dict):
        for name, member in node.members:
            if name.value in tree.steps and name.value != ELEMENTS:
                yield from _slots_below(tree.steps[name.value], member)
    elif isinstance(node.value, list):
        for item in node.items:
            if ELEMENTS in tree.steps:
                yield from _slots_below(tree.steps[ELEMENTS], item)
    elif tree.relation is not None and _may_be_id(node.value):
        yield Slot(node.start, node.end, tree.path, tree.relation, node.value, False)


def _may_be_id(value: Any) -> bool:
    """A number, or a text that is not empty."""
    text = canonical_id(value)
    return bool(text) and (isinstance(value, str) or text not in ("NaN", "Infinity", "-Infinity"))


def _loaded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return NotJsonError


def _is_list(text: str) -> bool:
    """A text that is a natural key already."""
    return isinstance(_loaded(text), list)


CHARACTER = re.compile(r"\\u[dD][89abAB]..\\u[dD][c-fC-F]..|\\u....|\\.|.", re.DOTALL)


def _places(text: str) -> list[int]:
    """Where in a JSON string each of its characters stands, and where the last one ends."""
    starts = [match.start() for match in CHARACTER.finditer(text, 1, len(text) - 1)]
    return [*starts, len(text) - 1]


def _escaped(text: str) -> str:
    """JSON text as it stands in a string of JSON."""
    return text.replace("\\", "\\\\").replace('"', '\\"')


class _Conversion:
    def __init__(
        self,
        records: list[Record],
        schema: Schema,
        keys: Sequence[Record] = (),
        policies: Mapping[str, str] | None = None,
        style: str = "fastnk",
        *,
        embedded: bool = False,
        called: Mapping[tuple[str, str, str | None], list[Any]] | None = None,
    ) -> None:
        self.records = records
        self.schema = schema
        self.keys = keys
        self.policies = policies or {}
        self.style = style
        self.embedded = embedded
        self.called = called or {}
        self.superseded = self.all_but_the_last() if self.policy(DUPLICATE_PK) == "drop" else set()
        self.dropped: set[int] = set()
        self.found: dict[tuple[str, str], dict[str | None, Record]] = {}
        self.keeping_models: set[str] = set()

    def run(self) -> Result:
        """First which models keep their pks, then what is dropped, then the output."""
        causes = self.key_findings_to_keep()
        self.keeping_models = {found.model for found in causes}
        findings = self.find()
        while (dropped := self.to_drop(findings)) != self.dropped:
            self.dropped = dropped
            findings = self.find()
        numbers = [n for n, _ in self.numbered() if n not in self.dropped]
        kept = [self.records[number - 1] for number in numbers]
        return Result(
            records=[self.converted(record) for record in kept],
            numbers=numbers,
            findings=[*causes, *findings, *self.superseded_findings()],
            policies=self.policies,
            keeping_models=self.keeping_models,
            spliced=self.spliced,
            keys_inside=sum(self.keys_inside(record) for record in kept),
        )

    def policy(self, code: str) -> str:
        return self.policies.get(POLICY_OF[code], "error")

    def numbered(self) -> list[tuple[int, Record]]:
        """The records, without those that are passed over as if they were not there."""
        records = enumerate(self.records, start=1)
        return [(number, record) for number, record in records if number not in self.superseded]

    def all_but_the_last(self) -> set[int]:
        """Of records with one pk."""
        last: dict[tuple[str, str], int] = {}
        earlier = set()
        for number, record in enumerate(self.records, start=1):
            pk = canonical_id(record.get("pk"))
            if pk is not None:
                earlier |= {last.get((record["model"], pk), number)} - {number}
                last[record["model"], pk] = number
        return earlier

    def superseded_findings(self) -> list[Found]:
        numbers = sorted(self.superseded)
        return [
            self.finding(DUPLICATE_PK, number, self.records[number - 1], None) for number in numbers
        ]

    def to_drop(self, findings: list[Found]) -> set[int]:
        """What was dropped stays dropped: a row never comes back."""
        codes = {
            code for code in (UNRESOLVED, UNMADE_KEY, UNKNOWN_MODEL) if self.policy(code) == "drop"
        }
        return self.dropped | {found.record for found in findings if found.code in codes}

    def key_findings_to_keep(self) -> list[Found]:
        codes = {code for code in KEY_FINDINGS if self.policy(code) == "keep"}
        return [found for found in self.find() if found.code in codes]

    # Rows

    def rows(self, label: str) -> list[Record]:
        """All rows of a model, the one that counts last."""
        own = [record for _, record in self.numbered()]
        return [row for row in (*reversed(self.keys), *own) if row["model"] == label]

    def row(self, relation: Relation, id_: Any) -> Record | None:
        """The last one with an id, unless just that one was left out."""
        wanted = canonical_id(id_)
        name = "pk" if relation.to_field is None else relation.to_field
        if (relation.to, name) not in self.found:
            rows = self.rows(relation.to)
            if name in ("pk", self.schema.models[relation.to].pk):
                # What only a natural key tells counts where no record has it as its pk.
                without = [row for row in rows if row.get("pk") is None]
                rows = [*reversed(without), *(row for row in rows if row.get("pk") is not None)]
            self.found[relation.to, name] = {
                canonical_id(self.value(row, name)[0]): row for row in rows
            }
        row = None if wanted is None else self.found[relation.to, name].get(wanted)
        return None if row is None or self.is_dropped(row) else row

    def is_dropped(self, row: Record) -> bool:
        return any(row is self.records[number - 1] for number in self.dropped)

    def value(self, record: Record, name: str) -> tuple[Any, bool]:
        """The value of a field of a record (its pk by name too), and whether it is there."""
        fields = record["fields"]
        if name == "pk" or name == self.schema.models[record["model"]].pk:
            if name in fields and name != "pk":
                return fields[name], True
            if record.get("pk") is None and (told := self.pk_in_key(record)) is not None:
                return told, True
            return record.get("pk"), "pk" in record
        return fields.get(name), name in fields

    def pk_in_key(self, record: Record) -> Any:
        """What the natural key of a record tells of its pk."""
        model = self.schema.models[record["model"]]
        key = record.get("natural_key")
        if not isinstance(key, list) or model.pk in model.relations:
            return None
        parts = [
            _without_alias(one, model.pk) if isinstance(one, str) else ""
            for one in model.natural_key or []
        ]
        for path in (model.pk, f"{model.pk}|str"):
            if path in parts and parts.index(path) < len(key):
                return key[parts.index(path)]
        return None

    def relation(self, label: str, name: str) -> Relation:
        return self.schema.models[label].relations[self.schema.field_name(label, name)]

    # Natural keys

    def has_key(self, label: str) -> bool:
        """Whether natural keys stand for the records of a model in the output."""
        return self.schema.models[label].has_natural_key and label not in self.keeping_models

    def is_rewritten(self, relation: Relation) -> bool:
        """Whether natural keys stand in such a field in the output."""
        if self.is_by_proxy(relation):
            return relation.to not in self.keeping_models
        return self.has_key(relation.to)

    def is_by_proxy(self, relation: Relation) -> bool:
        """Whether Django writes another key here than that of the target's own model."""
        return self.style == "django" and bool(relation.natural_key or relation.natural_key_method)

    def natural_key(self, record: Record) -> list[Any]:
        """The natural key of a record; raises `CannotMakeError`."""
        return self.made(record, self.schema.models[record["model"]])

    def made(self, record: Record, how: Model | Relation) -> list[Any]:
        """The key of a record as `how` makes it; raises `CannotMakeError`."""
        if how.natural_key_method is None:
            return self.parts(record, how.natural_key or [])
        place = (record["model"], how.natural_key_method, canonical_id(record.get("pk")))
        if place not in self.called:
            raise CannotMakeError
        return self.called[place]

    def parts(self, record: Record, parts: Sequence[KeyPart]) -> list[Any]:
        return [
            self.part(record, part) if isinstance(part, str) else self.parts(record, part)
            for part in parts
        ]

    def part(self, record: Record, part: str) -> Any:
        hops, field, transform = parse_path(part)
        if not hops:
            value, present = self.value(record, field)
            return transformed(value, transform) if present else None
        hop, rest = hops[0], part.removeprefix(hops[0] + "__")
        relation = self.relation(record["model"], hop)
        value, _ = self.value(record, hop)
        if value is None:
            return None
        if isinstance(value, list):
            return self.part_of_key(value, relation.to, rest)
        row = self.row(relation, value)
        if row is None:
            raise CannotMakeError
        return self.part(row, rest)

    def part_of_key(self, key: list[Any], label: str, rest: str) -> Any:
        """The element of a natural key that stands where `rest` stands in the model's key."""
        model = self.schema.models[label]
        rest = _without_alias(rest, model.pk)
        found = _standing_at(model.natural_key or [], rest, key, model.pk)
        if found:
            return found[0]
        path, _, transform = rest.partition("|")
        found = _standing_at(model.natural_key or [], path, key, model.pk)
        if found:
            return transformed(found[0], transform or None)
        raise CannotMakeError

    def key_or_none(self, record: Record, by_proxy: Relation | None = None) -> list[Any] | None:
        """The key that stands for a record in the output; None where its pk does."""
        try:
            key = self.made(record, by_proxy or self.schema.models[record["model"]])
        except CannotMakeError:
            return None
        # Nulls in a model's own key are findings, and the whole model may keep its pks for them.
        is_null = by_proxy is not None and None in leaves(key)
        return None if is_null and self.policy(NULL_KEY) != "null" else key

    # Findings

    def find(self) -> list[Found]:
        findings: list[Found] = []
        seen_pks: set[tuple[str, str]] = set()
        seen_keys = self.standing_keys()
        for number, record in self.numbered():
            found = self.record_findings(number, record)
            findings += found
            if any(one.code == UNKNOWN_MODEL for one in found):
                continue
            findings += self.duplicate_pk(number, record, seen_pks)
            findings += self.duplicate_key(number, record, seen_keys)
        return findings

    def finding(self, code: str, number: int, record: Record, field: str | None) -> Found:
        pk = record.get("pk")
        text = None if pk is None else canonical_id(pk) or json.dumps(pk)
        return Found(code, number, record["model"], text, field)

    def record_findings(self, number: int, record: Record) -> list[Found]:
        repeated = [*getattr(record, "repeated", ()), *getattr(record["fields"], "repeated", ())]
        found = [self.finding(DUPLICATE_MEMBER, number, record, name) for name in repeated]
        if record["model"] not in self.schema.models:
            return [*found, self.finding(UNKNOWN_MODEL, number, record, None)]
        for name in self.unresolved(record):
            found.append(self.finding(UNRESOLVED, number, record, name))
        found += self.text_findings(number, record)
        if number not in self.dropped:
            found += self.generic_findings(number, record)
            found += self.embedded_findings(number, record)
        if self.is_legacy(record):
            found += self.own_key_findings(number, record)
        return found

    def is_legacy(self, record: Record) -> bool:
        keyed = self.has_key(record["model"])
        return keyed and "pk" in record and "natural_key" not in record

    def unresolved(self, record: Record) -> list[str]:
        """The fields of a record that hold an id without a row, once for each such id."""
        names = []
        for name, relation in self.schema.models[record["model"]].relations.items():
            value = record["fields"].get(name)
            if not self.is_rewritten(relation):
                continue
            ids = value if relation.many and isinstance(value, list) else [value]
            names += [name for id_ in ids if self.is_unresolved(relation, id_)]
        for name, relation in self.relations_by_pk(record).items():
            if self.is_rewritten(relation) and self.is_unresolved(relation, record["pk"]):
                names.append(name)
        return names

    def relations_by_pk(self, record: Record) -> dict[str, Relation]:
        """The relation that the pk of a record is, where the output has to hold it elsewhere: a
        parent link among the fields, another one among the references."""
        model = self.schema.models[record["model"]]
        relation = model.relations.get(model.pk)
        if relation is None or record.get("pk") is None or "natural_key" in record:
            return {}
        if relation.parent_link:
            return {} if model.pk in record["fields"] else {model.pk: relation}
        if self.style == "django" or is_stated(record, model.pk):
            return {}
        return {model.pk: relation}

    def is_unresolved(self, relation: Relation, value: Any) -> bool:
        if value is None or isinstance(value, list):
            return False
        return self.row(relation, value) is None

    def generic_findings(self, number: int, record: Record) -> list[Found]:
        found = []
        for generic, label, id_ in self.generics(record):
            name = generic.object_id
            if generic.may_dangle:
                continue
            if label is None:
                found.append(self.finding(NO_CONTENT_TYPE, number, record, name))
            elif not self.schema.models[label].has_natural_key:
                found.append(self.finding(NO_GENERIC_KEY, number, record, name))
            elif self.has_key(label) and self.row(Relation(label), id_) is None:
                found.append(self.finding(NO_GENERIC_TARGET, number, record, name))
        return found

    def text_findings(self, number: int, record: Record) -> list[Found]:
        """Texts that paths lead into and that are not JSON."""
        found = []
        for name, tree in self.trees(record).items():
            try:
                slots(tree, jsontext.raw_of(record["fields"][name]))
            except NotJsonError:
                found.append(self.finding(NOT_JSON, number, record, name))
        return found

    def embedded_findings(self, number: int, record: Record) -> list[Found]:
        """The ids inside fields that no record has."""
        return [
            self.finding(UNRESOLVED_INSIDE, number, record, slot.path)
            for name in self.trees(record)
            for slot in self.slots(record, name, jsontext.raw_of(record["fields"][name]))
            if self.has_key(slot.relation.to) and self.row(slot.relation, slot.id) is None
        ]

    def own_key_findings(self, number: int, record: Record) -> list[Found]:
        """At most one finding: a key that cannot be made has no null parts to speak of."""
        try:
            key = self.natural_key(record)
        except CannotMakeError:
            return [self.finding(UNMADE_KEY, number, record, None)]
        null = None in leaves(key)
        return [self.finding(NULL_KEY, number, record, None)] if null else []

    def duplicate_pk(self, number: int, record: Record, seen: set[tuple[str, str]]) -> list[Found]:
        id_ = canonical_id(record.get("pk"))
        if id_ is None:
            return []
        again = (record["model"], id_) in seen
        seen.add((record["model"], id_))
        return [self.finding(DUPLICATE_PK, number, record, None)] if again else []

    def duplicate_key(self, number: int, record: Record, seen: set[tuple[str, str]]) -> list[Found]:
        made = self.made_key(record) if self.is_legacy(record) else None
        if made is None:
            return []
        again = made in seen
        seen.add(made)
        return [self.finding(DUPLICATE_KEY, number, record, None)] if again else []

    def standing_keys(self) -> set[tuple[str, str]]:
        """The keys of records that are natural already."""
        keys = set()
        for _, record in self.numbered():
            if "natural_key" in record and self.has_key(record["model"]):
                keys.add((record["model"], json.dumps(record["natural_key"])))
            elif "pk" not in record and self.has_key(record["model"]):
                keys.add(self.made_key(record))
        return keys - {None}

    def made_key(self, record: Record) -> tuple[str, str] | None:
        try:
            return record["model"], json.dumps(self.natural_key(record))
        except CannotMakeError:
            return None

    # Output

    def converted(self, record: Record) -> Record:
        if record["model"] not in self.schema.models:
            return record
        key = self.key_or_none(record) if self.is_legacy(record) else None
        out: Record = {}
        for name, value in record.items():
            if name == "references" and isinstance(value, dict):
                out[name] = {**self.references(record), **value}
                continue
            if name == "fields":
                if "references" not in record and (references := self.references(record)):
                    out["references"] = references
                out[name] = {**self.parent_link(record), **self.converted_fields(record)}
                continue
            if name == "pk" and key is not None:
                if self.style == "fastnk":
                    out["natural_key"] = key
                if self.style == "django" or not self.schema.models[record["model"]].keep_pk:
                    continue
            out[name] = value
        return out

    def parent_link(self, record: Record) -> dict[str, Any]:
        return {
            name: self.reference(relation, record["pk"])
            if self.is_rewritten(relation)
            else record["pk"]
            for name, relation in self.relations_by_pk(record).items()
            if relation.parent_link
        }

    def references(self, record: Record) -> dict[str, Any]:
        """What neither the natural key nor the fields hold: a pk that is a foreign key, and the
        targets of generic relations."""
        if self.style == "django":
            return {}
        found: dict[str, Any] = {}
        for name, relation in self.relations_by_pk(record).items():
            if not relation.parent_link and self.schema.models[relation.to].has_natural_key:
                rewritten = self.is_rewritten(relation)
                key = self.reference(relation, record["pk"]) if rewritten else None
                if isinstance(key, list):
                    found[name] = key
                elif self.has_key(record["model"]):
                    # Its key takes the place of the pk, so nothing else would hold the id.
                    found[name] = record["pk"]
        for generic, label, id_ in self.generics(record):
            row = self.row(Relation(label), id_) if label and self.has_key(label) else None
            key = None if row is None else self.key_or_none(row)
            if key is not None:
                found[generic.object_id] = key
        return found

    def generics(self, record: Record) -> Iterator[tuple[GenericRelation, str | None, Any]]:
        """The generic relations whose ids the output holds as keys, the label of the target's
        model where it can be told, the id."""
        if self.style == "django":
            return
        for generic in self.schema.models[record["model"]].generic_relations.values():
            type_ = record["fields"].get(generic.content_type or generic.label)
            id_ = record["fields"].get(generic.object_id)
            is_id = type_ is not None and id_ is not None and not isinstance(id_, list)
            if is_id and not is_stated(record, generic.object_id):
                label = self.generic_target(record["model"], generic, type_)
                yield generic, label if label in self.schema.models else None, id_

    def generic_target(self, label: str, generic: GenericRelation, type_: Any) -> str | None:
        if generic.content_type is None:
            text = canonical_id(type_) or ""
            app, point, name = text.partition(".")
            return generic.labels.get(text) or f"{app}{point}{name.lower()}"
        if not isinstance(type_, list):
            row = self.row(self.relation(label, generic.content_type), type_)
            type_ = [row["fields"].get("app_label"), row["fields"].get("model")] if row else []
        return ".".join(type_) if all(isinstance(part, str) for part in type_) else None

    # Ids inside fields

    def trees(self, record: Record) -> dict[str, Tree]:
        """The fields of a record that hold ids inside, with the paths to those."""
        models = self.schema.models
        paths = {
            path: embedded
            for path, embedded in models[record["model"]].embedded.items()
            if self.embedded and models[embedded.to].has_natural_key
        }
        return {name: tree for name, tree in trees(paths).items() if name in record["fields"]}

    def slots(self, record: Record, name: str, text: str) -> list[Slot]:
        """The ids in a field, given as JSON; none in a text that cannot be read."""
        trees = self.trees(record)
        try:
            return slots(trees[name], text) if name in trees else []
        except NotJsonError:
            return []

    def spliced(self, record: Record, name: str, text: str) -> str:
        """The JSON text of a field with keys in place of the ids. All else stays as it is."""
        pieces, at = [], 0
        for slot in self.slots(record, name, text):
            pieces += [text[at : slot.start], self.written(slot, text[slot.start : slot.end])]
            at = slot.end
        return "".join([*pieces, text[at:]])

    def written(self, slot: Slot, id_: str) -> str:
        """What stands in the place of an id; the id itself where it stays."""
        key = self.key_at(slot)
        if key is None:
            return id_
        text = jsontext.raw_of(key)
        return _escaped(text) if slot.in_string else text

    def key_at(self, slot: Slot) -> list[Any] | None:
        row = self.row(slot.relation, slot.id) if self.has_key(slot.relation.to) else None
        return None if row is None else self.key_or_none(row)

    def keys_inside(self, record: Record) -> int:
        if record["model"] not in self.schema.models:
            return 0
        texts = {name: jsontext.raw_of(record["fields"][name]) for name in self.trees(record)}
        return sum(
            self.key_at(slot) is not None
            for name, text in texts.items()
            for slot in self.slots(record, name, text)
        )

    # Fields

    def converted_fields(self, record: Record) -> Record:
        relations = self.schema.models[record["model"]].relations
        trees = self.trees(record)
        out = {}
        for name, value in record["fields"].items():
            out[name] = value
            if name in relations:
                out[name] = self.relation_value(relations[name], value)
            elif name in trees:
                text = self.spliced(record, name, jsontext.raw_of(value))
                out[name] = jsontext.parse(text)[0].value
        return out

    def relation_value(self, relation: Relation, value: Any) -> Any:
        if not self.is_rewritten(relation):
            return value
        if relation.many and isinstance(value, list):
            return self.many_values(relation, value)
        return self.reference(relation, value)

    def many_values(self, relation: Relation, values: list[Any]) -> list[Any]:
        leave_out = self.policy(UNRESOLVED) == "null"
        return [
            self.reference(relation, value)
            for value in values
            if not (leave_out and self.is_unresolved(relation, value))
        ]

    def reference(self, relation: Relation, value: Any) -> Any:
        if value is None or isinstance(value, list):
            return value
        row = self.row(relation, value)
        if row is None:
            return None if self.policy(UNRESOLVED) == "null" else value
        key = self.key_or_none(row, relation if self.is_by_proxy(relation) else None)
        return value if key is None else key


def is_stated(record: Record, name: str) -> bool:
    """Whether a reference stands beside the fields already, or nothing can be put there."""
    references = record.get("references", {})
    return not isinstance(references, dict) or name in references


def _without_alias(part: str, pk: str) -> str:
    """`pk` and `pk|str` with the name of the pk field."""
    path, bar, transform = part.partition("|")
    return (pk if path == "pk" else path) + bar + transform


def _standing_at(parts: Sequence[KeyPart], path: str, key: Any, pk: str) -> list[Any]:
    """The values in `key` at the places where `path` stands in `parts`."""
    if not isinstance(key, list):
        return []
    found: list[Any] = []
    for part, value in zip(parts, key, strict=False):
        if isinstance(part, list):
            found += _standing_at(part, path, value, pk)
        elif _without_alias(part, pk) == path:
            found.append(value)
    return found
