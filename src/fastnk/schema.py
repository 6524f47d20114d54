"""The schema: which fields hold keys of which model, and what natural keys are made of.

Plain data that every layer may read; no Django. The document is described in `docs/schema.md`.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from fastnk.errors import OutputError, SchemaError

VERSION = 1
TRANSFORMS = ("str", "isoformat")
"""What may stand after `|` in a key part: Python's `str()` and `datetime.isoformat()`."""

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


class GenericRelation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A pair of fields that together refer to a record of any model."""

    content_type: str
    object_id: str


class Model(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What fastnk knows of one model."""

    pk: str = "id"
    """The name of the pk field. A pk that is a relation is listed in `relations` too."""
    natural_key: list[KeyPart] | None = None
    """The parts of the natural key in order; `None` where the model has none."""
    relations: dict[str, Relation] = {}
    generic_relations: dict[str, GenericRelation] = {}
    keep_pk: bool = False
    """Whether the pk says something of its own: no database made it, no key holds it."""

    def __post_init__(self) -> None:
        if self.pk == "id":
            # msgspec leaves out what is the default, not what is merely equal to it.
            msgspec.structs.force_setattr(self, "pk", "id")

    @property
    def pk_says_something(self) -> bool:
        """Whether more is lost than a number when the natural key takes the place of the pk."""
        if self.natural_key is None:
            return False
        relation = self.relations.get(self.pk)
        if relation is not None:
            return not relation.parent_link
        return self.keep_pk or not {"pk", self.pk}.isdisjoint(flat_parts(self.natural_key))


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
            raise SchemaError(f"{name} is not JSON: {error}") from None
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
                remedy="fastnk schema django --settings mysite.settings -o schema.json",
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

    def field_name(self, label: str, field: str) -> str:
        """`field` with Django's alias `pk` replaced by the name of the pk field."""
        return self.models[label].pk if field == "pk" else field


def parse_path(part: str) -> KeyPath:
    """Take `document__document_number|str` apart. Checks nothing but the form."""
    path, _, transform = part.partition("|")
    *hops, field = path.split("__")
    return KeyPath(tuple(hops), field, transform or None)


def flat_parts(parts: Iterable[KeyPart]) -> Iterator[str]:
    """The paths of a natural key in order, nested lists flattened."""
    for part in parts:
        if isinstance(part, str):
            yield part
        else:
            yield from flat_parts(part)


def _check_model(schema: Schema, label: str, model: Model) -> None:
    place = f"models.{label}"
    app, _, name = label.partition(".")
    # Django lowers the model's name and leaves the app's as it is.
    if not app or not name or "." in name or name != name.lower():
        raise SchemaError(
            f'"{label}" is not a model label',
            place=place,
            remedy='write "app.model", the model in lower case',
        )
    for field, relation in model.relations.items():
        _check_label(schema, relation.to, f"{place}.relations.{field}.to")
        if relation.parent_link and (field != model.pk or relation.many or relation.to_field):
            raise SchemaError(
                f'"{field}" is not the pk of {label} and of its parent in one',
                place=f"{place}.relations.{field}.parent_link",
                remedy=f'leave it out; the pk of {label} is "{model.pk}"',
            )
    for field, generic in model.generic_relations.items():
        if schema.target(label, generic.content_type) is None:
            raise SchemaError(
                f'"{generic.content_type}" is not a relation of {label}',
                place=f"{place}.generic_relations.{field}.content_type",
                remedy="list it in relations, to the content type model",
            )
    if model.natural_key is not None:
        if not model.natural_key:
            raise SchemaError(
                "an empty natural key identifies nothing",
                place=f"{place}.natural_key",
                remedy="name its parts, or leave natural_key out",
            )
        _check_parts(schema, label, model.natural_key, f"{place}.natural_key")


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
            f'no transform "{transform}"{_hint(transform, TRANSFORMS)}',
            place=place,
            remedy=f"one of {', '.join(TRANSFORMS)}",
        )
    for hop in hops:
        target = schema.target(label, hop)
        if target is None:
            raise SchemaError(
                f'"{hop}" is not a relation of {label}{_hint(hop, schema.models[label].relations)}',
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
        raise SchemaError(f'no model "{label}"{_hint(label, schema.models)}', place=place)


def _hint(word: str, words: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(words), n=1)
    return f'; did you mean "{close[0]}"?' if close else ""


def _decode(document: bytes | str, name: str) -> Schema:
    try:
        return msgspec.json.decode(document, type=Schema)
    except msgspec.ValidationError as error:
        what, place = _locate(msgspec.json.decode(document), error)
        raise SchemaError(f"{name}: {what}", place=place or name) from None


_NAMED: dict[str, Any] = {
    "models": Model,
    "relations": Relation,
    "generic_relations": GenericRelation,
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
