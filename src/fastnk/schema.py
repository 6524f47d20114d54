"""The schema: which fields hold keys of which model, and what natural keys are made of.

Plain data that every layer may read; no Django. The document is described in `docs/schema.md`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from fastnk.errors import OutputError, SchemaError, did_you_mean

VERSION = 1
MAKE_ONE = "fastnk schema django --settings mysite.settings -o schema.json"
"""What to do without a schema."""
OR_GUESS_ONE = f"{MAKE_ONE}; where there is no project: fastnk schema infer BACKUP -o schema.json"
TRANSFORMS = ("str", "isoformat")
"""What may stand after `|` in a key part: Python's `str()` and `datetime.isoformat()`."""

CONTENT_TYPE = "content_type"
OBJECT_IDS = ("object_id", "object_pk")
"""How the two fields of a generic relation are called, by default in Django, and by habit."""

ELEMENTS = "[]"
"""The step of an embedded path that goes to each element of a list."""
MAX_EMBEDDED_STEPS = 32

KeyPart = str | list[Any]
"""A path (`document__document_number`, `id|str`), or a list of key parts for a nested key."""


class Relation(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A field that holds keys of another model (or of its own)."""

    to: str
    """The label of the target model."""
    to_field: str | None = None
    """The field of the target whose value is held; `None` for its pk."""
    many: bool = False
    """Whether the field holds a list of keys (many-to-many)."""
    parent_link: bool = False
    """Whether this is the pk by which a row with a table of its own continues its parent's row."""
    natural_key: list[KeyPart] | None = None
    """The key that Django writes here, where a proxy makes another one than its model does."""
    natural_key_method: str | None = None
    """The method that makes it, where no parts can tell."""

    @property
    def has_natural_key(self) -> bool:
        """Whether a key of its own is written here, and not that of the target."""
        return self.natural_key is not None or self.natural_key_method is not None


class GenericRelation(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """A pair of fields that together refer to a record of any model."""

    object_id: str
    """The field that holds the id."""
    content_type: str | None = None
    """The relation to the content type of the record, or else"""
    label: str | None = None
    """a field that holds the label of its model as text."""
    labels: dict[str, str] = {}
    """What that text may be besides a label: text to label."""
    may_dangle: bool = False
    """Whether it may name rows that are gone, as a log does; their ids stay and are counted."""

    @property
    def kind(self) -> str:
        """The field that says which model is meant."""
        return self.content_type or self.label or ""


class Embedded(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A place inside a JSON or text field that holds keys of another model."""

    to: str
    to_field: str | None = None


class Model(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What fastnk knows of one model."""

    pk: str = "id"
    """The name of the pk field. A pk that is a relation is listed in `relations` too."""
    natural_key: list[KeyPart] | None = None
    """The parts of the natural key in order; `None` where the model has none, or a method does."""
    natural_key_method: str | None = None
    """The method that makes the natural key where no parts can tell: `app.models.Book.natural_key`.
    It is called on instances made of the backup's records."""
    relations: dict[str, Relation] = {}
    generic_relations: dict[str, GenericRelation] = {}
    embedded: dict[str, Embedded] = {}
    """By path: `old_values.author`, `items[].document`, `author` for a field that is the id."""
    keep_pk: bool = False
    """Whether the pk says something of its own: no database made it, no key holds it."""
    proxies: list[str] = []
    """The labels of its proxies: records and content types with these mean its rows."""

    def __post_init__(self) -> None:
        if self.pk == "id":
            # msgspec leaves out what is the default, not what is merely equal to it.
            msgspec.structs.force_setattr(self, "pk", "id")

    @property
    def has_natural_key(self) -> bool:
        return self.natural_key is not None or self.natural_key_method is not None

    @property
    def pk_says_something(self) -> bool:
        """Whether more is lost than a number when the natural key takes the place of the pk."""
        if not self.has_natural_key:
            return False
        relation = self.relations.get(self.pk)
        if relation is not None:
            return not relation.parent_link
        return self.keep_pk or not {"pk", self.pk}.isdisjoint(flat_parts(self.natural_key or ()))


class KeyPath(NamedTuple):
    """One parsed key part: the relations to follow, the field at the end, a transform."""

    hops: tuple[str, ...]
    field: str
    transform: str | None


class Schema(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All models of a system. Checked when it is made by `load`, `loads` or `of`."""

    version: int
    models: dict[str, Model]

    @classmethod
    def of(cls, models: dict[str, Model]) -> Schema:
        """A checked schema of `models`, label to model. Raises `SchemaError`."""
        schema = cls(version=VERSION, models=models)
        schema.check()
        return schema

    @classmethod
    def loads(cls, document: bytes | str, name: str = "schema") -> Schema:
        """The schema in a JSON document. Raises `SchemaError` that names the place."""
        try:
            schema = _decode(document, name)
            schema.check()
        except (msgspec.DecodeError, UnicodeError) as error:
            raise SchemaError(f"{name} is not JSON: {error}", remedy=MAKE_ONE) from None
        except RecursionError:
            raise SchemaError(f"{name} is nested too deep") from None
        return schema

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Schema:
        """The schema in a file. Raises `SchemaError` that names the place."""
        try:
            document = Path(path).read_bytes()
        except OSError as error:
            raise SchemaError(
                f"cannot read the schema {os.fspath(path)}: {error.strerror}",
                remedy=OR_GUESS_ONE,
            ) from None
        return cls.loads(document, os.fspath(path))

    def dumps(self) -> bytes:
        """The schema as an indented JSON document."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the schema to a file. Raises `OutputError`."""
        try:
            Path(path).write_bytes(self.dumps())
        except OSError as error:
            raise OutputError(
                f"cannot write the schema {os.fspath(path)}: {error.strerror}"
            ) from None

    def check(self) -> None:
        """Raise `SchemaError` for the first thing that does not hold together."""
        if self.version != VERSION:
            raise SchemaError(
                f"schema version {self.version} is not known; this fastnk reads {VERSION}",
                place="version",
            )
        for label, model in self.models.items():
            _check_model(self, label, model)
        _check_proxies(self)
        try:
            msgspec.json.encode(self)
        except UnicodeEncodeError as error:
            what = f"{error.object!r} is no name: it holds half a surrogate pair"
            raise SchemaError(what) from None

    @property
    def proxies(self) -> dict[str, str]:
        """Which model each proxy stands for."""
        return {proxy: label for label, model in self.models.items() for proxy in model.proxies}

    @property
    def has_firm_generics(self) -> bool:
        """Whether there are generic relations that may not dangle."""
        return any(
            not generic.may_dangle
            for model in self.models.values()
            for generic in model.generic_relations.values()
        )

    def target(self, label: str, field: str) -> str | None:
        """The model that `field` of model `label` refers to; `None` for a plain field."""
        relation = self.models[label].relations.get(self.field_name(label, field))
        return None if relation is None else relation.to

    def spelled_out(self, label: str, path: str) -> str:
        """`path` with the names of pk fields in place of Django's alias `pk`."""
        *hops, field = path.split("__")
        names = []
        for hop in hops:
            names.append(self.field_name(label, hop))
            label = self.models[label].relations[names[-1]].to
        return "__".join([*names, self.field_name(label, field)])

    def places(
        self, label: str, parts: Iterable[KeyPart]
    ) -> dict[tuple[str, str | None], tuple[int, ...]]:
        """Where each path, by its spelling and transform, stands in a natural key of model `label`:
        the number of the part, of the part in that part, …"""
        found: dict[tuple[str, str | None], tuple[int, ...]] = {}
        for number, part in enumerate(parts):
            if isinstance(part, str):
                path, _, transform = part.partition("|")
                found.setdefault((self.spelled_out(label, path), transform or None), (number,))
            else:
                for inner, place in self.places(label, part).items():
                    found.setdefault(inner, (number, *place))
        return found

    def by_column_names(self) -> Schema:
        """The same, with relations also under the names of their columns: a record that is written
        by hand, or made of rows, may have an `author_id`, which Django takes for the `author`."""
        models = {
            label: msgspec.structs.replace(model, relations=_columns_of(model) | model.relations)
            for label, model in self.models.items()
        }
        return msgspec.structs.replace(self, models=models)

    def field_name(self, label: str, field: str) -> str:
        """`field` with Django's alias `pk` replaced by the name of the pk field."""
        return self.models[label].pk if field == "pk" else field


def column_name(relation: str) -> str:
    """What Django calls the column of a relation."""
    return f"{relation}_id"


def _columns_of(model: Model) -> dict[str, Relation]:
    """The relations of a model by the names of their columns, where nothing else is called so."""
    generics = model.generic_relations.values()
    taken = {model.pk, *(one.object_id for one in generics), *(one.kind for one in generics)}
    taken |= {embedded_steps(path)[0] for path in model.embedded}
    return {
        column_name(name): relation
        for name, relation in model.relations.items()
        if not relation.many and name != model.pk and column_name(name) not in taken
    }


def parse_path(part: str) -> KeyPath:
    """Take `document__document_number|str` apart. Checks nothing but the form."""
    path, _, transform = part.partition("|")
    *hops, field = path.split("__")
    return KeyPath(tuple(hops), field, transform or None)


def embedded_steps(path: str) -> list[str]:
    """Take `items[].document` apart: `items`, `[]`, `document`. Checks nothing but the form."""
    return [step for member in path.split(".") for step in _member_steps(member)]


def _member_steps(member: str) -> list[str]:
    name = member
    while name.endswith(ELEMENTS):
        name = name.removesuffix(ELEMENTS)
    return [name, *[ELEMENTS] * ((len(member) - len(name)) // len(ELEMENTS))]


def plain_label(text: str) -> str:
    """The label that Django reads `text` as: `auth.User` is `auth.user`; apps keep their case."""
    if text.islower():
        return text
    app, point, name = text.partition(".")
    return f"{app}{point}{name.lower()}"


def model_name(label: str) -> str:
    """The name of a model without its app: `user` of `auth.user`."""
    return label.rpartition(".")[2]


def flat_parts(parts: Iterable[KeyPart]) -> Iterator[str]:
    """The paths of a natural key in order, nested lists flattened."""
    for part in parts:
        if isinstance(part, str):
            yield part
        else:
            yield from flat_parts(part)


def _check_model(schema: Schema, label: str, model: Model) -> None:
    place = f"models.{label}"
    _check_form(label, place)
    for field, relation in model.relations.items():
        _check_relation(schema, model, field, relation, f"{place}.relations.{field}")
    for name, generic in model.generic_relations.items():
        _check_generic(schema, label, generic, f"{place}.generic_relations.{name}")
    lists = _lists_inside(model)
    for path, embedded in model.embedded.items():
        here = f"{place}.embedded.{path}"
        _check_label(schema, embedded.to, f"{here}.to")
        _check_embedded_path(model, path, lists, here)
    _check_key(schema, label, model, place)


def _check_form(label: str, place: str) -> None:
    app, _, name = label.partition(".")
    if not app or not name or "." in name or label != plain_label(label):
        raise SchemaError(
            f'"{label}" is not a model label',
            place=place,
            remedy='write "app.model", the model in lower case',
        )


def _check_proxies(schema: Schema) -> None:
    """Each label means one model."""
    taken = dict.fromkeys(schema.models, "a model of its own")
    for label, model in schema.models.items():
        for number, proxy in enumerate(model.proxies):
            place = f"models.{label}.proxies[{number}]"
            _check_form(proxy, place)
            if proxy in taken:
                raise SchemaError(f'"{proxy}" is {taken[proxy]}', place=place)
            taken[proxy] = f"a proxy of {label}"


def _check_relation(
    schema: Schema, model: Model, field: str, relation: Relation, place: str
) -> None:
    _check_label(schema, relation.to, f"{place}.to")
    if relation.parent_link and (field != model.pk or relation.many or relation.to_field):
        raise SchemaError(
            f'"{field}" is not the pk of the model and of its parent in one',
            place=f"{place}.parent_link",
            remedy=f'leave it out; the pk is "{model.pk}"',
        )
    _check_key(schema, relation.to, relation, place)


def _check_generic(schema: Schema, label: str, generic: GenericRelation, place: str) -> None:
    if (generic.content_type is None) == (generic.label is None):
        raise SchemaError(
            "a generic relation has a content type or a label, one of them",
            place=place,
            remedy='write {"content_type": "content_type", "object_id": "object_id"}',
        )
    if generic.content_type is not None and schema.target(label, generic.content_type) is None:
        raise SchemaError(
            f'"{generic.content_type}" is not a relation of {label}',
            place=f"{place}.content_type",
            remedy='list it in relations, to the content type model; a field that holds "app.model"'
            " as text is a label",
        )
    for text, target in generic.labels.items():
        _check_label(schema, target, f"{place}.labels.{text}")


def _check_key(schema: Schema, label: str, holder: Model | Relation, place: str) -> None:
    """The natural key of `label` that stands in `holder`."""
    if holder.natural_key is None:
        return
    if holder.natural_key_method is not None:
        raise SchemaError(
            "a natural key is made of its parts or by a method, not both",
            place=f"{place}.natural_key_method",
            remedy="leave one of them out",
        )
    if not holder.natural_key:
        raise SchemaError(
            "an empty natural key identifies nothing",
            place=f"{place}.natural_key",
            remedy="name its parts, or leave natural_key out",
        )
    _check_parts(schema, label, holder.natural_key, f"{place}.natural_key")


def _lists_inside(model: Model) -> set[tuple[str, ...]]:
    """The steps to each list that embedded paths lead into."""
    paths = [embedded_steps(path)[: MAX_EMBEDDED_STEPS + 1] for path in model.embedded]
    return {
        tuple(steps[:end])
        for steps in paths
        for end, step in enumerate(steps, start=1)
        if step == ELEMENTS
    }


def _check_embedded_path(model: Model, path: str, lists: set[tuple[str, ...]], place: str) -> None:
    steps = embedded_steps(path)
    if not all(steps) or steps[0] == ELEMENTS:
        raise SchemaError(
            f'"{path}" is not a path into a field',
            place=place,
            remedy='write "field.member", "field[].member" or "field"',
        )
    if len(steps) > MAX_EMBEDDED_STEPS:
        raise SchemaError(
            f"a path into a field has at most {MAX_EMBEDDED_STEPS} steps", place=place
        )
    if steps[0] in model.relations or steps[0] in ("pk", model.pk):
        raise SchemaError(
            f'"{steps[0]}" holds an id of its own', place=place, remedy="list it in relations only"
        )
    if (*steps, ELEMENTS) in lists:
        raise SchemaError(
            f'a list at "{path}" could be a natural key, or the list that "{path}[]" leads into',
            place=place,
            remedy="declare one of the two",
        )


def _check_parts(schema: Schema, label: str, parts: list[KeyPart], place: str) -> None:
    for number, part in enumerate(parts):
        here = f"{place}[{number}]"
        if isinstance(part, str):
            _check_path(schema, label, part, here)
        elif isinstance(part, list) and part:
            _check_parts(schema, label, part, here)
        else:
            raise SchemaError(
                f"{part!r} is not a key part", place=here, remedy="write a path or a list of paths"
            )


def _check_path(schema: Schema, label: str, part: str, place: str) -> None:
    hops, field, transform = parse_path(part)
    if not all((*hops, field)):
        raise SchemaError(f'"{part}" is not a path', place=place, remedy='write "field__field"')
    if transform is not None and transform not in TRANSFORMS:
        raise SchemaError(
            f'no transform "{transform}"{did_you_mean(transform, TRANSFORMS)}',
            place=place,
            remedy=f"one of {', '.join(TRANSFORMS)}",
        )
    for hop in hops:
        target = schema.target(label, hop)
        if target is None:
            raise SchemaError(
                f'"{hop}" is not a relation of {label}'
                f"{did_you_mean(hop, schema.models[label].relations)}",
                place=place,
                remedy="a path follows relations and ends at a field",
            )
        if schema.models[label].relations[schema.field_name(label, hop)].many:
            raise SchemaError(f'"{hop}" of {label} holds many keys', place=place)
        label = target
    if schema.target(label, field) is not None and field != "pk":
        raise SchemaError(
            f'"{part}" ends at a relation',
            place=place,
            remedy=f'go on to a field of {schema.target(label, field)}, as in "{part}__name"',
        )


def _check_label(schema: Schema, label: str, place: str) -> None:
    if label not in schema.models:
        raise SchemaError(f'no model "{label}"{did_you_mean(label, schema.models)}', place=place)


def _decode(document: bytes | str, name: str) -> Schema:
    try:
        return msgspec.json.decode(document, type=Schema)
    except msgspec.ValidationError as error:
        what, place = _locate(msgspec.json.decode(document), error)
        remedy = None if place else MAKE_ONE
        raise SchemaError(f"{name}: {what}", place=place or name, remedy=remedy) from None


_NAMED: dict[str, Any] = {
    "models": Model,
    "relations": Relation,
    "generic_relations": GenericRelation,
    "embedded": Embedded,
}
"""The members whose own members have names of the user's choice, and what those hold."""


def _locate(value: Any, error: msgspec.ValidationError) -> tuple[str, str]:
    """What is wrong in `value` and its dotted place.

    msgspec writes `[...]` for a name of the user's choice, so the things named are tried singly.
    """
    for member, kind in _NAMED.items():
        things = value.get(member) if isinstance(value, dict) else None
        for name, thing in things.items() if isinstance(things, dict) else ():
            try:
                msgspec.convert(thing, kind)
            except msgspec.ValidationError as inner:
                what, rest = _locate(thing, inner)
                return what, ".".join(filter(None, (member, name, rest)))
    what, _, path = str(error).partition(" - at `$")
    return what, path.removesuffix("`").lstrip(".")
