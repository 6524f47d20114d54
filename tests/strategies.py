"""Hypothesis strategies: schemas, backups that fit them, and spellings of those.

A backup is drawn as plain data (`BackupData`), so that it shrinks to something readable; how it
is written as bytes is a `Spelling`, which shrinks to plain compact JSON.
"""

from __future__ import annotations

import copy
import json
import os
import random
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import msgspec
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from fastnk.schema import (
    ELEMENTS,
    Embedded,
    GenericRelation,
    KeyPart,
    Model,
    Relation,
    Schema,
    flat_parts,
    parse_path,
)
from tests.oracle import POLICY_OF, Record, Tree, convert, natural_key_of, trees

for _name, _examples in {"ci": 80, "dev": 200, "deep": 5000}.items():
    settings.register_profile(
        _name,
        max_examples=_examples,
        deadline=None,
        derandomize=_name == "ci",
        phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

BLOCK_SIZES = (1, 2, 3, 5, 7, 64, 65536)
STYLES = ("fastnk", "django")
KEEP = dict.fromkeys(POLICY_OF.values(), "keep")

LABELS = ("users.user", "documents.document", "workflows.workflow", "audit.entry")
PLAIN_FIELDS = ("code", "model", "größe", "position", "stamp", "flag")
RELATION_FIELDS = ("author", "parent", "document", "state")
MANY_FIELD = "reviewers"
LABEL_FIELD, OBJECT_FIELD = "kind", "object_id"
EMBEDDED_PATHS = (
    "data",
    "data.author",
    "data.items[].document",
    "data[].author",
    "data.größe[][]",
    "log",
    "log.author.id",
    "log[]",
)


class Verbatim(str):
    """A value that is written into the backup exactly as it stands."""


def pick(draw: st.DrawFn, values: Sequence[Any]) -> Any:
    """One of `values`. A strategy made anew for each choice would cost more than what is tested."""
    return values[draw(_place(len(values)))]


@cache
def _place(count: int) -> st.SearchStrategy[int]:
    return st.integers(0, count - 1)


# Schemas

_FIELDS_WITH_RELATIONS = st.lists(st.sampled_from(RELATION_FIELDS), max_size=3, unique=True)
_TEXTS_FOR_LABELS = st.sets(st.sampled_from(["doc", "é", "USER"]))
_EMBEDDED_PATHS = st.lists(st.sampled_from(EMBEDDED_PATHS), max_size=4, unique=True)


@st.composite
def schemas(draw: st.DrawFn) -> Schema:
    """One to four models that refer to each other in every way the schema knows."""
    labels = LABELS[: draw(st.integers(1, 4))]
    models = {label: _model(draw, label, labels) for label in labels}
    keys = {label: _natural_key(draw, models, label) for label in labels}
    return Schema.of(
        {label: msgspec.structs.replace(models[label], natural_key=keys[label]) for label in labels}
    )


def _model(draw: st.DrawFn, label: str, labels: Sequence[str]) -> Model:
    to_fields = (None, None, "code")
    names = draw(_FIELDS_WITH_RELATIONS)
    relations = {
        name: Relation(to=pick(draw, labels), to_field=pick(draw, to_fields)) for name in names
    }
    if draw(st.booleans()):
        relations[MANY_FIELD] = Relation(to=pick(draw, labels), many=True)
    pk = pick(draw, ("id", "id", "uuid", "user"))
    earlier = labels[: labels.index(label)]
    if pk == "user" and earlier:
        relations["user"] = Relation(to=pick(draw, earlier))
    return Model(
        pk=pk,
        relations=relations,
        generic_relations=_generics(draw, labels),
        embedded={
            path: Embedded(pick(draw, labels), pick(draw, to_fields))
            for path in _paths_inside(draw)
        },
    )


def _generics(draw: st.DrawFn, labels: Sequence[str]) -> dict[str, GenericRelation]:
    """Perhaps a generic relation whose model stands in the record as text."""
    if not pick(draw, (True, False, False)):
        return {}
    models = {text: pick(draw, labels) for text in draw(_TEXTS_FOR_LABELS)}
    generic = GenericRelation(
        label=LABEL_FIELD,
        object_id=OBJECT_FIELD,
        labels=models,
        may_dangle=pick(draw, (True, False)),
    )
    return {"target": generic}


def _paths_inside(draw: st.DrawFn) -> list[str]:
    paths = draw(_EMBEDDED_PATHS)
    return [path for path in paths if not any(one.startswith(f"{path}[]") for one in paths)]


def _natural_key(draw: st.DrawFn, models: dict[str, Model], label: str) -> list[KeyPart] | None:
    if not pick(draw, (True, True, True, False)):
        return None
    count = pick(draw, (1, 2, 3))
    parts: list[KeyPart] = [_path(draw, models, label) for _ in range(count)]
    if len(parts) > 1 and draw(st.booleans()):
        parts[1:] = [parts[1:]]
    return parts


def _path(draw: st.DrawFn, models: dict[str, Model], label: str) -> str:
    hops: list[str] = []
    while len(hops) < 3:
        single = [name for name, one in models[label].relations.items() if not one.many]
        if not single or not draw(st.booleans()):
            break
        hops.append(pick(draw, single))
        label = models[label].relations[hops[-1]].to
    model = models[label]
    pk = [] if model.pk in model.relations else [model.pk, "pk"]
    last = pick(draw, [*PLAIN_FIELDS, *pk])
    transforms = ["", "|isoformat"] if last == "stamp" else ["", "", "|str"]
    return "__".join([*hops, last]) + pick(draw, transforms)


# Backups


@dataclass
class BackupData:
    """Records that fit a schema, and records that only supply keys."""

    schema: Schema
    records: list[Record]
    keys: list[Record] = field(default_factory=list)


TEXTS = st.sampled_from(["", "DOC-2025-", "é", "a b", '"q"', "\\", "\n", "/", "\u2028", "😀"])
STAMPS = st.sampled_from(
    [
        "2025-01-02T03:04:05Z",
        "2025-01-02T03:04:05.120Z",
        "2025-01-02T03:04:05.123+02:00",
        "2025-01-02T03:04:05.000Z",
        "2025-01-02T03:04:05",
        "2025-01-02",
        "03:04:05.500",
    ]
)
ODD_NUMBERS = ["1E5", "-0", "1.0", "1e-7", "-12.50", "1" + "0" * 40, "0.1E+10"]
PLAIN_VALUES: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.sampled_from([Verbatim(number) for number in ODD_NUMBERS]),
    st.sampled_from([Verbatim("NaN"), Verbatim("Infinity"), Verbatim("-Infinity")]),
    st.sampled_from(["", "café", "😀", "\x00\x1f\x7f", "'[{", "}],", "\\\\", '"', "\\u00e9"]),
    st.sampled_from([Verbatim('"\\ud800"'), Verbatim('"\\uDC00\\uD83D"')]),
    st.just('{"model": "users.user", "pk": 1, "fields": {"author": 1}}'),
    st.sampled_from(
        [
            {"model": "users.user", "pk": 1, "fields": {"author": 1, "reviewers": [1]}},
            [[], {}, [{"fields": {"pk": 1}}], {"": [None]}],
            {"fields": [], "natural_key": ["x"], "author": 1},
        ]
    ),
)
EXTRA_MEMBERS = ("meta", "Model", "natural", "", "pk ", "fields2", "größe")


@st.composite
def backups(draw: st.DrawFn, *, flawed: bool = True) -> BackupData:
    """A schema and records of its models; without `flawed` there is nothing to find, whether the
    ids inside fields are converted or not."""
    schema = draw(schemas())
    data = _Builder(draw, schema).build()
    if flawed:
        add_flaws(draw, data)
        settle(data)
    else:
        remove_flaws(data)
    data.records = list(draw(st.permutations(data.records)))
    if not data.records:
        data.records.append(_filler(schema))
    return data


def _filler(schema: Schema) -> Record:
    """A record that nothing refers to and that refers to nothing."""
    return {"model": next(iter(schema.models)), "fields": {"code": "filler"}}


def add_flaws(draw: st.DrawFn, data: BackupData) -> None:
    names = draw(st.lists(st.sampled_from(sorted(FLAWS)), max_size=2, unique=True))
    for name in sorted(names):
        FLAWS[name](draw, data)


def settle(data: BackupData) -> None:
    """Leave out what the contract says nothing about: flaws that are no record's to report.

    These are rows of a keys backup whose keys have null parts or cannot be made, and records that
    say a natural key which is not theirs any more.
    """
    while unfit := [
        one for one in data.keys if natural_key_of(one, data.keys, data.schema) is None
    ]:
        data.keys = [one for one in data.keys if not any(one is other for other in unfit)]
        data.records += unfit
    both = [*data.records, *data.keys]
    for record in data.records:
        key = record.get("natural_key")
        if "pk" in record and key and natural_key_of(record, both, data.schema) != key:
            del record["natural_key"]


def remove_flaws(data: BackupData) -> None:
    """Take out records until the oracle finds nothing."""
    while True:
        both = [*data.records, *data.keys]
        findings = convert(both, data.schema, policies=KEEP, embedded=True).findings
        if not findings:
            return
        flawed = [both[found.record - 1] for found in findings]
        data.records = [one for one in data.records if not any(one is bad for bad in flawed)]
        data.keys = [one for one in data.keys if not any(one is bad for bad in flawed)]


class _Builder:
    """Draws records model by model: first ids, then what refers to them."""

    def __init__(self, draw: st.DrawFn, schema: Schema) -> None:
        self.draw = draw
        self.schema = schema
        self.counter = 0
        self.rows: dict[str, list[Record]] = {}
        self.ids_elsewhere: set[str] = set()
        """The ids that stand in other places than relations."""
        self.rests = _paths_beyond(schema)

    def build(self) -> BackupData:
        for label in self.schema.models:
            self.rows[label] = []
            for _ in range(self.draw(st.integers(0, 4))):
                self.add_row(label)
        for label, rows in self.rows.items():
            for row in rows:
                self.add_relations(label, row)
                self.add_generics(label, row)
                self.add_embedded(label, row)
                self.add_references(label, row)
        records = [row for rows in self.rows.values() for row in rows]
        keys: list[Record] = []
        if self.pick([False, False, False, True]):
            chosen = self.draw(st.lists(st.booleans(), min_size=len(records)))
            keys = [one for one, taken in zip(records, chosen, strict=False) if taken]
            records = [one for one in records if not any(one is key for key in keys)]
        records = [self.in_some_form(record, [*records, *keys]) for record in records]
        return BackupData(self.schema, records, keys)

    def pick(self, values: Sequence[Any]) -> Any:
        return pick(self.draw, values)

    def unique(self) -> int:
        self.counter += 1
        return self.counter

    def add_row(self, label: str) -> None:
        """A record with its pk and plain fields."""
        number = self.unique()
        pk = self.new_pk(label, number)
        if pk is None:
            return
        fields = {
            "code": f"{self.draw(TEXTS)}{number}",
            "model": f"{self.draw(TEXTS)}{number}",
            "größe": f"ß{number}",
            "position": number,
            "stamp": self.draw(STAMPS),
            "flag": self.draw(st.booleans()),
            "note": self.draw(PLAIN_VALUES),
        }
        self.rows[label].append({"model": label, "pk": pk, "fields": fields})

    def new_pk(self, label: str, number: int) -> Any:
        """An id that is free; None where the pk is a relation and all its targets are taken."""
        model = self.schema.models[label]
        if model.pk in model.relations:
            taken = [row["pk"] for row in self.rows[label]]
            free = [one for one in self.ids(model.relations[model.pk]) if one not in taken]
            return self.pick(free) if free else None
        return _free_pk(self.schema, label, number)

    def add_relations(self, label: str, row: Record) -> None:
        model = self.schema.models[label]
        for name, relation in model.relations.items():
            if name == model.pk:
                continue
            choices = ["some"] * 8 if self.rests.get((label, name)) else ["some"] * 4
            choice = self.pick([*choices, "none", "missing"])
            if choice == "some" and relation.many:
                count = self.draw(st.integers(0, 3)) if self.rows[relation.to] else 0
                row["fields"][name] = [self.reference(label, name) for _ in range(count)]
            elif choice == "some":
                row["fields"][name] = self.reference(label, name)
            elif choice == "none":
                row["fields"][name] = [] if relation.many else None

    def add_generics(self, label: str, row: Record) -> None:
        for generic in self.schema.models[label].generic_relations.values():
            labels = {
                text: to
                for text, to in ({one: one for one in self.schema.models} | generic.labels).items()
                if self.rows[to] and self.schema.models[to].natural_key is not None
            }
            if labels and self.draw(st.booleans()):
                text = self.pick(list(labels))
                is_label = text in self.schema.models
                app, _, name = text.partition(".")
                spellings = [text, f"{app}.{name.title()}", f"{app}.{name.upper()}"]
                spellings = spellings if is_label else [text]
                row["fields"][generic.label or ""] = self.pick(spellings)
                row["fields"][generic.object_id] = self.id_elsewhere(Relation(labels[text]))
            else:
                row["fields"][generic.label or ""] = self.pick(["doc", "?", None])
                row["fields"][generic.object_id] = self.pick([None, ["DOC"]])

    def add_references(self, label: str, row: Record) -> None:
        """Now and then some stand beside the fields already, as another conversion leaves them."""
        model = self.schema.models[label]
        names = [generic.object_id for generic in model.generic_relations.values()]
        names += [model.pk] if model.pk in model.relations else []
        if names and self.pick([True, *[False] * 7]):
            stated = {name: ["X", {"pk": 1}] for name in names if self.draw(st.booleans())}
            others = {"kind": None} if self.draw(st.booleans()) else {}
            row["references"] = self.pick([stated, {**others, **stated}, {}])

    def add_embedded(self, label: str, row: Record) -> None:
        for name, tree in trees(self.schema.models[label].embedded).items():
            if self.pick([True, True, True, False]):
                row["fields"][name] = self.value_of_field(tree)

    def value_of_field(self, tree: Tree) -> Any:
        """A JSON value with ids inside, or a text that holds such a value or is the id."""
        kind = self.pick(["value", "value", "text", "text", "empty"])
        if kind == "empty":
            return ""
        value = self.value_inside(tree)
        if kind == "value":
            return None if isinstance(value, str) else value
        if tree.steps:
            return self.as_text(value)
        return str(value) if isinstance(value, str | int) else json.dumps(["DOC"])

    def as_text(self, value: Any) -> str:
        """JSON, now and then in an odd spelling and with a member that comes again."""
        spelling = Spelling(
            loose=self.draw(st.booleans()),
            escapes=self.draw(st.booleans()),
            ascii=self.draw(st.booleans()),
            seed=self.draw(st.integers(0, 2**16)),
        )
        text = _Writer(spelling).value(value, 0)
        if isinstance(value, dict) and value and self.draw(st.booleans()):
            name = self.pick(list(value))
            again = _Writer(spelling).value({name: value[name]}, 0).strip("{}")
            text = "{" + again + "," + text[1:]
        return text

    def value_inside(self, tree: Tree) -> Any:
        """A value with ids where the paths of `tree` end, and other values beside them."""
        members = {name: below for name, below in tree.steps.items() if name != ELEMENTS}
        kinds = ["members"] * bool(members) + ["elements"] * (ELEMENTS in tree.steps)
        kinds += ["id"] * (tree.relation is not None)
        kind = self.pick(kinds * 4 + ["odd"])
        if kind == "members":
            names = self.draw(st.lists(st.sampled_from([*members, "note", ELEMENTS]), unique=True))
            return {
                name: self.value_inside(members[name]) if name in members else self.value_beside()
                for name in names
            }
        if kind == "elements":
            count = self.draw(st.integers(0, 3))
            return [self.value_inside(tree.steps[ELEMENTS]) for _ in range(count)]
        if kind == "id" and tree.relation is not None and self.ids(tree.relation):
            return self.id_elsewhere(tree.relation)
        return self.pick([None, True, [], {}, ["DOC", ["x"]], {"id": 1}])

    def value_beside(self) -> Any:
        """What no path leads to, much like what a path leads to."""
        values = [1, -1.5, 'é\n"\\/', "", {"author": 1}, [1, {"author": "1"}], 10**20]
        return self.pick(values)

    def id_elsewhere(self, relation: Relation) -> Any:
        id_ = self.pick(self.ids(relation))
        self.ids_elsewhere.add(str(id_))
        return self.pick([id_, id_, str(id_)])

    def ids(self, relation: Relation) -> list[Any]:
        rows = self.rows[relation.to]
        if relation.to_field is None:
            return [row["pk"] for row in rows]
        return [row["fields"][relation.to_field] for row in rows]

    def reference(self, label: str, name: str) -> Any:
        relation = self.schema.models[label].relations[name]
        ids = self.ids(relation)
        target = self.schema.models[relation.to]
        if self.pick([False, False, False, True]) and self.may_be_natural(label, name):
            return self.natural_value(target.natural_key or [])
        if not ids:
            return None
        id_ = self.pick(ids)
        return self.pick([id_, id_, id_, id_, str(id_)])

    def may_be_natural(self, label: str, name: str) -> bool:
        """Whether a natural key in this field holds all that other keys take through it."""
        relation = self.schema.models[label].relations[name]
        key = self.schema.models[relation.to].natural_key
        if key is None:
            return False
        standing = set(flat_parts(key))
        rests = self.rests.get((label, name), set())
        return all({rest, rest.partition("|")[0]} & standing for rest in rests)

    def natural_value(self, parts: Sequence[KeyPart]) -> list[Any]:
        return [
            f"{self.draw(TEXTS)}n{self.unique()}"
            if isinstance(part, str)
            else self.natural_value(part)
            for part in parts
        ]

    def in_some_form(self, record: Record, others: Sequence[Record]) -> Record:
        """The record as a legacy or, when nothing refers to it by id, as a natural one."""
        key = self.schema.models[record["model"]].natural_key
        if key is None:
            return record
        forms = ["legacy"] * 6 + ["both"]
        if not self.is_referred_to(record, others):
            forms += ["fastnk", "django"]
        form = self.pick(forms)
        without_pk = {name: value for name, value in record.items() if name != "pk"}
        if form == "fastnk":
            return {**without_pk, "natural_key": self.natural_value(key)}
        if form == "both":
            own_key = natural_key_of(record, others, self.schema)
            return record if own_key is None else {**record, "natural_key": own_key}
        return without_pk if form == "django" else record

    def is_referred_to(self, record: Record, others: Sequence[Record]) -> bool:
        ids = {str(record["pk"]), record["fields"]["code"]}
        if ids & self.ids_elsewhere:
            return True
        for row in others:
            model = self.schema.models[row["model"]]
            values = [row["fields"].get(name) for name in model.relations]
            values.append(row["pk"] if model.pk in model.relations else None)
            for value in values:
                several = value if isinstance(value, list) else [value]
                if any(not isinstance(one, list) and str(one) in ids for one in several):
                    return True
        return False


def _paths_beyond(schema: Schema) -> dict[tuple[str, str], set[str]]:
    """For each relation (model, name), what natural keys take through it."""
    beyond: dict[tuple[str, str], set[str]] = {}
    for start, model in schema.models.items():
        for path in flat_parts(model.natural_key or []):
            label, rest = start, path
            for hop in parse_path(path).hops:
                rest = rest.partition("__")[2]
                beyond.setdefault((label, hop), set()).add(rest)
                label = schema.models[label].relations[hop].to
    return beyond


def _free_pk(schema: Schema, label: str, number: int) -> Any:
    if schema.models[label].pk == "uuid":
        return str(uuid.UUID(int=number))
    return number + 100 if LABELS.index(label) % 2 == 0 else f"ké{number}"


# Records that two ids, or none, tell apart


RIVALS = Schema.of(
    {
        "users.user": Model(
            natural_key=["model"],
            relations={
                "parent": Relation("users.user"),
                "author": Relation("users.user", to_field="code"),
                MANY_FIELD: Relation("users.user", many=True),
            },
        ),
        "audit.entry": Model(relations={"author": Relation("users.user", to_field="code")}),
        "documents.document": Model(
            natural_key=["author__model", "model"],
            relations={"author": Relation("users.user"), "parent": Relation("audit.entry")},
        ),
    }
)


@st.composite
def backups_with_rivals(draw: st.DrawFn) -> BackupData:
    """Records of which several have one pk, or one value that others refer to them by, or no pk at
    all, and whose references now and then lead nowhere."""
    labels = st.sampled_from([*RIVALS.models, "users.user"])
    records = [_rival(draw, label, n) for n, label in enumerate(draw(st.lists(labels, max_size=9)))]
    keys = []
    if draw(st.booleans()):
        keys = [_rival(draw, "users.user", 100), _rival(draw, "users.user", 101)]
    for n, key in enumerate(keys):
        key.update(pk=n + 3, fields={"model": f"{n}", "code": f"k{n}"})
    # Of lines that are all left out nothing remains, not even a backup.
    records.append({"model": "audit.entry", "pk": 9, "fields": {}})
    return BackupData(RIVALS, records, keys)


def _rival(draw: st.DrawFn, label: str, number: int) -> Record:
    codes = st.sampled_from(["a", "b", "c", "k1", None])
    pks = st.integers(1, 4)
    fields: Record = {"code": draw(codes), "model": f"m{number}"}
    for name, relation in RIVALS.models[label].relations.items():
        ids = codes if relation.to_field else pks | st.none()
        fields[name] = draw(st.lists(pks, max_size=2)) if relation.many else draw(ids)
    record: Record = {"model": label, "pk": draw(pks), "fields": fields}
    if RIVALS.models[label].natural_key and draw(st.sampled_from([False, False, True])):
        del record["pk"]
    return record


# Flaws: each takes sound records and makes one thing wrong


def _dangle(draw: st.DrawFn, data: BackupData) -> None:
    """Some references hold an id that no row has."""
    places = [
        (record["fields"], name, relation)
        for record in data.records
        for name, relation in data.schema.models[record["model"]].relations.items()
        if name in record["fields"]
    ]
    if not places:
        return
    indexes = st.lists(st.integers(0, len(places) - 1), min_size=1, max_size=3, unique=True)
    for index in draw(indexes):
        fields, name, relation = places[index]
        id_ = pick(draw, [9999, "gone", str(uuid.UUID(int=9999))])
        fields[name] = [*(fields[name] or []), id_] if relation.many else id_


def _repeat_pk(draw: st.DrawFn, data: BackupData) -> None:
    """Another record with the pk of one that is there already."""
    originals = _found_by_pk_only(data)
    if originals:
        twin = copy.deepcopy(pick(draw, originals))
        twin["fields"].update(code="twin", model="twin", größe="twin", position=-1)
        data.records.append(twin)


def _repeat_key(draw: st.DrawFn, data: BackupData) -> None:
    """Another record with the fields, and so mostly the key, of one that is there already."""
    models = data.schema.models
    originals = [
        record
        for record in _found_by_pk_only(data)
        if models[record["model"]].pk not in models[record["model"]].relations
    ]
    if originals:
        twin = copy.deepcopy(pick(draw, originals))
        twin["pk"] = _free_pk(data.schema, twin["model"], 7777)
        data.records.append(twin)


def _found_by_pk_only(data: BackupData) -> list[Record]:
    """The legacy records of models that nothing looks up by another field."""
    by_field = {
        relation.to
        for model in data.schema.models.values()
        for relation in (*model.relations.values(), *model.embedded.values())
        if relation.to_field
    }
    return [one for one in data.records if is_legacy(one) and one["model"] not in by_field]


def _null_part(draw: st.DrawFn, data: BackupData) -> None:
    """A plain field that a key may need is null or missing."""
    if data.records:
        record = pick(draw, data.records)
        name = pick(draw, PLAIN_FIELDS)
        if draw(st.booleans()):
            record["fields"][name] = None
        else:
            record["fields"].pop(name, None)


def _dangle_by_label(draw: st.DrawFn, data: BackupData) -> None:
    """A generic relation leads to no model, to no record, or to one without a natural key."""
    models = data.schema.models
    places = [one["fields"] for one in data.records if models[one["model"]].generic_relations]
    if places:
        fields = pick(draw, places)
        fields[LABEL_FIELD] = pick(draw, ["no.model", "", 5, *models])
        fields[OBJECT_FIELD] = pick(draw, [9999, "gone"])


def _dangle_inside(draw: st.DrawFn, data: BackupData) -> None:
    """A field holds an id that no row has."""
    places = _places_of_paths(data)
    if places:
        fields, name, tree = pick(draw, places)
        value = _with_id(tree, pick(draw, [9999, "gone", 1.5]))
        is_text = not isinstance(value, str) and draw(st.booleans())
        fields[name] = json.dumps(value) if is_text else value


def _with_id(tree: Tree, id_: Any) -> Any:
    """A value that holds an id at the end of a path."""
    if tree.relation is not None:
        return id_
    step, below = next(iter(tree.steps.items()))
    value = _with_id(below, id_)
    return [value, value] if step == ELEMENTS else {step: value}


def _break_text(draw: st.DrawFn, data: BackupData) -> None:
    """A text that paths lead into is not JSON."""
    places = [(fields, name) for fields, name, tree in _places_of_paths(data) if tree.steps]
    if places:
        fields, name = pick(draw, places)
        texts = [" ", "{'author': 1}", '{"author": 5, }', "[1", "[1] 2", '["\n"]', "gone", "01"]
        fields[name] = pick(draw, texts)


def _places_of_paths(data: BackupData) -> list[tuple[Record, str, Tree]]:
    return [
        (record["fields"], name, tree)
        for record in data.records
        for name, tree in trees(data.schema.models[record["model"]].embedded).items()
    ]


def _add_stranger(_draw: st.DrawFn, data: BackupData) -> None:
    """A record of a model that the schema does not know. Applied last: see `FLAWS`."""
    data.records.append({"model": "other.thing", "pk": 1, "fields": {"author": 1}})


def is_legacy(record: Record) -> bool:
    return record.get("pk") is not None and "natural_key" not in record


FLAWS: dict[str, Callable[[st.DrawFn, BackupData], None]] = {
    "1 null part": _null_part,
    "2 dangling id": _dangle,
    "3 duplicate pk": _repeat_pk,
    "4 duplicate key": _repeat_key,
    "5 dangling generic relation": _dangle_by_label,
    "6 dangling id inside a field": _dangle_inside,
    "7 text that is not JSON": _break_text,
    "8 unknown model": _add_stranger,
}
"""The numbers give the order in which they are applied."""


# Spellings


@dataclass(frozen=True)
class Spelling:
    """How a backup is written. The default is compact JSON as `json.dumps` writes it."""

    lines: bool = False
    indent: int | None = None
    shuffle: bool = False
    loose: bool = False
    """Random white space between tokens."""
    escapes: bool = False
    """Random escapes in strings, member names among them."""
    ascii: bool = False
    extras: bool = False
    """Unknown members in records."""
    seed: int = 0

    def write(self, records: Sequence[Record]) -> bytes:
        return _Writer(self).write(records).encode()


@st.composite
def spellings(draw: st.DrawFn) -> Spelling:
    lines = draw(st.booleans())
    return Spelling(
        lines=lines,
        indent=None if lines else pick(draw, [None, 0, 1, 2, 4]),
        shuffle=draw(st.booleans()),
        loose=draw(st.booleans()),
        escapes=draw(st.booleans()),
        ascii=draw(st.booleans()),
        extras=draw(st.booleans()),
        seed=draw(st.integers(0, 2**16)),
    )


class _Writer:
    """Writes JSON by hand: `json.dumps` knows only one spelling."""

    def __init__(self, spelling: Spelling) -> None:
        self.spelling = spelling
        self.random = random.Random(spelling.seed)
        self.blanks = " \t" if spelling.lines else " \t\n\r"

    def write(self, records: Sequence[Record]) -> str:
        texts = [self.value(self.prepared(record), 1) for record in records]
        if self.spelling.lines:
            return self.joined_lines(texts)
        return self.blank() + self.wrapped("[", texts, "]", 0) + self.blank() + "\n"

    def joined_lines(self, texts: list[str]) -> str:
        ends = ["\n", "\r\n", "\n\n", "\n \t\n"] if self.spelling.loose else ["\n"]
        text = "".join(text + self.random.choice(ends) for text in texts)
        return text.rstrip() if self.spelling.loose and self.random.random() < 0.3 else text

    def prepared(self, record: Record) -> Record:
        members = list(record.items())
        if self.spelling.extras:
            names = self.random.sample(EXTRA_MEMBERS, 2)
            members += [(name, self.extra()) for name in names]
        if self.spelling.shuffle:
            self.random.shuffle(members)
        fields = list(record["fields"].items())
        if self.spelling.shuffle:
            self.random.shuffle(fields)
        return {**dict(members), "fields": dict(fields)}

    def extra(self) -> Any:
        choices = [None, "x", {"pk": 1, "model": "a.b", "fields": {"author": 1}}, [[1], {}]]
        return self.random.choice([*choices, Verbatim("-0.0"), Verbatim("NaN")])

    def value(self, value: Any, depth: int) -> str:
        if isinstance(value, Verbatim):
            return str(value)
        if isinstance(value, dict):
            members = [
                self.string(name) + self.blank() + self.colon() + self.value(member, depth + 1)
                for name, member in value.items()
            ]
            return self.wrapped("{", members, "}", depth)
        if isinstance(value, list):
            return self.wrapped("[", [self.value(one, depth + 1) for one in value], "]", depth)
        if isinstance(value, str):
            return self.string(value)
        return json.dumps(value)

    def colon(self) -> str:
        return ":" + (self.blank() if self.spelling.loose else " ")

    def wrapped(self, opening: str, texts: list[str], closing: str, depth: int) -> str:
        if self.spelling.indent is None or not texts:
            comma = "," if self.spelling.loose else ", "
            padded = [self.blank() + text + self.blank() for text in texts]
            return opening + comma.join(padded) + closing
        start = "\n" + " " * self.spelling.indent * (depth + 1)
        end = "\n" + " " * self.spelling.indent * depth
        return opening + ",".join(start + text + self.blank() for text in texts) + end + closing

    def blank(self) -> str:
        if not self.spelling.loose or self.random.random() < 0.6:
            return ""
        return "".join(self.random.choices(self.blanks, k=self.random.choice([1, 1, 2, 70])))

    def string(self, value: str) -> str:
        return '"' + "".join(self.character(one) for one in value) + '"'

    def character(self, one: str) -> str:
        odd = self.spelling.escapes and self.random.random() < 0.15
        if one in SHORT_ESCAPES and not (odd and one not in '"\\/'):
            must = one in '"\\' or one < " "
            return SHORT_ESCAPES[one] if must or odd else one
        if odd or one < " " or (self.spelling.ascii and one > "~"):
            return self.hexadecimal(one)
        return one

    def hexadecimal(self, one: str) -> str:
        units = one.encode("utf-16-be", "surrogatepass")
        codes = [units[i : i + 2].hex() for i in range(0, len(units), 2)]
        if self.spelling.escapes:
            codes = [code.upper() if self.random.random() < 0.5 else code for code in codes]
        return "".join("\\u" + code for code in codes)


SHORT_ESCAPES = {
    '"': '\\"',
    "\\": "\\\\",
    "/": "\\/",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
}
