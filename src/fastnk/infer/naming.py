"""What the name of a field says about the model that it refers to."""

from __future__ import annotations

import itertools
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
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
        "flag",
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

ENDS, BEGINS = 0.92, 0.85
LAST_WORDS = 0.98
"""How sure a part of a model's name is. A `nutritionplan` is a plan; an `orderline` is no order,
though a `language` is a `lang`. The last words of a field's name are worth less than all of it."""


PERSON = (0.93, "the name speaks of a person")


class Match(NamedTuple):
    """A model that a field may be named after, how sure that is from the name alone, and why."""

    to: str
    strength: float
    why: str


class Names:
    """The models of a backup by their names. `people` is the model of the users; those `absent`
    from the backup only count by their whole names."""

    def __init__(
        self, labels: Collection[str], people: str | None, absent: Iterable[str] = ()
    ) -> None:
        self._people = people
        self._by_name: dict[str, list[str]] = defaultdict(list)
        self._by_app_and_name: dict[str, list[str]] = defaultdict(list)
        for label in (*labels, *absent):
            self._by_name[model_name(label)].append(label)
            self._by_app_and_name[_squeezed(label)].append(label)
        others = [label for label in labels if label not in BY_WHOLE_NAME]
        self._places = {label: place for place, label in enumerate(others)}
        self._forwards = sorted((model_name(label), label) for label in others)
        self._backwards = sorted((model_name(label)[::-1], label) for label in others)

    def matches(self, label: str, field: str) -> list[Match]:
        """The models that `field` of model `label` may be named after: the best kind of match, and
        of equals those of the same app."""
        words = [word for word in field.lower().split("_") if word]
        if len(words) > 1 and words[-1] in ("id", "ids", "ptr"):
            words.pop()
        if not words:
            return []
        for found in itertools.chain(self._whole(label, words), self._partly(label, words)):
            if found:
                of_people = found[0].to == self._people or _app(found[0].to) == "auth"
                rivals = [] if of_people else self._rivals(label, words, found)
                return _shared([*found, *rivals]) if rivals else _of_one_app(label, found)
        return []

    def _whole(self, label: str, words: list[str]) -> Iterator[list[Match]]:
        """Matches by whole names, the surest kind first."""
        people, names = self._people, _ends(words)
        yield _of_others(
            label, _named(names[0], self._by_name, 0.97, "the field is named after it")
        )
        both = "the field is named after its app and name"
        yield _named(names[0], self._by_app_and_name, 0.96, both)
        for name in names[1:]:
            yield _named(name, self._by_name, 0.94, "the field's name ends with its name")
        if not (words[-1] == "by" or singular(words[-1]) in PERSON_WORDS):
            people = None
        if SELF_WORDS & {*words}:
            yield _same_model(label, people)
        if people is not None:
            yield [Match(people, *PERSON)]

    def _partly(self, label: str, words: list[str]) -> Iterator[list[Match]]:
        """Matches by a part of a model's name. No model is so called for what refers to its own,
        but where its own is named so as well, that may be all that the name says."""
        own = model_name(label)
        for number, name in enumerate(map(singular, _ends(words))):
            if len(name) < MIN_PART or name in PLAIN_WORDS:
                continue
            of, worth = ("last words", LAST_WORDS) if number else ("name", 1.0)
            why = f"with the field's {of}"
            ending = self._others(label, _beginning(self._backwards, name[::-1]))
            found = [Match(to, ENDS * worth, f"its name ends {why}") for to in ending]
            yield _doubted(found) if own.endswith(name) else found
            # What is called after people is no person: a `userprofile`, a `membership`.
            if name not in PERSON_WORDS:
                beginning = self._others(label, _beginning(self._forwards, name))
                found = [Match(to, BEGINS * worth, f"its name begins {why}") for to in beginning]
                yield _doubted(found) if own.startswith(name) else found

    def _rivals(self, label: str, words: list[str], found: list[Match]) -> list[Match]:
        """What else may be meant where a model of another app has the field's very name: one of its
        own app, as a `category` may be one of products, or a user, as a `creator` most often is."""
        app, name = _app(label), singular("".join(words))
        if app in {_app(match.to) for match in found} or model_name(found[0].to) != name:
            return []
        ending = self._others(label, _beginning(self._backwards, name[::-1]))
        rivals = [found[0]._replace(to=one) for one in ending if _app(one) == app]
        if self._people is not None and name in PERSON_WORDS:
            rivals.append(Match(self._people, *PERSON))
        return rivals

    def _others(self, label: str, found: list[str]) -> list[str]:
        return sorted({*found} - {label}, key=self._places.__getitem__)


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


def _same_model(label: str, people: str | None) -> list[Match]:
    """For `parent`; for `superseded_by` either what supersedes it or who decided that."""
    same = "the name speaks of a record of the same model"
    if people is None or people == label:
        return [Match(label, 0.75, same)]
    return [Match(label, 0.6, same), Match(people, 0.4, "or of a person")]


def _named(name: str, by_name: Mapping[str, list[str]], strength: float, why: str) -> list[Match]:
    for each in dict.fromkeys((name, singular(name))):
        if each in by_name:
            return [Match(label, strength, why) for label in by_name[each]]
    return []


def _of_others(label: str, found: list[Match]) -> list[Match]:
    """What a field called like its own model may mean: hardly that, which would be a `parent`."""
    others = [one for one in found if one.to != label]
    own = "the field is named after its own model"
    return others or [one._replace(strength=one.strength * 0.5, why=own) for one in found]


def _doubted(found: list[Match]) -> list[Match]:
    return [
        Match(one.to, one.strength * 0.5, f"{one.why}, as its own model's does") for one in found
    ]


def _beginning(names: list[tuple[str, str]], start: str) -> list[str]:
    """The models whose names, or names backwards, which are in order, begin so."""
    first = bisect_left(names, (start,))
    last = bisect_right(names, start, first, key=lambda one: one[0][: len(start)])
    return [label for _, label in names[first:last]]


def _squeezed(label: str) -> str:
    return label.replace(".", "").replace("_", "")


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
