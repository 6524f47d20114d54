"""What the name of a field says about the model that it refers to."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator
from typing import NamedTuple

from fastnk.schema import model_name

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

BY_WHOLE_NAME = frozenset(("admin.logentry", "contenttypes.contenttype"))
"""Models that fields name in full: a `type` or an `entry` is hardly ever one of them."""

ENDS = (str.endswith, 0.92, "its name ends")
BEGINS = (str.startswith, 0.85, "its name begins")
LAST_WORDS = 0.98
"""A `nutritionplan` is a plan; an `orderline` is no order, though a `language` is a `lang`. The
last words of a field's name are worth less than all of it."""


class Match(NamedTuple):
    """A model that a field may be named after, how sure that is from the name alone, and why."""

    to: str
    strength: float
    why: str


def matches(
    label: str,
    field: str,
    labels: Collection[str],
    people: str | None,
    absent: Collection[str] = (),
) -> list[Match]:
    """The models that `field` of model `label` may be named after: the best kind of match, and of
    equals those of the same app. `people` is the model of the users; those `absent` from the backup
    only count by their whole names."""
    words = [word for word in field.lower().split("_") if word]
    if len(words) > 1 and words[-1] in ("id", "ids", "ptr"):
        words.pop()
    if not words:
        return []
    by_name: dict[str, list[str]] = {}
    for other in (*labels, *absent):
        by_name.setdefault(model_name(other), []).append(other)
    others = [one for one in labels if one != label and one not in BY_WHOLE_NAME]
    kinds = itertools.chain(_whole(label, words, by_name, people), _partly(label, words, others))
    for found in kinds:
        if found:
            of_people = found[0].to == people or _app(found[0].to) == "auth"
            rivals = [] if of_people else _rivals(label, words, found, others)
            return _shared([*found, *rivals]) if rivals else _of_one_app(label, found)
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


def _ends(words: list[str]) -> list[str]:
    return ["".join(words[start:]) for start in range(len(words))]


def _whole(
    label: str, words: list[str], by_name: dict[str, list[str]], people: str | None
) -> Iterator[list[Match]]:
    """Matches by whole names, the surest kind first."""
    names = _ends(words)
    yield _named(names[0], by_name, 0.97, "the field is named after it")
    yield _with_app(names[0], by_name)
    for name in names[1:]:
        yield _named(name, by_name, 0.94, "the field's name ends with its name")
    is_person = people is not None and (words[-1] == "by" or singular(words[-1]) in PERSON_WORDS)
    if SELF_WORDS & {*words}:
        yield _same_model(label, people if is_person else None)
    if is_person and people is not None:
        yield [Match(people, 0.93, "the name speaks of a person")]


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


def _partly(own: str, words: list[str], labels: Collection[str]) -> Iterator[list[Match]]:
    """Matches by a part of a model's name. No model is so called for what refers to its own, but
    where `own` is named so as well, that may be all that the name says."""
    for number, name in enumerate(map(singular, _ends(words))):
        if len(name) < MIN_PART or name in PLAIN_WORDS:
            continue
        of, worth = ("last words", LAST_WORDS) if number else ("name", 1.0)
        # What is called after people is no person: a `userprofile`, a `membership`.
        for test, strength, why in (ENDS,) if name in PERSON_WORDS else (ENDS, BEGINS):
            doubt, too = (
                (0.5, ", as its own model's does") if test(model_name(own), name) else (1, "")
            )
            yield [
                Match(label, strength * worth * doubt, f"{why} with the field's {of}{too}")
                for label in labels
                if test(model_name(label), name)
            ]


def _rivals(
    label: str, words: list[str], found: list[Match], labels: Collection[str]
) -> list[Match]:
    """Models of the field's own app that may be meant where one of another has its very name: a
    `category` may be one of products."""
    app, name = _app(label), singular("".join(words))
    if app in {_app(match.to) for match in found} or model_name(found[0].to) != name:
        return []
    own = [one for one in labels if _app(one) == app and model_name(one).endswith(name)]
    return [found[0]._replace(to=one) for one in own]


def _app(label: str) -> str:
    return label.partition(".")[0]


def _of_one_app(label: str, found: list[Match]) -> list[Match]:
    """Those of the field's own app if there are any; sharing what certainty there is."""
    if len({match.why for match in found}) > 1:
        return found
    near = [match for match in found if _app(match.to) == _app(label)]
    chosen = near or found
    if len(chosen) == 1:
        if len(found) == 1:
            return chosen
        nearest = chosen[0]
        return [Match(nearest.to, nearest.strength * 0.97, f"{nearest.why}, in the same app")]
    return _shared(chosen)


def _shared(found: list[Match]) -> list[Match]:
    return [
        Match(match.to, match.strength / len(found), f"{match.why}, and others are named so too")
        for match in found
    ]
