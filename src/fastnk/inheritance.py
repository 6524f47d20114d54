"""Models that continue the rows of another: children in multi-table inheritance.

A backup says that only by their pks, which are those of their parents. Where the parents then go by
natural keys, the children would have lost them.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator
from operator import xor
from typing import NamedTuple

from fastnk.guess import ABSENT
from fastnk.naming import MIN_PART
from fastnk.profile import number_of
from fastnk.proposal import RelationProposal, Target
from fastnk.survey import Hashes, Ids, ModelSurvey, Survey

NAMED, UNNAMED = 0.6, 0.05
"""How sure a parent is whose pks say no more, where its child's name ends with its own or not."""

MOST_NAMED, MOST_UNNAMED = 0.97, 0.85
MOST_BITS = 20.0
LATE, APART = 3.0, 3.0
"""Bits: what it is worth that pks begin where those of a table of its own would have ended, and
that another child has none of them, for tables of their own begin with the same ones."""

BITS_OF_A_TEXT = 3.0
SCATTERED = 8.0
"""So many bits speak for a parent by themselves, fewer where it has children by their names."""

MOST_OTHERS = 3


class _Parent(NamedTuple):
    to: str
    confidence: float
    named: bool
    evidence: list[str]


def guess_parents(survey: Survey) -> Iterator[RelationProposal]:
    """A proposal for each model that may be a child, with the models that may be its parent."""
    parents = _Parents(survey)
    for label, model in survey.models.items():
        found = [_parent(survey, label, to, parents.named_children[to]) for to in parents.of(label)]
        likely = sorted(filter(None, found), key=lambda one: -one.confidence)
        if likely:
            best, *rest = likely
            yield RelationProposal(
                model=label,
                field=f"{_name(best.to)}_ptr",
                to=best.to,
                parent_link=True,
                confidence=round(best.confidence, 3),
                named=best.named,
                values=model.records,
                evidence=best.evidence,
                others=[Target(one.to, round(one.confidence, 3)) for one in rest[:MOST_OTHERS]],
            )


class _Parents:
    """Which models may be the parents of which: those that have all pks of their children and
    more, while no child has a field of its parent's, or one that is named after it.

    Sets of models are integers with a bit for each, so that many models take little time.
    """

    def __init__(self, survey: Survey) -> None:
        pks = {label: _pks(model) for label, model in survey.models.items()}
        self._pks = {label: held for label, held in pks.items() if held is not None}
        self._models = survey.models
        holders = [one for one in self._pks if one not in ABSENT and self._models[one].columns]
        self._labels = sorted(holders, key=lambda label: len(self._pks[label]))
        self._sizes = [len(self._pks[label]) for label in self._labels]
        self._places = {label: place for place, label in enumerate(survey.models)}
        self._by_name: dict[str, int] = defaultdict(int)
        self._by_column: dict[str, int] = defaultdict(int)
        """Those that have such a field, or are called so."""
        for number, label in enumerate(self._labels):
            for column in {_name(label), *self._models[label].columns}:
                self._by_column[column] |= 1 << number
            self._by_name[_name(label)] |= 1 << number
        self._holding = _holding([self._pks[label] for label in self._labels], self._pks.values())
        self.named_children: dict[str, list[str]] = {label: [] for label in self._labels}
        """By their names, of each that may be a parent."""
        for label in self._pks:
            for parent in self._within(label, self._named(label)):
                self.named_children[parent].append(label)
        self._with_children = sum(
            1 << number for number, one in enumerate(self._labels) if self.named_children[one]
        )

    def of(self, label: str) -> list[str]:
        """Those of a model that are worth a closer look, in the order of the backup."""
        if label not in self._pks:
            return []
        pks, worth = self._pks[label], self._named(label)
        if _most_bits(pks) >= SCATTERED:
            worth = -1
        elif isinstance(pks, Ids) and pks.lowest > len(pks):
            worth |= self._with_children
        return sorted(self._within(label, worth), key=self._places.__getitem__)

    def _named(self, label: str) -> int:
        name = _name(label)
        ends = (name[start:] for start in range(len(name) - MIN_PART + 1))
        return sum(self._by_name[end] for end in ends if end in self._by_name)

    def _within(self, label: str, worth: int) -> Iterator[str]:
        """Those among them that have all of its pks and none of its fields."""
        pks = self._pks[label]
        smaller = bisect_right(self._sizes, len(pks))
        found = (1 << len(self._labels)) - (1 << smaller) & worth
        for column in self._models[label].columns:
            found &= ~self._by_column.get(column, 0)
        for pk in _ends(pks):
            found &= self._holding[type(pks), pk]
        while found:
            number = found.bit_length() - 1
            found ^= 1 << number
            if _is_within(pks, self._pks[self._labels[number]]):
                yield self._labels[number]


def _ends(pks: Ids | Hashes) -> tuple[int, ...]:
    return (pks.lowest, pks.highest) if isinstance(pks, Ids) else (next(iter(pks)),)


def _holding(
    parents: list[Ids | Hashes], children: Iterable[Ids | Hashes]
) -> dict[tuple[type, int], int]:
    """Which of the parents have the first and the last pk of each child."""
    ends = {(type(pks), pk) for pks in children for pk in _ends(pks)}
    ids = sorted(pk for kind, pk in ends if kind is Ids)
    holding = dict.fromkeys(ends, 0)
    turns = [0] * (len(ids) + 1)
    for number, pks in enumerate(parents):
        if isinstance(pks, Ids):
            for start, end in pks.pairs():
                turns[bisect_left(ids, start)] ^= 1 << number
                turns[bisect_right(ids, end)] ^= 1 << number
        else:
            for pk in pks:
                if (Hashes, pk) in holding:
                    holding[Hashes, pk] |= 1 << number
    for pk, held in zip(ids, itertools.accumulate(turns, xor), strict=False):
        holding[Ids, pk] = held
    return holding


def _parent(survey: Survey, label: str, to: str, children: list[str]) -> _Parent | None:
    """How sure it is that `to`, which has these children by their names, is the parent of
    `label`."""
    pks, theirs = _pks(survey.models[label]), _pks(survey.models[to])
    assert pks is not None
    assert theirs is not None
    named = _is_named(label, to)
    bits, is_late = _chance(pks, theirs)
    others = [_pks(survey.models[one]) for one in children if one != label]
    apart = sum(other is not None and _are_apart(pks, other) for other in others)
    if not named and bits < SCATTERED and not (is_late and others and apart == len(others)):
        return None
    bits = min(MOST_BITS, bits + LATE * is_late + APART * apart)
    before, most = (NAMED, MOST_NAMED) if named else (UNNAMED, MOST_UNNAMED)
    odds = before / (1 - before) * 2 ** (bits / 2)
    evidence = ["its name ends with that of its parent"] if named else []
    evidence.append(f"{number_of(len(pks), 'pk')}, all of the {len(theirs):,} of {to}")
    if apart:
        evidence.append(f"no pk is in {number_of(apart, 'other model')} of such a name")
    return _Parent(to, min(most, odds / (1 + odds)), named, evidence)


def _is_named(child: str, parent: str) -> bool:
    return len(_name(parent)) >= MIN_PART and _name(child).endswith(_name(parent))


def _chance(pks: Ids | Hashes, theirs: Ids | Hashes) -> tuple[float, bool]:
    """In bits, how unlikely it is that pks like these all are among others by accident; and
    whether they begin late."""
    if not (isinstance(pks, Ids) and isinstance(theirs, Ids)):
        return BITS_OF_A_TEXT * len(pks), False
    density = theirs.density(pks.lowest, pks.highest)
    bits = -len(pks) * math.log2(density) if density < 1 else 0.0
    return bits, pks.lowest > len(pks)


def _most_bits(pks: Ids | Hashes) -> float:
    """The most that `_chance` may find, in whatever they are."""
    if not isinstance(pks, Ids):
        return BITS_OF_A_TEXT * len(pks)
    return -len(pks) * math.log2(len(pks) / (pks.highest - pks.lowest + 1))


def _is_within(pks: Ids | Hashes, theirs: Ids | Hashes) -> bool:
    if isinstance(pks, Ids):
        return isinstance(theirs, Ids) and pks.common(theirs) == len(pks)
    return all(pk in theirs for pk in pks)


def _are_apart(pks: Ids | Hashes, theirs: Ids | Hashes) -> bool:
    if isinstance(pks, Ids):
        return not (isinstance(theirs, Ids) and pks.common(theirs))
    return not any(pk in theirs for pk in pks)


def _pks(model: ModelSurvey) -> Ids | Hashes | None:
    """The pks of a model whose records all have one, and all of one kind."""
    if model.is_keyed or (model.int_pks and model.text_pks):
        return None
    return model.pks(int) or model.pks(str)


def _name(label: str) -> str:
    return label.partition(".")[2]
