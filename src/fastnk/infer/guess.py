"""Relations from one backup alone: from names, and from which ids exist.

Confidence starts from what the name of a field says. Values speak against a relation when the
target does not have them, and for it only as far as that is no accident: small numbers occur
among the pks of every model, scattered ones and words do not. Models that a name may mean share
what it says, by how well the values fit each.
"""

from __future__ import annotations

import heapq
import itertools
import math
from array import array
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from fastnk.infer.doubts import Doubts
from fastnk.infer.fields import (
    MAX_VALUES,
    Column,
    Hashes,
    Ids,
    ModelSurvey,
    Survey,
    contained,
    holder,
    is_random,
    joined,
    spread,
    unique,
)
from fastnk.infer.keys import ABSENT, CONTENT_TYPES, LEAST_SHOWN, MOST_OTHERS, PERMISSIONS
from fastnk.infer.naming import (
    BY_APP_AND_NAME,
    BY_LAST_WORDS,
    BY_NAME,
    GROUPS,
    Match,
    Names,
    is_plain,
    is_plural,
    joined_words,
)
from fastnk.infer.proposal import DOUBTFUL, RelationProposal, Target
from fastnk.inferred import RIGHTS
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
MOST_UNNAMED_TEXT, MOST_RANDOM = 0.7, 0.95
"""The confidence in a relation without a name: without other evidence, and at most. Columns of
words often share the vocabulary of a model whose pks are words; UUIDs and the like do not."""

BY_COLUMN = 0.85
"""How sure a relation by another field than the pk is, beside one by pk: that a column has the
words of another model's column may be no more than a common vocabulary."""

MOST_BITS = 20.0

NO_ACCIDENT = 16.0
"""Bits: how unlikely it must be that a model of another name has all of a field's ids."""

PLAIN, PLAIN_NAME = 0.4, 0.9
"""What is left of what the name of a field says that most often holds numbers of its own, where a
model's name ends or begins so, and where it is that name."""

BESIDE_AN_ID = 0.93
"""How sure an `owner_type` beside an `owner_id` is a content type."""

TELLS_MODELS = 0.85
"""How sure that has to be for the `owner_id` to be of any model; what may be choices is not."""

DOUBTED = 0.9
"""What is left of the confidence by each thing that speaks against a relation."""

MOST_NARROW = 100.0
"""So much likelier, at most, ids are all of a model with few rows than of one with many."""

CHILD = 0.05
"""How likely a field is named after the parent of the model that it refers to."""

DANGLING = 0.05
"""How likely ids are of a model that does not have all of them, where another has."""

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


def guess_relations(
    survey: Survey, parents: Iterable[RelationProposal]
) -> Iterator[RelationProposal]:
    """A proposal for each field that may hold ids, with the models that it may refer to. Those in
    `parents` tell which models continue the rows of others."""
    relations = _Relations(survey, parents)
    for label, model in survey.models.items():
        for field, column in model.columns.items():
            candidates = relations.candidates(label, field, column)
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
    held = holder(column)
    if held is None or held.kind_of_ids is None:
        return None
    return _Ids(held.kind_of_ids, held.distinct(), held is not column, held)


class _Fit(NamedTuple):
    """How well the ids of a field fit a model that it may be named after."""

    match: Match
    worth: float
    """1 where the model has all of them, and nothing speaks against it."""
    evidence: list[str]
    bits: float = 0
    """How little it is an accident that the model has all of them."""
    rows: int = 0
    """Of a model that has all of them."""
    to_field: str | None = None

    def weight(self, ids: int, most: int) -> float:
        """What it is beside others that share what the name says; one that has all of so many ids
        has `most` rows."""
        weight = self.match.strength * self.worth
        if most and not self.rows:
            return weight * DANGLING
        return weight * _narrowness(most, self.rows, ids) if most else weight


class _Relations:
    """The models that fields may refer to."""

    def __init__(self, survey: Survey, parents: Iterable[RelationProposal]) -> None:
        self._survey = survey
        self._children = _families(parents)
        self._targets: dict[type, _Targets] = {kind: _Targets(survey, kind) for kind in (int, str)}
        people = find_people(survey)
        absent = [label for label in ABSENT if label not in survey.models]
        names = Names(survey.models, people, absent)
        self._named = {
            (label, field): found
            for label, model in survey.models.items()
            for field, found in _matches(names, label, model)
        }
        """What each field may be named after."""
        self._doubts = Doubts(survey, people, self._numbers())

    def _numbers(self) -> Iterator[tuple[str, str, list[Match]]]:
        """The fields of integers: the model and name of each, and what it may be named after."""
        for label, model in self._survey.models.items():
            for field, column in model.columns.items():
                held = holder(column)
                if held is not None and held.kind_of_ids is int:
                    yield label, field, self._named[label, field]

    def candidates(self, label: str, field: str, column: Column) -> list[Candidate]:
        """The models that a field may refer to, the likeliest first."""
        named = [] if self._is_of_any_model(label, field) else self._named[label, field]
        ids = _ids_of(column)
        if ids is None or not ids.codes:
            nothing = ids is None and (column.kind is not None or column.others > 0)
            if column.kind is list and column.lists is not None:
                nothing = column.lists.empty < column.lists.count
            return [] if nothing else _without_values(field, named)
        found = [*self._by_name(label, field, ids, named)]
        if named or not is_plain(field):
            found += _unnamed(self._targets[ids.kind], field, ids, {one.to for one in named})
        found = [one for one in found if one.confidence >= LEAST_SHOWN]
        return sorted(found, key=lambda one: -one.confidence)

    def _is_of_any_model(self, label: str, field: str) -> bool:
        """Whether a field is an `owner_id` beside an `owner_type` that holds content types."""
        beside = f"{field.removesuffix('_id')}_type"
        column = self._survey.models[label].columns.get(beside)
        if column is None or not field.endswith("_id"):
            return False
        first = next(iter(self.candidates(label, beside, column)), None)
        return first is not None and first.to == CONTENT_TYPES and first.confidence >= TELLS_MODELS

    def _by_name(
        self, label: str, field: str, ids: _Ids, named: list[Match]
    ) -> Iterator[Candidate]:
        """The models that a field may be named after. Those that have its ids share what its name
        says, each by how well they fit."""
        fits = [fit for match in named for fit in self._fit(label, field, ids, match)]
        told = min(BY_NAME, sum(match.strength for match in named))
        if is_plain(field):
            told *= PLAIN if told < BY_APP_AND_NAME else 1 if "_" in field else PLAIN_NAME
        most = max((fit.rows for fit in fits), default=0)
        weights = [fit.weight(len(ids.codes), most) for fit in fits]
        whole = sum(weights)
        for fit, weight in zip(fits, weights, strict=True):
            certain = fit.worth * (1 - (1 - told) * 2 ** (-fit.bits / 4)) * weight / whole
            evidence = [fit.match.why, *fit.evidence]
            found = Candidate(fit.match.to, certain, True, evidence, fit.to_field)
            yield self._beside_children(ids, found)

    def _beside_children(self, ids: _Ids, found: Candidate) -> Candidate:
        """A model, less sure where others that continue its rows have all the ids, too."""
        pks = self._targets[ids.kind].pks
        children = {
            child
            for child in self._children.get(found.to, ())
            if child in pks and contained(ids.codes, pks[child], UNNAMED_TRIED) == 1
        }
        likely = self._may_continue(ids, found.to) - children
        if not (children or likely):
            return found
        rows = len(pks[found.to])
        few = [len(pks[child]) for child in children | likely]
        odds = sum(CHILD * _narrowness(rows, one, len(ids.codes)) for one in few)
        verb = "may continue" if likely else "continue"
        told = f"so are they of {number_of(len(few), 'model')} that {verb} its rows"
        evidence = [*found.evidence, told]
        return found._replace(confidence=found.confidence / (1 + odds), evidence=evidence)

    def _may_continue(self, ids: _Ids, to: str) -> set[str]:
        """Models that have all the ids by no accident, and no pk that `to` does not have, though
        they do not look like its children."""
        targets = self._targets[ids.kind]
        theirs = targets.pks.get(to)
        if not isinstance(theirs, Ids):
            return set()
        return {
            label
            for bits, labels in targets.with_all(ids.codes)
            if bits >= NO_ACCIDENT
            for label in labels
            if label != to and isinstance(pks := targets.pks[label], Ids) and pks.is_within(theirs)
        }

    def _fit(self, label: str, field: str, ids: _Ids, match: Match) -> Iterator[_Fit]:
        """One, or none where the model has none of the ids."""
        target = self._survey.models.get(match.to)
        if target is None:
            if ids.kind is int:
                why = f"the backup has no records of {match.to}: name a backup that has"
                yield _Fit(match, 0.94, [why])
            return
        pks = target.pks(ids.kind)
        share = 0.0 if pks is None else contained(ids.codes, pks, NAMED_TRIED)
        if pks is not None and share:
            evidence = [_told(ids, share, match.to, pks)]
            if share < 1:
                yield _Fit(match, share**2 if share >= 0.5 else share * 0.3, evidence)
                return
            rows = ids.column.ints
            doubts: list[str] = []
            if rows:
                named = self._named[label, field]
                doubts += self._doubts.of(label, field, match.to, named, ids.codes, rows)
            if rows and not ids.many and is_plural(field, match.to):
                doubts.append("a plural that is one number may be a count")
            if match.to == label and rows == target.records and not ids.many:
                doubts.append("every record has one, so that some would refer to each other")
            worth = DOUBTED ** len(doubts)
            yield _Fit(match, worth, evidence + doubts, _surprise(ids.codes, pks), len(pks))
        elif (column := _by_column(target, ids)) is not None:
            why = f"{_count(ids)}, all in {match.to}.{column}, which is unique"
            yield _Fit(match, BY_COLUMN, [why], to_field=column)


def _matches(names: Names, label: str, model: ModelSurvey) -> Iterator[tuple[str, list[Match]]]:
    """Each field of a model, and what its name says."""
    beside = {joined_words(field) for field in model.columns}
    for field in model.columns:
        found = _with_content_type(names.matches(label, field, beside), field, model)
        yield field, _with_rights(found, label, field, model)


def _with_content_type(found: list[Match], field: str, model: ModelSurvey) -> list[Match]:
    """What a field may be named after. An `owner_type` beside an `owner_id`, or an
    `owner_object_id`, is a content type, if there is no model of that name. An `owner_id` beside an
    `owner_content_type` is of any model."""
    if field.endswith("_id") and f"{field.removesuffix('_id')}_content_type" in model.columns:
        return []
    stem = field.removesuffix("_type")
    beside = {f"{stem}_id", f"{stem}_object_id"} & model.columns.keys()
    if stem == field or not beside or any(one.strength >= BY_LAST_WORDS for one in found):
        return found
    return [Match(CONTENT_TYPES, BESIDE_AN_ID, f"it stands beside {min(beside)}")]


def _with_rights(found: list[Match], label: str, field: str, model: ModelSurvey) -> list[Match]:
    """What a field may be named after. Whatever groups and permissions a project has of its own,
    those that give users their rights are Django's."""
    to = PERMISSIONS if (label, field) == (GROUPS, "permissions") else None
    if RIGHTS.keys() <= model.columns.keys():
        to = RIGHTS.get(field)
    return [found[0]._replace(to=to)] if found and to is not None else found


def _families(parents: Iterable[RelationProposal]) -> dict[str, set[str]]:
    """For each model those that may continue its rows, or rows of one that does."""
    parent = {one.model: one.to for one in parents if one.confidence >= DOUBTFUL}
    found: dict[str, set[str]] = defaultdict(set)
    for child in parent:
        to = parent.get(child)
        while to is not None and child not in found[to]:
            found[to].add(child)
            to = parent.get(to)
    return found


def _narrowness(many: int, few: int, ids: int) -> float:
    """How much likelier so many ids are all of a model with few rows than of one with many."""
    return min(MOST_NARROW, (many / few) ** (ids / 4)) if few else 1.0


def _without_values(field: str, found: list[Match]) -> list[Candidate]:
    return [
        Candidate(
            match.to, match.strength * WITHOUT_VALUES, True, [match.why, "it holds no value here"]
        )
        for match in found
        if not is_plain(field)
    ]


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


def _unnamed(targets: _Targets, field: str, ids: _Ids, without: set[str]) -> list[Candidate]:
    """Models that the field is not named after, but which have all the ids it holds; the likeliest
    of them."""
    levels = [
        (bits, [to for to in labels if to not in without])
        for bits, labels in targets.with_all(ids.codes)
    ]
    counter = ids.kind is int and not ids.many and unique([ids.column.codes])
    most = MOST_UNNAMED if ids.kind is int else MOST_UNNAMED_TEXT
    random = is_random(ids.column.sample or "")
    if random and field.rpartition("_")[2] not in ("id", "pk", "uuid"):
        most = MOST_RANDOM
    total = sum(len(labels) for _, labels in levels)
    evidence = [f"so do {number_of(total - 1, 'other model')}"] if total > 1 else []
    if counter:
        evidence.append("no value occurs twice: it may be a counter")
    reached = [*itertools.accumulate(len(labels) for _, labels in levels)]
    likely: list[tuple[float, int, str]] = []
    for bits, labels in levels:
        rivals = reached[bisect_right(levels, 3 - bits, key=lambda one: -one[0]) - 1]
        odds = UNNAMED / (1 - UNNAMED) * 2 ** ((MOST_BITS if random else bits) / 2)
        certain = min(most, odds / (1 + odds)) / max(1, rivals) * (0.5 if counter else 1)
        likely += [(-certain, targets.places[to], to) for to in labels[: MOST_OTHERS + 1]]
    return [
        Candidate(to, -certain, False, [_told(ids, 1.0, to, targets.pks[to]), *evidence])
        for certain, _, to in heapq.nsmallest(MOST_OTHERS + 1, likely)
    ]


def _surprise(codes: Sequence[int], pks: Ids | Hashes) -> float:
    """In bits: how unlikely it is that values like these all are pks by accident."""
    count = len(codes)
    if isinstance(pks, Hashes):
        return min(MOST_BITS, 3.0 * count)
    low, high = codes[0], codes[-1]
    density = pks.density(low, high)
    bits = -count * math.log2(density) if 0 < density < 1 else 0.0
    if count >= 20 and high > pks.highest * 0.9:
        bits += 4  # plain numbers do not stop where the pks of a model happen to end
    return min(MOST_BITS, bits)


def _count(ids: _Ids) -> str:
    first = f" of the first {ids.column.room.each:,}" if ids.is_sampled else ""
    return f"{number_of(len(ids.codes), 'different value')}{first}"


def _told(ids: _Ids, share: float, to: str, pks: Ids | Hashes) -> str:
    of = f"of the {number_of(len(pks), 'pk')} of {to}"
    if share == 1:
        return f"{_count(ids)}, all {of}"
    return f"{_count(ids)}, {share:.1%} {of}"
