"""JSON as Python's own `json` reads it, with no digit and no member lost."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterable
from json.encoder import encode_basestring, encode_basestring_ascii
from typing import Any

MISSING = object()
"""What a member holds that is not there."""
MAX_VALUE = 1000
"""How many characters of a value a report holds."""
MAX_POWER_DIGITS = 1000
_NUMBER = re.compile(
    r"(?P<sign>-?)(?P<whole>\d+)(?:\.(?P<fraction>\d+))?(?:[eE](?P<power>[+-]?\d+))?"
)


class Number:
    """A JSON number by its text: no digit is lost, and none has to fit anywhere.

    Two are equal that have one value: 1.10 and 1.1, not 0 and -0. `NaN` equals `NaN`.
    """

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Number):
            return NotImplemented
        return self.text == other.text or self.normal() == other.normal()

    def normal(self) -> str:
        """The shortest text of the same value."""
        parts = _NUMBER.fullmatch(self.text)
        if parts is None or len(parts["power"] or "") > MAX_POWER_DIGITS:
            return self.text
        fraction = parts["fraction"] or ""
        digits = (parts["whole"] + fraction).lstrip("0")
        significant = digits.rstrip("0")
        if not significant:
            return f"{parts['sign']}0"
        power = int(parts["power"] or 0) - len(fraction) + len(digits) - len(significant)
        return f"{parts['sign']}{significant}e{power}"


class Repeated(dict[str, Any]):
    """The members of an object that has some name twice. As a dict it holds the last ones."""

    def __init__(self, pairs: Iterable[tuple[str, Any]]) -> None:
        self.groups: dict[str, list[Any]] = {}
        for name, value in pairs:
            self.groups.setdefault(name, []).append(value)
        super().__init__((name, values[-1]) for name, values in self.groups.items())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Repeated) and self.groups == other.groups

    def __ne__(self, other: object) -> bool:
        return not self == other

    def earlier(self) -> dict[str, list[Any]]:
        """What stands there but does not count, because the name comes again."""
        return {name: values[:-1] for name, values in self.groups.items() if len(values) > 1}


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    return members if len(members) == len(pairs) else Repeated(pairs)


def groups(members: dict[str, Any]) -> dict[str, list[Any]]:
    """All that stands under each name."""
    if isinstance(members, Repeated):
        return members.groups
    return {name: [value] for name, value in members.items()}


def levels(value: Any) -> int:
    """How many arrays and objects are in one another."""
    found, layer = 0, [value]
    while layer:
        found += 1
        inner = (groups(one).values() if isinstance(one, dict) else [one] for one in layer)
        layer = [one for lists in inner for one in itertools.chain(*lists) if _is_nested(one)]
    return found


def _is_nested(value: Any) -> bool:
    return isinstance(value, (dict, list))


DECODER = json.JSONDecoder(
    object_pairs_hook=_members, parse_int=Number, parse_float=Number, parse_constant=Number
)


def list_in_text(text: str) -> list[Any] | None:
    """The list that a text holds as JSON; `None` where it holds none."""
    try:
        value = DECODER.decode(text)
    except json.JSONDecodeError:
        return None
    return value if isinstance(value, list) else None


def spelled(value: Any, canonical: bool = False) -> str:
    """`value` as JSON; with `canonical` one text for all that is equal."""
    if isinstance(value, str):
        return encode_basestring_ascii(value) if canonical else encode_basestring(value)
    if isinstance(value, Number):
        return value.normal() if canonical else value.text
    if isinstance(value, list):
        return "[" + ", ".join([spelled(one, canonical) for one in value]) + "]"
    if isinstance(value, dict):
        members = value.groups if isinstance(value, Repeated) and canonical else value
        names = sorted(members) if canonical else list(members)
        texts = [f"{json.dumps(name)}: {spelled(members[name], canonical)}" for name in names]
        return "{" + ", ".join(texts) + ("," if members is not value else "") + "}"
    return json.dumps(value)


def digest(value: Any) -> bytes:
    """The same for equal values, and in practice for no others."""
    return hashlib.blake2b(spelled(value, canonical=True).encode(), digest_size=16).digest()


def shown(value: Any) -> str | None:
    """A value as a report shows it."""
    if value is MISSING:
        return None
    text = encodable(spelled(value))
    return text if len(text) <= MAX_VALUE else text[:MAX_VALUE] + "…"


def encodable(text: str) -> str:
    """JSON may hold halves of surrogate pairs, which no file takes: they get escapes again."""
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()


def id_text(value: Any) -> str | None:
    """The text by which ids are compared; `None` for what is no id."""
    if isinstance(value, Number):
        return value.text
    return value if isinstance(value, str) else None


def is_reference(value: Any) -> bool:
    """Whether a relation that holds it refers to a record by an id, be it one that none can have.

    Null refers to nothing, and a list is natural already.
    """
    return value is not None and value is not MISSING and not isinstance(value, list)


def may_be_id(value: Any) -> bool:
    """A number, or a text that is not empty."""
    if isinstance(value, Number):
        return value.text[-1].isdigit()
    return isinstance(value, str) and value != ""


def has_null(key: Any) -> bool:
    """Whether it is null, or a part of it is, at any depth."""
    parts = [key]
    while parts:
        part = parts.pop()
        if part is None:
            return True
        if isinstance(part, list):
            parts += part
    return False
