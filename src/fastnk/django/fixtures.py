"""Fixtures in XML and YAML as JSON, through Django's own deserialisers. Slow beside the core.

No database is asked: natural keys of relations stay natural keys. What XML could do beyond data
(document types, entities) and YAML (tags that make objects) is refused by Django's parsers.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, Literal
from uuid import UUID
from xml.dom.minidom import Element
from xml.sax import SAXException

from django.apps import apps
from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.core.serializers import base, xml_serializer
from django.core.serializers.json import DjangoJSONEncoder
from django.utils.encoding import is_protected_type

from fastnk.django.refusals import MAX_REASON, refusal
from fastnk.errors import BackupSyntaxError, MissingExtraError, Place, UsageError, shorten

Kind = Literal["XML", "YAML"]

MAX_YAML = 256 << 20
"""Bytes of a YAML fixture, which is read as a whole."""
MAX_GROWTH = 50
"""How many times its size a YAML fixture may become: its aliases may name what is large."""
FREE_BYTES = 16 << 20
MAX_NUMBER = 4_000
"""Characters of a number in YAML."""
REFUSALS = (
    *(base.DeserializationError, base.M2MDeserializationError, SAXException),
    *(ValidationError, FieldDoesNotExist),
    *(ValueError, TypeError, ArithmeticError, LookupError, AttributeError),
)
"""What Django and its parsers raise for what they do not take, by intent or for want of a check."""


def as_json(kind: Kind, stream: BinaryIO, name: str | None) -> Iterator[bytes]:
    """The fixture as an array of records, piece by piece.

    Raises `BackupSyntaxError` for what is wrong with it, `UsageError` where Django is not set up,
    and `MissingExtraError` without PyYAML.
    """
    records = _xml_records(stream, name) if kind == "XML" else _yaml_texts(stream, name)
    count = 0
    try:
        for record in records:
            yield b",\n" if count else b"[\n"
            yield record
            count += 1
    except (*REFUSALS, RecursionError) as error:
        # YAML is read as a whole before the first record.
        place = Place(name, record=count + 1) if kind == "XML" else Place(name)
        is_deep = isinstance(error, RecursionError)
        why = "it is nested too deep" if is_deep else refusal(error)
        raise _refused(kind, place, why) from error
    yield b"\n]\n" if count else b"[]\n"


def _refused(kind: Kind, place: Place, why: str) -> BackupSyntaxError:
    return BackupSyntaxError(
        f"not a fixture in {kind} that Django reads: {why}",
        code="FNK212",
        place=place,
        remedy="take the backup again as JSON: manage.py dumpdata -o backup.json",
    )


# ---- XML ---------------------------------------------------------------------------------------


def _xml_records(stream: BinaryIO, name: str | None) -> Iterator[bytes]:
    if not apps.models_ready:
        raise UsageError(
            f"{name or 'the backup'} is XML, which only the project's models tell how to read",
            remedy="name the project's settings: --settings mysite.settings",
        )
    encode = DjangoJSONEncoder(ensure_ascii=False).encode
    for found in _Deserializer(stream):
        yield encode(_record(found)).encode(errors="backslashreplace")


class _Deserializer(xml_serializer.Deserializer):  # type: ignore[misc]
    """Django's, which notes what each object spells out and leaves natural keys alone."""

    def _handle_object(self, node: Element) -> Any:
        has_pk = node.hasAttribute("pk")
        if not has_pk:
            # Else Django looks in the database for the row with this natural key.
            node.setAttribute("pk", _some_pk(self._get_model_from_node(node, "model")))
        found = super()._handle_object(node)
        found.names = [one.getAttribute("name") for one in node.getElementsByTagName("field")]
        found.has_pk = has_pk
        return found

    def _handle_fk_field_node(self, node: Element, field: Any) -> Any:
        if node.getElementsByTagName("natural"):
            return base.DEFER_FIELD
        return super()._handle_fk_field_node(node, field)

    def _handle_m2m_field_node(self, node: Element, field: Any) -> Any:
        if node.getElementsByTagName("natural"):
            return base.DEFER_FIELD
        return super()._handle_m2m_field_node(node, field)


def _some_pk(model: type[Any]) -> str:
    """What the pk of a model may be."""
    for text in ("0", str(UUID(int=0)), "2000-01-01"):
        with contextlib.suppress(ValidationError, ValueError):
            model._meta.pk.to_python(text)
            return text
    return "0"


def _record(found: Any) -> dict[str, Any]:
    row = found.object
    deferred = {field.name: value for field, value in (found.deferred_fields or {}).items()}
    fields = {}
    for name in found.names:
        if name in deferred:
            fields[name] = deferred[name]
        elif name in found.m2m_data:
            fields[name] = [_plain(one) for one in found.m2m_data[name]]
        else:
            fields[name] = _value(row, row._meta.get_field(name))
    record: dict[str, Any] = {"model": row._meta.label_lower}
    if found.has_pk:
        record["pk"] = _value(row, row._meta.pk)
    return {**record, "fields": fields}


def _value(row: Any, field: Any) -> Any:
    """As Django's JSON serialiser has it."""
    value = field.value_from_object(row)
    return value if is_protected_type(value) else field.value_to_string(row)


def _plain(pk: Any) -> Any:
    return pk if is_protected_type(pk) else str(pk)


# ---- YAML --------------------------------------------------------------------------------------


def _yaml_texts(stream: BinaryIO, name: str | None) -> Iterator[bytes]:
    try:
        import yaml
        from django.core.serializers.pyyaml import SafeLoader
    except ImportError:
        raise MissingExtraError("PyYAML", "yaml", "a YAML fixture") from None
    data = stream.read(MAX_YAML + 1)
    if len(data) > MAX_YAML:
        raise _refused("YAML", Place(name), f"it is larger than {MAX_YAML >> 20} MiB")
    try:
        records = yaml.load(data, Loader=_with_bounded_numbers(SafeLoader))
    except yaml.YAMLError as error:
        raise _refused("YAML", Place(name), shorten(str(error), MAX_REASON)) from error
    if not isinstance(records, list):
        raise _refused("YAML", Place(name), "it is no list of records")
    yield from _bounded(records, max(FREE_BYTES, MAX_GROWTH * len(data)), name)


def _with_bounded_numbers(loader: type[Any]) -> Any:
    """The loader, without numbers on which it would spend quadratic time: minutes and seconds of
    any length are one in YAML."""
    bounded: Any = type("Loader", (loader,), {})
    for kind in ("int", "float"):
        bounded.add_constructor(f"tag:yaml.org,2002:{kind}", _number)
    return bounded


def _number(loader: Any, node: Any) -> Any:
    if len(node.value) > MAX_NUMBER:
        raise ValueError(f"a number of more than {MAX_NUMBER:,} characters")
    is_int = node.tag.endswith(":int")
    return loader.construct_yaml_int(node) if is_int else loader.construct_yaml_float(node)


def _bounded(records: Iterable[Any], most: int, name: str | None) -> Iterator[bytes]:
    encoder = DjangoJSONEncoder(ensure_ascii=False)
    for record in records:
        text = io.StringIO()
        for part in encoder.iterencode(record):
            text.write(part)
            most -= len(part)
            if most < 0:
                why = f"its aliases make it {MAX_GROWTH} times as large"
                raise _refused("YAML", Place(name), why)
        yield text.getvalue().encode(errors="backslashreplace")
