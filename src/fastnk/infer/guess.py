"""Relations and natural keys from one backup alone: from names, and from which ids exist.

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
    MAX_KEY_PARTS,
    MAX_VALUES,
    Column,
    Hashes,
    Ids,
    ModelSurvey,
    Room,
    Survey,
    contained,
    joined,
    spread,
    unique,
)
from fastnk.infer.naming import Match, Names, is_plain, singular
from fastnk.infer.proposal import KeyProposal, OtherKey, RelationProposal, Target
from fastnk.profile import number_of
from fastnk.schema import KeyPart, model_name

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

LEAST_SHOWN = 0.001
MOST_OTHERS = 3

WITHOUT_VALUES = 0.5
"""What a name is worth when all values are null."""

KNOWN_KEYS: dict[str, list[KeyPart]] = {
    "contenttypes.contenttype": ["app_label", "model"],
    "auth.permission": ["codename", "content_type__app_label", "content_type__model"],
    "auth.group": ["name"],
    "auth.user": ["username"],
    "sites.site": ["domain"],
}
"""The natural keys of Django's own models."""

ABSENT = ("contenttypes.contenttype", "auth.permission")
"""Models that most backups leave out though they refer to them."""

KEY_WORDS: dict[str, float] = {
    "username": 0.98,
    "code": 0.98,
    "slug": 0.97,
    "number": 0.97,
    "codename": 0.97,
    "sku": 0.97,
    "isbn": 0.97,
    "name": 0.95,
    "identifier": 0.95,
    "domain": 0.9,
    "key": 0.9,
    "email": 0.8,
    "label": 0.7,
    "title": 0.5,
    "uuid": 0.5,
    "guid": 0.5,
    "id": 0.5,
}
"""How often a unique text column is the natural key, by the last word of its name."""

OTHER_KEY_WORD = 0.3
SOME_NAME = 0.6
"""For a `first_name` or `file_name`."""

MOST_KEY_WORDS = 4
"""Words of a text on average; a column of longer ones is prose."""

MOST_COMBINED = 0.8
"""The confidence in a key of several columns: others may be unique by accident as well."""

MOST_COMBINED_COLUMNS = 12

TEXT_PK, UUID_PK = 0.9, 0.4
BESIDE_TEXT_PK = 0.7
"""A pk that is a word or a code is what others refer to it by; that beats other unique columns."""

ONE_TO_ONE = 0.7
"""What a relation alone is worth as key, be it unique: few records may just not repeat it yet."""


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


# ---- relations ---------------------------------------------------------------------------------


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


# ---- natural keys ------------------------------------------------------------------------------


def guess_keys(survey: Survey, relations: list[RelationProposal]) -> dict[str, list[KeyProposal]]:
    """Per model what may be its natural key, the likeliest first; Django's own models included
    that the backup may leave out."""
    targets = {one.to for one in relations if one.confidence >= 0.5}
    found: dict[str, list[KeyProposal]] = {}
    for label, model in survey.models.items():
        worth = 1.0 if label in targets else 0.85
        keys = sorted(_single_keys(label, model, worth), key=lambda one: -one.confidence)
        if keys:
            found[label] = keys
    _combine(survey, relations, found)
    return {label: sorted(keys, key=lambda one: -one.confidence) for label, keys in found.items()}


def with_others(keys: list[KeyProposal]) -> KeyProposal:
    """The first of these proposals, the rest as its alternatives."""
    best, *rest = keys
    best.others = [
        OtherKey(one.natural_key, one.confidence) for one in rest[:MOST_OTHERS] if one.natural_key
    ]
    return best


def _single_keys(label: str, model: ModelSurvey, worth: float) -> Iterator[KeyProposal]:
    if label in KNOWN_KEYS:
        yield KeyProposal(
            model=label,
            natural_key=KNOWN_KEYS[label],
            confidence=0.97,
            evidence=["Django gives this model that key"],
        )
        return
    if model.text_pks:
        as_key = _pk_as_key(label, model)
        yield as_key
        worth *= BESIDE_TEXT_PK if as_key.confidence == TEXT_PK else 1
    if model.records < 2:
        return  # of one record everything is unique
    for name, column in model.columns.items():
        if not (column.is_plain_text and model.always(name) and model.is_unique([name])):
            continue
        average = column.words / column.texts
        if average > MOST_KEY_WORDS:
            continue
        own = singular(model_name(label))
        last = name.rpartition("_")[2]
        certain = KEY_WORDS.get(last, 0.9 if last == own else OTHER_KEY_WORD)
        if last == "name" and name not in ("name", f"{own}_name"):
            certain = SOME_NAME
        certain *= worth * _weight(model.records)
        evidence = [f"never null and unique in {_records(model)}"]
        if worth < 1:
            evidence.append("nothing refers to the model, so it may well have no key")
        yield KeyProposal(
            model=label, natural_key=[name], confidence=round(certain, 3), evidence=evidence
        )


def _pk_as_key(label: str, model: ModelSurvey) -> KeyProposal:
    sample = model.text_pk or ""
    is_uuid = len(sample) == 36 and sample.count("-") == 4
    return KeyProposal(
        model=label,
        natural_key=["pk"],
        confidence=UUID_PK if is_uuid else TEXT_PK,
        evidence=[
            f"its pks are {'UUIDs' if is_uuid else 'texts'}, which a new database keeps",
            "a backup does not tell the name of the pk field: write it as pk in the schema",
        ],
    )


def _weight(records: int) -> float:
    """What uniqueness in so many records is worth."""
    return 1 - 0.3 / records


def _records(model: ModelSurvey) -> str:
    if model.kept < model.records:
        return f"the first {model.kept:,} of {model.records:,} records"
    return number_of(model.records, "record")


def _combine(
    survey: Survey, relations: list[RelationProposal], found: dict[str, list[KeyProposal]]
) -> None:
    """Add keys of two and three columns that pass through relations to models with a key.

    From the models without relations outwards: each round can use what the one before found.
    """
    for label in ABSENT:
        if label not in survey.models:
            found[label] = list(_single_keys(label, ModelSurvey(Room()), 1.0))
    of, to = defaultdict(list), defaultdict(list)
    for one in relations:
        of[one.model].append(one)
        to[one.to].append(one)
    waiting = {label for label, model in survey.models.items() if model.records > 1}
    waiting -= {label for label, keys in found.items() if keys[0].confidence >= 0.75}
    keyed = {label: keys[0] for label, keys in found.items() if label not in waiting}
    looked_at = waiting
    while looked_at:
        ready = {}
        for label in looked_at:
            hops = _hops(survey.models[label], of[label], keyed)
            related = {one.field for one in of[label] if one.named}
            if hops and (key := _combined(label, survey.models[label], hops, related)):
                ready[label] = key
        for label, key in ready.items():
            found.setdefault(label, []).append(key)
            found[label].sort(key=lambda one: -one.confidence)
            if found[label][0].confidence >= LEAST_SHOWN:
                keyed[label] = found[label][0]
        waiting -= ready.keys()
        looked_at = waiting & {one.model for label in ready for one in to[label]}


def _hops(
    model: ModelSurvey, relations: list[RelationProposal], keyed: dict[str, KeyProposal]
) -> dict[str, tuple[list[KeyPart], float]]:
    """The relations that can be part of a key: the paths through each, and how sure they are."""
    hops = {}
    for one in relations:
        key = keyed.get(one.to)
        usable = one.model != one.to and not one.many and one.confidence >= 0.5
        if usable and key is not None and key.natural_key and model.always(one.field):
            paths: list[KeyPart] = [f"{one.field}__{part}" for part in key.natural_key]
            hops[one.field] = paths, min(one.confidence, key.confidence)
    return hops


def _combined(
    label: str,
    model: ModelSurvey,
    hops: dict[str, tuple[list[KeyPart], float]],
    related: set[str],
) -> KeyProposal | None:
    """The smallest set of columns with a relation in it that is unique, if there is one.

    Relations that are none of the `hops` lead to models without key, and are no part of one.
    """
    plain = [
        name
        for name, column in model.columns.items()
        if name not in hops.keys() | related
        and model.always(name)
        and (column.is_plain_text or column.kind is int)
        and not model.is_unique([name])
        and len(column.distinct()) > 1
    ]
    # Relations first, then the columns that tell most records apart.
    plain.sort(key=lambda name: -len(model.columns[name].distinct()))
    names = [*hops, *plain][:MOST_COMBINED_COLUMNS]
    for size in (1, 2, 3):
        for chosen in itertools.combinations(names, size):
            is_short = len(_parts(chosen, hops)) <= MAX_KEY_PARTS
            if chosen[0] in hops and is_short and model.is_unique(chosen):
                return _combined_key(label, model, chosen, hops)
    return None


def _parts(chosen: tuple[str, ...], hops: dict[str, tuple[list[KeyPart], float]]) -> list[KeyPart]:
    return [part for name in chosen for part in hops.get(name, ([name], 1.0))[0]]


def _combined_key(
    label: str,
    model: ModelSurvey,
    chosen: tuple[str, ...],
    hops: dict[str, tuple[list[KeyPart], float]],
) -> KeyProposal:
    sure = min(hops.get(name, ([], 1.0))[1] for name in chosen)
    # A relation may hold natural keys, of which there are no codes.
    room = math.prod(max(1, len(model.columns[name].distinct())) for name in chosen)
    # As many equal rows would be expected if the columns had nothing to do with each other.
    expected = model.kept * model.kept / 2 / room
    certain = MOST_COMBINED * sure * (1 - math.exp(-expected)) * _weight(model.records)
    together = "unique together, and not in fewer columns,"
    if len(chosen) == 1:
        certain *= ONE_TO_ONE
        together = "unique"
    return KeyProposal(
        model=label,
        natural_key=_parts(chosen, hops),
        confidence=round(certain, 3),
        evidence=[f"{', '.join(chosen)}: {together} in {_records(model)}"],
    )
