"""A small JSON reader that keeps the spelling: the tests' own eyes, sharing nothing with the core.

`parse` gives a tree of nodes with their spans; scalar values are ordinary `str`, `int` and
`float` objects that also carry the text they were read from as `raw`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[-+.\w]+|[\[\]{}:,]|[ \t\r\n]+', re.DOTALL)
WORDS = {"true": True, "false": False, "null": None}


class SpelledStr(str):
    raw: str


class SpelledInt(int):
    raw: str


class SpelledFloat(float):
    raw: str


@dataclass
class Node:
    """One JSON value: `text[start:end]` of the parsed text."""

    start: int
    end: int
    value: Any
    items: list[Node] = field(default_factory=list)
    members: list[tuple[Node, Node]] = field(default_factory=list)

    def member(self, name: str) -> Node | None:
        """The value of the last member called `name`."""
        found = [value for key, value in self.members if key.value == name]
        return found[-1] if found else None


class Members(dict[str, Any]):
    """An object's members; `repeated` has the names that occur again, once per repetition."""

    repeated: list[str]


def tokens(text: str) -> list[str]:
    """All tokens of `text`, white space among them; joined they are `text` again."""
    found = [match.group() for match in TOKEN.finditer(text)]
    assert "".join(found) == text
    return found


def solid_tokens(text: str) -> list[str]:
    """The tokens of `text` without white space."""
    return [token for token in tokens(text) if not token.isspace()]


def spelled(raw: str) -> Any:
    """The value of one scalar token."""
    if raw in WORDS:
        return WORDS[raw]
    plain = json.loads(raw)
    kind = {str: SpelledStr, int: SpelledInt, float: SpelledFloat}[type(plain)]
    value = kind(plain)
    value.raw = raw
    return value


def raw_of(value: Any) -> str:
    """The text of a value: scalars as they were spelled, the rest as `json.dumps` spells it."""
    if isinstance(value, list):
        return "[" + ", ".join(map(raw_of, value)) + "]"
    if isinstance(value, dict):
        members = [f"{raw_of(name)}: {raw_of(member)}" for name, member in value.items()]
        return "{" + ", ".join(members) + "}"
    return getattr(value, "raw", None) or json.dumps(value, ensure_ascii=False)


def parse(text: str) -> list[Node]:
    """The top values of `text`: one, or several as in JSON Lines. Expects valid JSON."""
    reader = _Reader(text)
    nodes = []
    while reader.peek() is not None:
        nodes.append(reader.value())
    return nodes


def parse_records(text: str) -> list[Node]:
    """The record nodes of a backup, whether it is an array or JSON Lines."""
    nodes = parse(text)
    return nodes[0].items if text.lstrip(" \t\r\n").startswith("[") else nodes


class _Reader:
    def __init__(self, text: str) -> None:
        self.stream: Iterator[re.Match[str]] = TOKEN.finditer(text)
        self.ahead: re.Match[str] | None = None
        self.advance()

    def advance(self) -> re.Match[str] | None:
        taken = self.ahead
        self.ahead = next((m for m in self.stream if not m.group().isspace()), None)
        return taken

    def peek(self) -> str | None:
        return None if self.ahead is None else self.ahead.group()

    def take(self, expected: str | None = None) -> re.Match[str]:
        token = self.advance()
        assert token is not None, "the text ends too early"
        assert expected in (None, token.group()), f"{token.group()} at {token.start()}"
        return token

    def value(self) -> Node:
        match self.peek():
            case "[":
                return self.array()
            case "{":
                return self.object()
        token = self.take()
        return Node(token.start(), token.end(), spelled(token.group()))

    def array(self) -> Node:
        start = self.take("[").start()
        items: list[Node] = []
        while self.peek() != "]":
            if items:
                self.take(",")
            items.append(self.value())
        return Node(start, self.take("]").end(), [item.value for item in items], items=items)

    def object(self) -> Node:
        start = self.take("{").start()
        members: list[tuple[Node, Node]] = []
        while self.peek() != "}":
            if members:
                self.take(",")
            key = self.value()
            self.take(":")
            members.append((key, self.value()))
        end = self.take("}").end()
        return Node(start, end, _collect(members), members=members)


def _collect(members: list[tuple[Node, Node]]) -> Members:
    value = Members()
    value.repeated = []
    for key, member in members:
        if key.value in value:
            value.repeated.append(str(key.value))
        value[key.value] = member.value
    return value
