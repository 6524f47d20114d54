"""Ids inside fields: in JSON, and in text that holds JSON."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from fastnk.schema import ELEMENTS, Model, Schema, embedded_steps
from fastnk.verify.keys import Target
from fastnk.verify.reading import SPACE
from fastnk.verify.values import DECODER, groups, may_be_id


class Paths:
    """The paths into a field (or what is left of them), by the next step."""

    __slots__ = ("name", "steps", "target")

    def __init__(self) -> None:
        self.steps: dict[str, Paths] = {}
        self.target: Target | None = None
        """Where a path ends here: what the id refers to, and"""
        self.name = ""
        """the path."""

    def of_member(self, name: str) -> Paths | None:
        return self.steps.get(name) if name != ELEMENTS else None

    def of_elements(self) -> Paths | None:
        return self.steps.get(ELEMENTS)


_NO_PATHS = Paths()


def paths_into_fields(schema: Schema, model: Model) -> dict[str, Paths]:
    """The paths to ids that become natural keys, by field."""
    root = Paths()
    for path, embedded in model.embedded.items():
        if schema.models[embedded.to].has_natural_key:
            paths = root
            for step in embedded_steps(path):
                paths = paths.steps.setdefault(step, Paths())
            paths.target = Target(embedded.to, embedded.to_field, policy="on_embedded")
            paths.name = path
    return root.steps


Reached = tuple[Paths, Any, Any]
"""Where paths have ended inside a field: at which id, and what stands there now."""


def references_inside(paths: Paths, value: Any, now: Any) -> list[Reached] | None:
    """The ids in a JSON value, and what stands for them; `None` where anything else changed."""
    found: list[Reached] = []
    return found if _match(paths, value, now, found) else None


def _match(paths: Paths, value: Any, now: Any, found: list[Reached]) -> bool:
    if isinstance(value, dict) and paths.steps:
        if not isinstance(now, dict):
            return False
        old, new = groups(value), groups(now)
        return old.keys() == new.keys() and all(
            _match_all(paths.of_member(name), old[name], new[name], found) for name in old
        )
    if isinstance(value, list) and paths.steps:
        return isinstance(now, list) and _match_all(paths.of_elements(), value, now, found)
    if paths.target is not None and may_be_id(value):
        found.append((paths, value, now))
        return True
    return bool(value == now)


def _match_all(
    paths: Paths | None, values: list[Any], news: list[Any], found: list[Reached]
) -> bool:
    return len(values) == len(news) and all(
        _match(paths or _NO_PATHS, value, now, found)
        for value, now in zip(values, news, strict=True)
    )


class InText(NamedTuple):
    """An id in a text that holds JSON, and the characters before it and up to its end."""

    start: int
    end: int
    paths: Paths
    id: Any


def ids_in_text(text: str, paths: Paths) -> list[InText] | None:
    """The ids in a text that is empty or holds JSON; `None` where it does not."""
    if text == "":
        return []
    try:
        DECODER.decode(text)
    except json.JSONDecodeError:
        return None
    found: list[InText] = []
    _walk(text, _after_space(text, 0), paths, found)
    return found


def _walk(text: str, at: int, paths: Paths, found: list[InText]) -> int:
    """Note the ids in the JSON value that begins `at`, which is known to be sound; its end."""
    opening = text[at]
    if opening not in "{[" or not paths.steps:
        value, end = DECODER.raw_decode(text, at)
        if paths.target is not None and may_be_id(value):
            found.append(InText(at, end, paths, value))
        return end
    below = paths.of_elements()
    at = _after_space(text, at + 1)
    while text[at] not in "}]":
        if opening == "{":
            name, at = DECODER.raw_decode(text, at)
            below = paths.of_member(name)
            at = _after_space(text, _after_space(text, at) + 1)
        at = _walk(text, at, below or _NO_PATHS, found)
        at = _after_space(text, at)
        if text[at] == ",":
            at = _after_space(text, at + 1)
    return at + 1


def _after_space(text: str, at: int) -> int:
    return SPACE.match(text, at).end()  # type: ignore[union-attr]


def references_in_text(ids: list[InText], value: str, now: str) -> list[Reached] | None:
    """What stands for the ids of a text; `None` where another character changed."""
    references: list[Reached] = []
    at = done = 0
    for one in ids:
        between = value[done : one.start]
        if not now.startswith(between, at):
            return None
        try:
            key, at = DECODER.raw_decode(now, at + len(between))
        except json.JSONDecodeError:
            return None
        references.append((one.paths, one.id, key))
        done = one.end
    return references if now[at:] == value[done:] else None
