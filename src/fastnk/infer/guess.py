"""Relations from one backup alone: from names, and from which ids exist.

Confidence starts from what the name of a field says. Values speak against a relation when the
target does not have them, and for it only as far as that is no accident: small numbers occur
among the pks of every model, scattered ones and words do not.
"""

from __future__ import annotations

import heapq
import itertools
import math
from array import array
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from fastnk.infer.fields import (
    MAX_VALUES,
    Column,
    Hashes,
    Ids,
    ModelSurvey,
    Survey,
    contained,
    joined,
    spread,
    unique,
)
from fastnk.infer.keys import ABSENT, LEAST_SHOWN, MOST_OTHERS
from fastnk.infer.naming import Match, Names, is_plain
from fastnk.infer.proposal import RelationProposal, Target
from fastnk.profile import number_of
from fastnk.schema import model_name

UNNAMED_TRIED = 2_000
NAMED_TRIED = MAX_VALUES
"""How many different values are looked up among the pks of a model that a field is, or is not,
named after."""

FEW_IDS, RECENT = 64, 256
"""Of many fields that hold the same few ids, they are looked up once."""

UNNAMED = 0.05
MOST_UNNAMED = 0.85
MOST_UNNAMED_TEXT = 0.7
"""The confidence in a relation without a name: without other evidence, and at most. Columns of
words often share the vocabulary of a model whose pks are words."""

BY_COLUMN = 0.85
"""How sure a relation by another field than the pk is, beside one by pk: that a column has the
words of another model's column may be no more than a common vocabulary."""

WITHOUT_VALUES = 0.5
"""What a name is worth when all values are null."""


def find_people(survey: Survey) -> str | None:
    """The model of the users, if exactly one can be it."""
    by_fields = [
        label
        for label, model in survey.models.items()
        if "password" in model.columns and {"username", "email"} & model.columns.keys()
    ]
    by_name = [label for label in survey.models if model_name(label) == "user"]
    both = [label for label in by_fields if label in by_name]
    for found in (both, by_fields, by_name):
        if len(found) == 1:
            return found[0]
    return None


class Candidate(NamedTuple):
    """A model that a field may refer to."""

    to: str
    confidence: float
    named: bool
    evidence: list[str]
    to_field: str | None = None


class _Ids(NamedTuple):
    """The ids that a field holds."""

    kind: type
    codes: array[int]
    many: bool
    column: Column

    @property
    def is_sampled(self) -> bool:
        return self.column.is_capped


def guess_relations(survey: Survey) -> Iterator[RelationProposal]:
    """A proposal for each field that may hold ids, with the models that it may refer to."""
    absent = [label for label in ABSENT if label not in survey.models]
    names = Names(survey.models, find_people(survey), absent)
    targets: dict[type, _Targets] = {kind: _Targets(survey, kind) for kind in (int, str)}
    for label, model in survey.models.items():
        for field, column in model.columns.items():
            found = names.matches(label, field)
            candidates = _candidates(survey, targets, field, column, found)
            if candidates:
                yield _proposal(label, field, column, candidates)


def _proposal(
    label: str, field: str, column: Column, candidates: list[Candidate]
) -> RelationProposal:
    best, *rest = candidates
    ids = _ids_of(column)
    return RelationProposal(
        model=label,
        field=field,
        to=best.to,
        to_field=best.to_field,
        many=column.kind is list,
        confidence=round(best.confidence, 3),
        named=best.named,
        values=0 if ids is None else len(ids.codes),
        evidence=best.evidence,
        others=[Target(other.to, round(other.confidence, 3)) for other in rest[:MOST_OTHERS]],
    )


def _ids_of(column: Column) -> _Ids | None:
    """The ids in a column that may hold ids; `None` for one that holds something else."""
    held, many = column, column.kind is list
    if column.lists is not None and many:
        held = column.lists.elements
        if column.lists.keys.count:
            return None
    kind = held.kind_of_ids
    if kind is None or held.free or held.times:
        return None
    return _Ids(kind, held.distinct(), many, held)


def _candidates(
    survey: Survey,
    targets: dict[type, _Targets],
    field: str,
    column: Column,
    found: list[Match],
) -> list[Candidate]:
    """The models that a field may refer to, the likeliest first."""
    ids = _ids_of(column)
    if ids is None or not ids.codes:
        nothing = ids is None and (column.kind is not None or column.others > 0)
        if column.kind is list and column.lists is not None:
            nothing = column.lists.empty < column.lists.count
        return [] if nothing else _without_values(field, found)
    named = {match.to for match in found}
    rivals = [] if is_plain(field) and not found else _unnamed(targets[ids.kind], ids, named)
    ranked = [*_named(survey, field, ids, found), *rivals]
    ranked = [one for one in ranked if one.confidence >= LEAST_SHOWN]
    return sorted(ranked, key=lambda one: -one.confidence)


def _without_values(field: str, found: list[Match]) -> list[Candidate]:
    return [
        Candidate(
            match.to, match.strength * WITHOUT_VALUES, True, [match.why, "it holds no value here"]
        )
        for match in found
        if not is_plain(field)
    ]


def _named(survey: Survey, field: str, ids: _Ids, found: list[Match]) -> Iterator[Candidate]:
    for match in found:
        target = survey.models.get(match.to)
        strength = match.strength
        if is_plain(field):
            strength *= 0.9 if match.strength >= 0.96 else 0.4
        if target is None:
            if ids.kind is int:
                why = f"the backup has no records of {match.to}: name a backup that has"
                yield Candidate(match.to, strength * 0.94, True, [match.why, why])
            continue
        pks = target.pks(ids.kind)
        share = 0.0 if pks is None else contained(ids.codes, pks, NAMED_TRIED)
        if share:
            assert pks is not None
            evidence = [match.why, _told(ids, share, match.to, pks)]
            if share == 1:
                certain = 1 - (1 - strength) * 2 ** (-_surprise(ids.codes, pks) / 4)
            else:
                certain = strength * (share**2 if share >= 0.5 else share * 0.3)
            yield Candidate(match.to, certain, True, evidence)
        elif (column := _by_column(target, ids)) is not None:
            why = f"{_count(ids)}, all in {match.to}.{column}, which is unique"
            certain = strength * BY_COLUMN
            yield Candidate(match.to, certain, True, [match.why, why], column)


def _by_column(target: ModelSurvey, ids: _Ids) -> str | None:
    """The unique text column of a model that holds all of the ids."""
    if ids.kind is not str:
        return None
    for name, column in target.columns.items():
        if column is ids.column or not column.is_plain_text or not target.always(name):
            continue
        if target.is_unique([name]) and joined(ids.codes, column.distinct()) == 1:
            return name
    return None


class _Targets:
    """The models whose pks are of one kind."""

    def __init__(self, survey: Survey, kind: type) -> None:
        self.pks = {label: pks for label, one in survey.models.items() if (pks := one.pks(kind))}
        self.places = {label: place for place, label in enumerate(self.pks)}
        self._spans = [(pks.lowest, pks.highest, label) for label, pks in self.pks.items()]
        self._with_few = lru_cache(RECENT)(self._with)

    def with_all(self, codes: array[int]) -> list[tuple[float, list[str]]]:
        """The models that have all of these ids, by how little that is an accident."""
        return self._with_few(tuple(codes)) if len(codes) <= FEW_IDS else self._with(codes)

    def _with(self, codes: Sequence[int]) -> list[tuple[float, list[str]]]:
        tried = spread(codes, UNNAMED_TRIED)
        low, high = tried[0], tried[-1]
        found = defaultdict(list)
        for lowest, highest, label in self._spans:
            if lowest <= low and high <= highest and self.pks[label].has_all(tried):
                found[_surprise(codes, self.pks[label])].append(label)
        return sorted(found.items(), reverse=True)


def _unnamed(targets: _Targets, ids: _Ids, without: set[str]) -> list[Candidate]:
    """Models that the field is not named after, but which have all the ids it holds; the likeliest
    of them."""
    levels = [
        (bits, [to for to in labels if to not in without])
        for bits, labels in targets.with_all(ids.codes)
    ]
    counter = ids.kind is int and not ids.many and unique([ids.column.codes])
    most = MOST_UNNAMED if ids.kind is int else MOST_UNNAMED_TEXT
    total = sum(len(labels) for _, labels in levels)
    evidence = [f"so do {number_of(total - 1, 'other model')}"] if total > 1 else []
    if counter:
        evidence.append("no value occurs twice: it may be a counter")
    reached = [*itertools.accumulate(len(labels) for _, labels in levels)]
    likely: list[tuple[float, int, str]] = []
    for bits, labels in levels:
        rivals = reached[bisect_right(levels, 3 - bits, key=lambda one: -one[0]) - 1]
        odds = UNNAMED / (1 - UNNAMED) * 2 ** (bits / 2)
        certain = min(most, odds / (1 + odds)) / max(1, rivals) * (0.5 if counter else 1)
        likely += [(-certain, targets.places[to], to) for to in labels[: MOST_OTHERS + 1]]
    return [
        Candidate(to, -certain, False, [_told(ids, 1.0, to, targets.pks[to]), *evidence])
        for certain, _, to in heapq.nsmallest(MOST_OTHERS + 1, likely)
    ]


def _surprise(codes: Sequence[int], pks: Ids | Hashes) -> float:
    """In bits, at most 20: how unlikely it is that values like these all are pks by accident."""
    count = len(codes)
    if isinstance(pks, Hashes):
        return min(20.0, 3.0 * count)
    low, high = codes[0], codes[-1]
    density = pks.density(low, high)
    bits = -count * math.log2(density) if 0 < density < 1 else 0.0
    if count >= 20 and high > pks.highest * 0.9:
        bits += 4  # plain numbers do not stop where the pks of a model happen to end
    return min(20.0, bits)


def _count(ids: _Ids) -> str:
    first = f" of the first {ids.column.room.each:,}" if ids.is_sampled else ""
    return f"{number_of(len(ids.codes), 'different value')}{first}"


def _told(ids: _Ids, share: float, to: str, pks: Ids | Hashes) -> str:
    of = f"of the {number_of(len(pks), 'pk')} of {to}"
    if share == 1:
        return f"{_count(ids)}, all {of}"
    return f"{_count(ids)}, {share:.1%} {of}"
