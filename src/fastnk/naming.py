"""What the name of a field says about the model that it refers to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

MIN_PART = 4
"""Characters: shorter names are part of too many model names by accident."""

PERSON_WORDS = frozenset(
    (
        "approver",
        "assignee",
        "author",
        "creator",
        "editor",
        "manager",
        "member",
        "owner",
        "recipient",
        "reviewer",
        "sender",
        "supervisor",
        "user",
    )
)
"""Last words of fields that refer to people, as does every `…_by`."""

SELF_WORDS = frozenset(
    (
        "ancestor",
        "child",
        "children",
        "copied",
        "duplicate",
        "next",
        "obsoleted",
        "original",
        "parent",
        "predecessor",
        "previous",
        "replaced",
        "replaces",
        "root",
        "successor",
        "superseded",
        "supersedes",
    )
)
"""Words of fields that refer to another record of the same model, `superseded_by` among them."""

PLAIN_WORDS = frozenset(
    (
        "age",
        "amount",
        "bytes",
        "count",
        "days",
        "depth",
        "duration",
        "height",
        "hours",
        "index",
        "length",
        "level",
        "major",
        "max",
        "min",
        "minor",
        "minutes",
        "months",
        "ms",
        "number",
        "order",
        "port",
        "position",
        "price",
        "priority",
        "quantity",
        "rank",
        "retries",
        "score",
        "seconds",
        "sequence",
        "size",
        "sort",
        "status",
        "step",
        "timeout",
        "total",
        "version",
        "weeks",
        "weight",
        "width",
        "year",
        "years",
    )
)
"""Last words of fields that hold numbers of their own, unless a whole model name says otherwise."""


class Match(NamedTuple):
    """A model that a field may be named after, how sure that is from the name alone, and why."""

    to: str
    strength: float
    why: str


def matches(label: str, field: str, labels: Iterable[str], people: str | None) -> list[Match]:
    """The models that `field` of model `label` may be named after: the best kind of match, and of
    equals those of the same app. `people` is the model of the users."""
    words = [word for word in field.lower().split("_") if word]
    if len(words) > 1 and words[-1] in ("id", "ids"):
        words.pop()
    if not words:
        return []
    by_name: dict[str, list[str]] = {}
    for other in labels:
        by_name.setdefault(other.partition(".")[2], []).append(other)
    for found in _kinds(label, words, by_name, people):
        if found:
            return _of_one_app(label, found)
    return []


def is_plain(field: str) -> bool:
    """Whether a field of this name most often holds a number of its own."""
    return field.lower().rpartition("_")[2] in PLAIN_WORDS


def singular(name: str) -> str:
    """`categories` -> `category`, `users` -> `user`."""
    if name.endswith("ies"):
        return name[:-3] + "y"
    if name.endswith(("sses", "xes", "ches", "shes")):
        return name[:-2]
    return name if name.endswith(("ss", "us", "is")) else name.removesuffix("s")


def _kinds(
    label: str, words: list[str], by_name: dict[str, list[str]], people: str | None
) -> Iterator[list[Match]]:
    """Matches, the surest kind first."""
    names = ["".join(words[start:]) for start in range(len(words))]
    yield _named(names[0], by_name, 0.97, "the field is named after it")
    yield _with_app(names[0], by_name)
    for name in names[1:]:
        yield _named(name, by_name, 0.94, "the field's name ends with its name")
    is_person = people is not None and (words[-1] == "by" or singular(words[-1]) in PERSON_WORDS)
    if SELF_WORDS & {*words}:
        yield _same_model(label, people if is_person else None)
    if is_person and people is not None:
        yield [Match(people, 0.93, "the name speaks of a person")]
    for number, name in enumerate(names):
        strength = 0.92 if number == 0 else 0.9
        yield _partly(name, by_name, strength)


def _same_model(label: str, people: str | None) -> list[Match]:
    """For `parent`; for `superseded_by` either what supersedes it or who decided that."""
    same = "the name speaks of a record of the same model"
    if people is None or people == label:
        return [Match(label, 0.75, same)]
    return [Match(label, 0.6, same), Match(people, 0.4, "or of a person")]


def _named(name: str, by_name: dict[str, list[str]], strength: float, why: str) -> list[Match]:
    for each in dict.fromkeys((name, singular(name))):
        if each in by_name:
            return [Match(label, strength, why) for label in by_name[each]]
    return []


def _with_app(name: str, by_name: dict[str, list[str]]) -> list[Match]:
    return [
        Match(label, 0.96, "the field is named after its app and name")
        for labels in by_name.values()
        for label in labels
        if label.replace(".", "").replace("_", "") in (name, singular(name))
    ]


def _partly(name: str, by_name: dict[str, list[str]], strength: float) -> list[Match]:
    name = singular(name)
    if len(name) < MIN_PART or name in PLAIN_WORDS:
        return []
    for test, why in ((str.endswith, "its name ends"), (str.startswith, "its name begins")):
        found = [
            label for model, labels in by_name.items() if test(model, name) for label in labels
        ]
        if found:
            why = f"{why} with the field's {'name' if strength > 0.9 else 'last words'}"
            return [Match(label, strength, why) for label in found]
    return []


def _of_one_app(label: str, found: list[Match]) -> list[Match]:
    """Those of the field's own app if there are any; sharing what certainty there is."""
    if len({match.why for match in found}) > 1:
        return found
    app = label.partition(".")[0]
    near = [match for match in found if match.to.partition(".")[0] == app]
    chosen = near or found
    if len(chosen) == 1:
        if len(found) == 1:
            return chosen
        nearest = chosen[0]
        return [Match(nearest.to, nearest.strength * 0.97, f"{nearest.why}, in the same app")]
    return [
        Match(match.to, match.strength / len(chosen), f"{match.why}, and others are named so too")
        for match in chosen
    ]
