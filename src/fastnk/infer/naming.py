"""What the name of a field says about the model that it refers to."""

from __future__ import annotations

import itertools
import re
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from fastnk.schema import model_name

HISTORICAL = "historical"
"""So begin the names of models that record what became of the rows of another."""

MIN_PART = 4
"""Characters: shorter names are part of too many model names by accident."""

PERSON_WORDS = frozenset(
    (
        "actor",
        "admin",
        "approver",
        "assignee",
        "author",
        "commenter",
        "contributor",
        "creator",
        "editor",
        "initiator",
        "manager",
        "member",
        "moderator",
        "owner",
        "poster",
        "recipient",
        "requester",
        "reviewer",
        "sender",
        "submitter",
        "supervisor",
        "uploader",
        "user",
        "voter",
    )
)
"""Last words of fields that refer to people, as does every `…_by`."""

SELF_WORDS = frozenset(
    (
        "ancestor",
        "child",
        "children",
        "copied",
        "depends",
        "duplicate",
        "merged",
        "next",
        "obsoleted",
        "original",
        "parent",
        "predecessor",
        "previous",
        "replaced",
        "replaces",
        "reply",
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

GROUPS = "auth.group"
"""Groups of people, for their rights; projects have groups of much else."""

BY_WHOLE_NAME = frozenset(("admin.logentry", "contenttypes.contenttype"))
"""Models that fields name in full: a `type` or an `entry` is hardly ever one of them."""

BY_NAME, BY_APP_AND_NAME, BY_LAST_WORDS = 0.97, 0.96, 0.94
"""How sure it is that a field refers to the model that has the name of all of it, or of its end."""

SELF, SURE_SELF = 0.75, 0.93
"""How sure it is that a `next` or a `parent` is of the same model."""

OTHER_APP = 0.97
"""What is left of what a part of a name says where its model is of another app."""

AMBIGUOUS = 0.95
"""What is left of what the last words, or a part of a name, say where several models fit them."""

NEAR = 0.98
"""What a model of the field's own app has of the strength that others of its name share with it."""

ENDS, BEGINS = 0.92, 0.85
LAST_WORDS = 0.98
"""How sure a part of a model's name is. A `nutritionplan` is a plan; an `orderline` is no order,
though a `language` is a `lang`. The last words of a field's name are worth less than all of it."""


_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
"""Where a word of a `homeTeam` begins."""

PERSON = (0.93, "the name speaks of a person")


class Match(NamedTuple):
    """A model that a field may be named after, how sure that is from the name alone, and why."""

    to: str
    strength: float
    why: str


class Names:
    """The models of a backup by their names. `people` is the model of the users; those `absent`
    from the backup only count by their whole names.

    Models that share what a name says share its strength: which of them have the ids is for others
    to see.
    """

    def __init__(
        self, labels: Collection[str], people: str | None, absent: Iterable[str] = ()
    ) -> None:
        self._people = people
        self._by_name: dict[str, list[str]] = defaultdict(list)
        self._by_app_and_name: dict[str, list[str]] = defaultdict(list)
        for label in (*labels, *absent):
            for name in dict.fromkeys((_plain_name(label), singular(_plain_name(label)))):
                self._by_name[name].append(label)
            self._by_app_and_name[_squeezed(label)].append(label)
        self._by_first_of_app: dict[str, list[str]] = defaultdict(list)
        for label in labels:
            self._by_first_of_app[singular(app_name(label).partition("_")[0])].append(label)
        others = [label for label in labels if label not in BY_WHOLE_NAME]
        self._places = {label: place for place, label in enumerate(others)}
        self._forwards = sorted((_plain_name(label), label) for label in others)
        self._backwards = sorted((_plain_name(label)[::-1], label) for label in others)

    def matches(self, label: str, field: str, beside: Collection[str] = ()) -> list[Match]:
        """The models that `field` of model `label` may be named after: the best kind of match, and
        of equals those of the same app. `beside` it are fields with these words, joined."""
        words = _words(field)
        if words and words[-1] == "ctype":
            words[-1:] = ["content", "type"]
        if not words:
            return []
        for found in itertools.chain(self._whole(label, words), self._partly(label, words)):
            if found:
                rivals = self._rivals(label, words, found, beside)
                return _shared([*found, *rivals]) if rivals else _nearest_first(label, found)
        return []

    def _whole(self, label: str, words: list[str]) -> Iterator[list[Match]]:
        """Matches by whole names, the surest kind first."""
        people, names = self._people, _ends(words)
        yield _of_others(
            label, _named(names[0], self._by_name, BY_NAME, "the field is named after it")
        )
        both = "the field is named after its app and name"
        yield _named(names[0], self._by_app_and_name, BY_APP_AND_NAME, both)
        for name in names[1:]:
            yield _named(name, self._by_name, BY_LAST_WORDS, "the field's name ends with its name")
        if not (words[-1] == "by" or singular(words[-1]) in PERSON_WORDS):
            people = None
        if SELF_WORDS & {*words}:
            yield self._same_model(label, words, people)
        if people is not None:
            yield [Match(people, *PERSON)]

    def _same_model(self, label: str, words: list[str], people: str | None) -> list[Match]:
        """For `parent`, or the `parent_category` of a `productcategory`; for `superseded_by` either
        what supersedes it or who decided that; for the `parent` of a `pagechild` perhaps the page,
        and for that of a `historicalpage` surely."""
        same = "the name speaks of a record of the same model"
        if people is not None and people != label:
            return [Match(label, 0.6, same), Match(people, 0.4, "or of a person")]
        app, own = app_name(label), model_name(label)
        kind = "".join(words[1:])
        is_kind = not kind or (len(kind) >= MIN_PART and _plain_name(label).endswith(kind))
        is_sure = words == ["reply", "to"] or (words[0] == "parent" and is_kind)
        strength = SURE_SELF if is_sure else SELF
        recorded = f"{app}.{own.removeprefix(HISTORICAL)}"
        if recorded != label and recorded in self._places:
            return [Match(recorded, strength, same)]
        starts = (f"{app}.{own[:end]}" for end in range(MIN_PART, len(own)))
        wholes = [one for one in starts if one in self._places]
        return _shared([Match(one, strength, same) for one in (label, *wholes)])

    def _partly(self, label: str, words: list[str]) -> Iterator[list[Match]]:
        """Matches by a part of a model's name. No model is so called for what refers to its own,
        but where its own is named so as well, that may be all that the name says."""
        own = _plain_name(label)
        for number, name in enumerate(map(singular, _ends(words))):
            if len(name) < MIN_PART or name in PLAIN_WORDS:
                continue
            of, worth = ("last words", LAST_WORDS) if number else ("name", 1.0)
            why = f"with the field's {of}"
            ending = self._ending(label, name)
            if ending:  # a plural alone more often is what links them
                ending = [*ending, *self._ending(label, f"{name}s")]
            found = [Match(to, ENDS * worth, f"its name ends {why}") for to in ending]
            if found and not number:
                found += self._of_app(label, name)
            yield _doubted(found) if own.endswith(name) else found
            # What is called after people is no person: a `userprofile`, a `membership`.
            if name not in PERSON_WORDS:
                beginning = self._others(label, _beginning(self._forwards, name))
                found = [Match(to, BEGINS * worth, f"its name begins {why}") for to in beginning]
                yield _doubted(found) if own.startswith(name) else found

    def _of_app(self, label: str, name: str) -> list[Match]:
        """The models of another app that is called like a field: a `label` may be one of
        `label_types`."""
        others = self._by_first_of_app.get(name, ())
        found = [one for one in others if app_name(one) != app_name(label)]
        return [Match(to, BEGINS, "its app's name begins with the field's name") for to in found]

    def _rivals(
        self, label: str, words: list[str], found: list[Match], beside: Collection[str]
    ) -> list[Match]:
        """Models that may be meant, too, by a field that is named after others: those that end as
        it does; people, by an `owner`; by app and name, as an `auth_group` may be the group of
        `auth`; of its own app what its name begins with, as a `certification_track` may be a
        `certification` where tracks are those of another app."""
        app, first = app_name(label), found[0]
        named = {one.to for one in found}
        if self._people in named or first.strength < BY_LAST_WORDS:
            return []
        is_whole, is_own = first.strength > BY_LAST_WORDS, app in map(app_name, named)
        is_decided = is_whole and is_own
        rivals = [first._replace(to=one) for one in self._alike(label, found, is_decided, beside)]
        if is_whole and not is_own and len(words) > 1:
            by_app = self._by_app_and_name.get("".join(words), [])
            rivals += [first._replace(to=one) for one in by_app]
        if not is_whole and not is_own:
            starts = ("".join(words[:end]) for end in range(1, len(words)))
            begun = (one for start in starts for one in self._by_name.get(start, ()))
            why = "the field's name begins with its name"
            rivals += [first._replace(to=one, why=why) for one in begun if app_name(one) == app]
        if self._people is not None and not is_decided and singular(words[-1]) in PERSON_WORDS:
            rivals.append(Match(self._people, *PERSON))
        return [one for one in rivals if one.to not in named]

    def _alike(
        self, label: str, found: list[Match], is_decided: bool, beside: Collection[str]
    ) -> Iterator[str]:
        """Models whose names end as that of the ones found: of the field's own app, as a `category`
        of another app may be one of products, a `value_option` any kind of option, the `units` of a
        container its `containerunits`, a `unit` beside a `product` a `productunit`, the `team` of a
        `simplemembership` a `simpleteam`, and a `status` that of anything; of any app, as the
        `unit` of a `productunitprice` may be a `productunit`, and a `group` any kind of group where
        no permissions are beside it; and of an app with the field's name, as `permissions` may be
        `permissions.storedpermission`."""
        name, own = _plain_name(found[0].to), _plain_name(label)
        may_be_any = not is_decided or (name in PLAIN_WORDS and not own.startswith(name))
        is_any_group = not is_decided and [one.to for one in found] == [GROUPS]
        is_any_group = is_any_group and not any("permission" in one for one in beside)
        is_of_no_app = name not in {singular(app_name(one.to)) for one in found}
        is_open = found[0].strength > BY_LAST_WORDS and not is_decided and is_of_no_app
        for one in self._ending(label, name):
            rival = _plain_name(one)
            # What else is called as its own model is is like that, and nothing that it refers to.
            is_meant = not own.endswith(name) or own.endswith(rival)
            kind = rival.removesuffix(name)
            is_its_kind = own.removeprefix(HISTORICAL).startswith(kind) or kind in beside
            is_own = app_name(one) == app_name(label)
            is_near = is_own and (is_its_kind or (is_meant and may_be_any))
            is_its_own = own != rival and own.startswith(rival)
            is_of_app = is_open and singular(app_name(one)) == name
            if is_near or is_its_own or is_any_group or is_of_app:
                yield one

    def _ending(self, label: str, name: str) -> list[str]:
        ending = _beginning(self._backwards, name[::-1])
        return self._others(label, [one for one in ending if not self._cuts_a_word(one, name)])

    def _cuts_a_word(self, label: str, name: str) -> bool:
        """Whether `name` begins inside a word of the model's name, as `tstatus` in `projectstatus`
        where there is a `project`."""
        whole = _plain_name(label)
        start = len(whole) - len(name)
        is_word = not start or whole[:start] in self._by_name
        # What is left behind a longer one is a word as well, and no plural's end.
        ends = range(start + 1, len(whole) - MIN_PART + 1)
        return not is_word and any(whole[:end] in self._by_name for end in ends)

    def _others(self, label: str, found: list[str]) -> list[str]:
        return sorted({*found} - {label}, key=self._places.__getitem__)


def joined_words(field: str) -> str:
    """`homeTeam_id` -> `hometeam`, as the name of a model would be."""
    return "".join(_words(field))


def _words(field: str) -> list[str]:
    """`homeTeam_id` -> `home`, `team`."""
    words = [word for word in _HUMP.sub("_", field).lower().split("_") if word]
    return words[:-1] if len(words) > 1 and words[-1] in ("id", "ids", "ptr") else words


def is_plain(field: str) -> bool:
    """Whether a field of this name most often holds a number of its own."""
    return field.lower().rpartition("_")[2] in PLAIN_WORDS


def is_plural(field: str, label: str) -> bool:
    """Whether a field is called by a plural of what its model is called, as `active_users`."""
    words = _words(field)
    last = words[-1] if words else ""
    return singular(last) != last and not _plain_name(label).endswith(last)


def singular(name: str) -> str:
    """`categories` -> `category`, `users` -> `user`."""
    if name.endswith("ies"):
        return name[:-3] + "y"
    if name.endswith(("sses", "xes", "ches", "shes")):
        return name[:-2]
    return name if name.endswith(("ss", "us", "is")) else name.removesuffix("s")


def _ends(words: list[str]) -> list[str]:
    return ["".join(words[start:]) for start in range(len(words))]


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


def _plain_name(label: str) -> str:
    """The name of a model as the words of a field are joined: `orderitem` of `shop.order_item`."""
    return model_name(label).replace("_", "")


def _squeezed(label: str) -> str:
    return label.replace(".", "").replace("_", "")


def app_name(label: str) -> str:
    return label.partition(".")[0]


def _nearest_first(label: str, found: list[Match]) -> list[Match]:
    """Of those that are named alike, the ones that are nearer to the field's model first."""
    own, app = _plain_name(label), app_name(label)
    if found[0].strength <= ENDS and not any(app_name(one.to) == app for one in found):
        found = [one._replace(strength=one.strength * OTHER_APP) for one in found]
    if len(found) == 1 or len({one.why for one in found}) > 1:
        return found
    compounds = [one for one in found if own.startswith(_plain_name(one.to))]
    if 0 < len(compounds) < len(found):
        return _first(compounds, found, "as does that of its own model")
    if found[0].strength <= BY_LAST_WORDS:
        found = [one._replace(strength=one.strength * AMBIGUOUS) for one in found]
    near = [one for one in found if app_name(one.to) == app]
    return _first(near, found, "in the same app") if 0 < len(near) < len(found) else _shared(found)


def _first(near: list[Match], found: list[Match], why: str) -> list[Match]:
    far = [one for one in found if one not in near]
    near = [one._replace(why=f"{one.why}, {why}") for one in near]
    return [*_shared(near, NEAR), *_shared(far, 1 - NEAR)]


def _shared(found: list[Match], share: float = 1.0) -> list[Match]:
    """Those that a name cannot tell apart, which share its strength."""
    others = ", and others are named so too" if len(found) > 1 else ""
    strength = share / len(found)
    return [Match(one.to, one.strength * strength, f"{one.why}{others}") for one in found]
