"""Fixtures in XML and YAML as JSON, through Django's own deserialisers. Slow beside the core.

No database is asked: natural keys of relations stay natural keys. What XML could do beyond data
(document types, entities) and YAML (tags that make objects) is refused by Django's parsers.
"""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Callable, Iterator
from datetime import datetime, time
from typing import Any, BinaryIO
from uuid import UUID
from xml.dom.minidom import Element
from xml.sax import SAXException

from django.core.exceptions import FieldDoesNotExist, SuspiciousOperation, ValidationError
from django.core.serializers import base, xml_serializer
from django.core.serializers.json import DjangoJSONEncoder
from django.utils.encoding import is_protected_type

from fastnk.django.refusals import MAX_REASON, refusal
from fastnk.django.schema.introspect import set_up_by_environment
from fastnk.errors import (
    NAME_THE_ENCODING,
    NAME_THE_SETTINGS,
    BackupSyntaxError,
    MissingExtraError,
    Place,
    UsageError,
    shorten,
)
from fastnk.source.fixtures import Kind, Piece, is_torn, pieces

MAX_WHOLE = 256 << 20
"""Bytes of a fixture that is read as a whole: one in YAML, or a damaged one."""
MAX_GROWTH = 50
"""How many times its size a YAML fixture may become: its aliases may name what is large."""
FREE_BYTES = 16 << 20
MAX_NUMBER = 4_000
"""Characters of a number in YAML."""
MAX_SEEN = 100
"""Characters that are shown of what is lost, and of why."""
REFUSALS = (
    *(base.DeserializationError, base.M2MDeserializationError, SAXException),
    *(ValidationError, FieldDoesNotExist, SuspiciousOperation),
    *(ValueError, TypeError, ArithmeticError, LookupError, AttributeError, RecursionError),
)
"""What Django and its parsers raise for what they do not take, by intent or for want of a check."""


def as_json(kind: Kind, stream: BinaryIO, name: str | None) -> Iterator[bytes]:
    """A fixture, which is a text in UTF-8, as an array of records, piece by piece.

    Raises `BackupSyntaxError` for what is wrong with it, `UsageError` where Django is not set up,
    and `MissingExtraError` without PyYAML.
    """
    records = _xml_records(stream, name) if kind == "XML" else _yaml_records(stream, name)
    return _array(_explained(kind, records, name))


def salvaged_json(
    kind: Kind, stream: BinaryIO, name: str | None, lose: Callable[[Piece, bytes], None]
) -> Iterator[bytes]:
    """The whole records of a damaged one in the same way. `lose` is called with each stretch that
    is none, and with how it begins. Raises the same, but not for what is lost."""
    text = _whole(kind, stream, name)
    record_of: Callable[[bytes], bytes] = _xml_record
    if kind == "YAML":
        encoder = _BoundedEncoder(len(text), name)
        if (sound := _sound_yaml(text)) is not None:
            return _array(_explained(kind, map(encoder.encode, sound), name))
        record_of = functools.partial(_yaml_record, encoder)
    else:
        _need_models(name)
    return _array(_salvaged(kind, text, record_of, lose))


def _salvaged(
    kind: Kind,
    text: bytes,
    record_of: Callable[[bytes], bytes],
    lose: Callable[[Piece, bytes], None],
) -> Iterator[bytes]:
    for piece in pieces(kind, text):
        its = text[piece.start : piece.end]
        record, fault = b"", piece.fault
        if fault is None:
            try:
                record = record_of(its)
            except REFUSALS as error:
                fault = _brief(error)
        if fault is None:
            yield record
        else:
            lose(piece._replace(fault=fault), its[:MAX_SEEN])


def _array(records: Iterator[bytes]) -> Iterator[bytes]:
    before = b"[\n"
    for record in records:
        yield before
        yield record
        before = b",\n"
    yield b"[]\n" if before == b"[\n" else b"\n]\n"


def _explained(kind: Kind, records: Iterator[bytes], name: str | None) -> Iterator[bytes]:
    """The records; what goes wrong with one of them is a `BackupSyntaxError`."""
    count = 0
    try:
        for record in records:
            yield record
            count += 1
    except UnicodeDecodeError as error:
        raise _not_utf8(name) from error
    except REFUSALS as error:
        # YAML is read as a whole before the first record.
        place = Place(name, record=count + 1) if kind == "XML" else Place(name)
        raise _refused(kind, place, _reason(error)) from error


def _whole(kind: Kind, stream: BinaryIO, name: str | None) -> bytes:
    text = stream.read(MAX_WHOLE + 1)
    if len(text) > MAX_WHOLE:
        raise _refused(kind, Place(name), f"it is larger than {MAX_WHOLE >> 20} MiB")
    return text


def _reason(error: Exception, most: int = MAX_REASON) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    return "not UTF-8" if isinstance(error, UnicodeDecodeError) else refusal(error, most)


def _brief(error: Exception) -> str:
    """The same without the place in one record, which is none in the file."""
    if isinstance(error, SAXException):
        return error.getMessage()
    return getattr(error.__cause__, "problem", None) or _reason(error, MAX_SEEN)


def _not_utf8(name: str | None) -> BackupSyntaxError:
    return BackupSyntaxError(
        "not UTF-8", code="FNK206", place=Place(name), remedy=NAME_THE_ENCODING
    )


def _refused(kind: Kind, place: Place, why: str) -> BackupSyntaxError:
    return BackupSyntaxError(
        f"not a fixture in {kind} that Django reads: {why}",
        code="FNK212",
        place=place,
        remedy="take the backup again as JSON: manage.py dumpdata -o backup.json",
    )


# ---- XML ---------------------------------------------------------------------------------------


def _xml_records(stream: BinaryIO, name: str | None) -> Iterator[bytes]:
    _need_models(name)
    # As text, so that no encoding counts that the file had once and declares.
    for found in _Deserializer(io.TextIOWrapper(stream, "utf-8", newline="")):
        yield _encoded(_record(found))


def _xml_record(text: bytes) -> bytes:
    document = f"<django-objects>{text.decode()}</django-objects>"
    return _encoded(_record(next(_Deserializer(document))))


def _need_models(name: str | None) -> None:
    if not set_up_by_environment():
        raise UsageError(
            f"{name or 'the backup'} is XML, which only the project's models tell how to read",
            remedy=NAME_THE_SETTINGS,
        )


class _Encoder(DjangoJSONEncoder):  # type: ignore[misc]
    """Django's, but for times: these fixtures have their microseconds, which JSON ones lose."""

    def default(self, o: Any) -> Any:
        if isinstance(o, datetime | time) and o.microsecond % 1000:
            text = o.isoformat()
            return text[:-6] + "Z" if text.endswith("+00:00") else text
        return super().default(o)


_ENCODER = _Encoder(ensure_ascii=False)


def _encoded(record: dict[str, Any]) -> bytes:
    text: str = _ENCODER.encode(record)
    return text.encode(errors="backslashreplace")


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


def _yaml_records(stream: BinaryIO, name: str | None) -> Iterator[bytes]:
    text = _whole("YAML", stream, name)
    records = _loaded(text)
    if not isinstance(records, list):
        raise ValueError("it is no list of records")
    if is_torn(text):
        raise ValueError("it ends in the middle of a line; if it is whole, add a line break")
    encoder = _BoundedEncoder(len(text), name)
    yield from map(encoder.encode, records)


def _yaml_record(encoder: _BoundedEncoder, text: bytes) -> bytes:
    records = _loaded(text)
    if not _are_records(records):
        raise ValueError("no record with a model and fields")
    return encoder.encode(records[0])


def _sound_yaml(text: bytes) -> list[Any] | None:
    """Its records where it needs no salvage, whatever its style."""
    try:
        records = _loaded(text)
    except REFUSALS:
        return None
    return records if _are_records(records) and not is_torn(text) else None


def _are_records(found: Any) -> bool:
    return isinstance(found, list) and all(
        isinstance(one, dict)
        and isinstance(one.get("model"), str)
        and isinstance(one.get("fields"), dict)
        for one in found
    )


def _loaded(text: bytes) -> Any:
    try:
        import yaml
    except ImportError:
        raise MissingExtraError("PyYAML", "yaml", "a YAML fixture") from None
    text.decode()  # which tells what is no UTF-8 as it is told elsewhere
    try:
        return yaml.load(text, Loader=_loader())
    except yaml.YAMLError as error:
        raise ValueError(shorten(str(error), MAX_REASON)) from error


@functools.cache
def _loader() -> Any:
    """Django's, without numbers on which it would spend quadratic time: minutes and seconds of any
    length are one in YAML."""
    from django.core.serializers.pyyaml import SafeLoader

    bounded: Any = type("Loader", (SafeLoader,), {})
    for kind in ("int", "float"):
        bounded.add_constructor(f"tag:yaml.org,2002:{kind}", _number)
    return bounded


def _number(loader: Any, node: Any) -> Any:
    if len(node.value) > MAX_NUMBER:
        raise ValueError(f"a number of more than {MAX_NUMBER:,} characters")
    is_int = node.tag.endswith(":int")
    return loader.construct_yaml_int(node) if is_int else loader.construct_yaml_float(node)


class _BoundedEncoder:
    """Records of a text of that size in JSON, as long as they are not too large for it."""

    def __init__(self, size: int, name: str | None) -> None:
        self._left = max(FREE_BYTES, MAX_GROWTH * size)
        self._name = name

    def encode(self, record: Any) -> bytes:
        text = io.StringIO()
        for part in _ENCODER.iterencode(record):
            text.write(part)
            self._left -= len(part)
            if self._left < 0:
                why = f"its aliases make it {MAX_GROWTH} times as large"
                raise _refused("YAML", Place(self._name), why)
        return text.getvalue().encode(errors="backslashreplace")
