"""What speaks against models that fields are named after, though they have all of the fields' ids.

Where pks are numbered from 1 on, every small number is one: little but the name is left to go by.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from fastnk.infer.fields import Ids, Survey, unique
from fastnk.infer.keys import CONTENT_TYPES, KNOWN_KEYS
from fastnk.infer.naming import Match, app_name, singular
from fastnk.schema import model_name

COUNTED, EARLY, BY_CHANCE = 0.75, 0.6, 1e-4
"""Choices are most of the numbers up to the highest of them. Ids of a model would hardly all be
among so few of its pks by chance."""

SWAPPED_FIELDS = 3
"""So many fields two models hardly have in common by accident."""


class Doubts:
    """What a whole backup says of the models that its fields may be named after."""

    def __init__(
        self, survey: Survey, people: str | None, named: Iterable[tuple[str, str, list[Match]]]
    ) -> None:
        """`named` are the fields that hold integers: the model and name of each, and what it may be
        named after."""
        self._models = survey.models
        self._the_people = people
        self._decided = {*KNOWN_KEYS, people}
        """Models that the fields of any app refer to."""
        self._alike: dict[str, list[str]] = defaultdict(list)
        """Models of one name."""
        for label in survey.models:
            self._alike[model_name(label)].append(label)
        self._apps: dict[str, set[str]] = defaultdict(set)
        """Which apps have fields that are named after a model and no other."""
        self._ties: dict[tuple[str, str], set[str]] = defaultdict(set)
        """After which models of an app fields of another one are named."""
        self._people: dict[str, set[str]] = defaultdict(set)
        """In which apps fields of a name may mean people."""
        for label, field, found in named:
            if len(found) == 1:
                own, to = app_name(label), found[0].to
                self._apps[to].add(own)
                self._ties[own, app_name(to)].add(to)
            if any(one.to == people for one in found):
                self._people[field].add(app_name(label))

    def of(
        self, label: str, field: str, to: str, named: list[Match], codes: Sequence[int], rows: int
    ) -> Iterator[str]:
        """Those about one of the models that a field may be `named` after. It has all integers that
        so many rows hold."""
        if to not in self._decided:
            own, other = app_name(label), app_name(to)
            if other != own and self._serves_its_own(own, to):
                yield f"no other app refers to that model of {other}"
            if self._people.get(field, set()) - {own}:
                yield "in other apps fields of its name may mean people"
            for rival in self._alike[model_name(to)]:
                if self._may_stand_in(rival, to) and any(one.to == rival for one in named):
                    yield f"{rival} has all of its fields and may stand in for it"
        if to != self._the_people and len(named) == 1:
            for rival in self._rows_for_it(label, field, to):
                if self._models[rival].int_pks.has_all(codes):
                    yield f"{rival} tells more of its rows and may be meant"
        is_open = to not in self._decided or to == CONTENT_TYPES
        if is_open and may_be_choices(codes, rows, self._models[to].int_pks):
            yield "numbers from 1 on that end early may be choices"

    def _serves_its_own(self, own: str, to: str) -> bool:
        """Whether a model of another app seems to be there for the other models of that alone."""
        other, apps = app_name(to), self._apps[to]
        return other in apps and apps <= {own, other} and len(self._ties[own, other]) < 2

    def _rows_for_it(self, label: str, field: str, to: str) -> Iterator[str]:
        """Models that tell more of the rows of another app's, one of each, in an app that is called
        like that and like the field, as a `groups.groupprofile` does of any group."""
        app, name = app_name(label), model_name(to)
        if app_name(to) != app and singular(app) == name:
            for one, model in self._models.items():
                column = model.columns.get(field)
                is_named = app_name(one) == app and model_name(one).startswith(name)
                if is_named and one != label and column is not None and unique([column.codes]):
                    yield one

    def _may_stand_in(self, rival: str, to: str) -> bool:
        """Whether a model looks like one that a project has swapped for that of an app."""
        fields, its_own = (self._models[one].columns.keys() for one in (to, rival))
        return rival != to and len(fields) >= SWAPPED_FIELDS and fields <= its_own


def may_be_choices(codes: Sequence[int], rows: int, pks: Ids) -> bool:
    """Whether the ids in so many rows look like the choices of a field, which are counted from 0 or
    1 on: they end early, and by no accident."""
    low, high, count = codes[0], codes[-1], len(codes)
    if low not in (0, 1) or count == 1 or count < COUNTED * high:
        return False
    reach = high / pks.highest
    return reach < EARLY and reach**rows < BY_CHANCE
