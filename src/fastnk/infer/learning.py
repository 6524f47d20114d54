"""Relations and natural keys from a backup that has natural keys: the example.

The lists in its relation fields are keys. A model is their target when its records hold, in the
same fields for all of them, what stands in the lists; those fields then are its natural key. A
member `natural_key` gives the same at once. A part that is also part of another key of the same
record came through that relation.
"""

from __future__ import annotations

import itertools
from array import array
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from fastnk.infer.fields import (
    Column,
    ModelSurvey,
    Parts,
    Survey,
    contained,
    joined,
    normal_time,
    unique,
)
from fastnk.infer.guess import find_people
from fastnk.infer.keys import ABSENT, KEY_WORDS, KNOWN_KEYS
from fastnk.infer.naming import Names
from fastnk.profile import number_of
from fastnk.schema import KeyPart

MOST_OPTIONS = 6
"""Columns considered for one part of a key."""

PREFILTER = 64
LEAST_SHARE = 0.9
"""So many of the keys must be those of records of the target; the rest may have been deleted."""

LEAST_OLD_IDS = 0.5

THROUGH_ONE = 0.5
"""A key that is no more than another model's: rather that one is the target."""


class Part(NamedTuple):
    """Where one part of a key comes from: a field, or a part of the key that a field holds."""

    field: str
    position: int | None = None
    transform: str | None = None


class LearnedRelation(NamedTuple):
    to: str
    many: bool
    confidence: float
    evidence: list[str]


class LearnedKey(NamedTuple):
    natural_key: list[KeyPart]
    confidence: float
    evidence: list[str]


class Lesson(NamedTuple):
    """What an example teaches."""

    relations: dict[tuple[str, str], LearnedRelation]
    """By model and field."""
    keys: dict[str, LearnedKey]
    keyed: set[str]
    """Models that have a natural key, known or not."""
    keyless: set[str]
    """Models that keep their pks though others do not."""


class _Vote(NamedTuple):
    parts: tuple[Part, ...]
    keys: int
    confidence: float
    why: str


def learn(example: Survey, backup: Survey) -> Lesson:
    """What the natural keys in `example` say about the fields and models of both."""
    return _Learner(example, backup).lesson()


class _Learner:
    def __init__(self, example: Survey, backup: Survey) -> None:
        self._example = example
        self._backup = backup
        self._keyed = {label for label, model in example.models.items() if model.is_keyed}
        labels = [*dict.fromkeys([*example.models, *backup.models, *ABSENT])]
        self._names = Names(labels, find_people(example) or find_people(backup))
        self._votes: dict[str, list[_Vote]] = defaultdict(list)
        self._shown: dict[str, _Vote] = {}
        """Of models whose records show their key."""
        self._relations: dict[tuple[str, str], LearnedRelation] = {}

    def lesson(self) -> Lesson:
        for label, model in self._example.models.items():
            if vote := _from_member(model):
                self._shown[label] = vote
                self._votes[label].append(vote)
        for label, model in self._example.models.items():
            for field, column in model.columns.items():
                for keys, many in _keys_in(column):
                    self._learn_field(label, field, keys, many)
        keyed = self._keyed | self._votes.keys()
        return Lesson(
            relations=self._relations,
            keys={label: key for label in keyed if (key := self._key(label)) is not None},
            keyed=keyed,
            keyless=self._example.models.keys() - keyed if self._keyed else set(),
        )

    def _learn_field(self, label: str, field: str, keys: Parts, many: bool) -> None:
        found = self._names.matches(label, field)
        names = {match.to: match for match in found}
        fits = {
            to: vote
            for to, model in self._example.models.items()
            if (to in self._keyed or not self._keyed)
            and (vote := _fit(model, to, keys))
            and vote.parts == self._shown.get(to, vote).parts
        }
        for to in names.keys() - fits.keys():
            vote = self._by_name_alone(to, keys)
            if vote is not None:
                fits[to] = vote
        if not fits:
            return
        ranked = sorted(
            fits, key=lambda to: (to in names, fits[to].confidence, fits[to].keys), reverse=True
        )
        to = ranked[0]
        vote = fits[to]
        certain, evidence = vote.confidence, [f"in the example {vote.why}"]
        if to in names:
            certain = 1 - (1 - certain) * (1 - names[to].strength / 2)
            evidence.append(names[to].why)
        elif len(ranked) > 1:
            certain *= certain / sum(fit.confidence for fit in fits.values())
            evidence.append(f"so do those of {', '.join(ranked[1:4])}")
        self._relations[label, field] = LearnedRelation(to, many, certain, evidence)
        if vote.parts:
            self._votes[to].append(vote)

    def _by_name_alone(self, to: str, keys: Parts) -> _Vote | None:
        """A target whose records do not hold the parts: because there are none in the example, or
        because the key is the pk, which natural keys replace."""
        columns = keys.columns or []
        known = KNOWN_KEYS.get(to)
        if to not in self._example.models and known is not None and len(known) == len(columns):
            count = number_of(len(keys.distinct()), "different key")
            return _Vote((), 0, 0.85, f"it holds {count} as long as those that Django gives {to}")
        old = self._backup.models.get(to)
        if len(columns) != 1 or old is None or not old.text_pks:
            return None
        codes = columns[0].distinct()
        share = contained(codes, old.text_pks, len(codes))
        if share < LEAST_OLD_IDS:
            return None
        why = f"it holds {number_of(len(codes), 'different key')}, {share:.0%} of them old pks"
        return _Vote((Part("pk"),), len(codes), 0.9 * share, f"{why} of {to}")

    def _key(self, label: str, passed: tuple[str, ...] = ()) -> LearnedKey | None:
        """The natural key of a model with its paths; `None` while a relation on its way is not
        known."""
        if label in KNOWN_KEYS and label in (*self._keyed, *ABSENT):
            return LearnedKey(KNOWN_KEYS[label], 0.97, ["Django gives this model that key"])
        votes = self._votes.get(label)
        if not votes or label in passed:
            return None
        best = max(votes, key=lambda vote: (vote.keys, vote.confidence))
        paths: list[KeyPart] = []
        certain = best.confidence
        for part in best.parts:
            path = part.field if part.transform is None else f"{part.field}|{part.transform}"
            if part.position is not None:
                relation = self._relations.get((label, part.field))
                key = None if relation is None else self._key(relation.to, (*passed, label))
                if relation is None or key is None or part.position >= len(key.natural_key):
                    return None
                certain = min(certain, relation.confidence, key.confidence)
                path = f"{part.field}__{key.natural_key[part.position]}"
            paths.append(path)
        agreeing = [vote for vote in votes if vote.parts == best.parts]
        certain = 1 - (1 - certain) * 0.7 ** (len(agreeing) - 1)
        evidence = [f"in the example {best.why}"]
        if len(agreeing) > 1:
            evidence.append(f"and {number_of(len(agreeing) - 1, 'other field')} say the same")
        return LearnedKey(paths, certain, evidence)


def _keys_in(column: Column) -> Iterator[tuple[Parts, bool]]:
    """The natural keys in a field, and whether it holds many."""
    lists = column.lists
    if lists is None or column.others:
        return
    if lists.key.looks_like_keys and not lists.empty and not lists.keys.count:
        yield lists.key, False
    elif lists.keys.looks_like_keys and not lists.elements.count:
        yield lists.keys, True


class _Option(NamedTuple):
    """A column that may be a part of a key, as the part would spell it."""

    part: Part
    codes: Sequence[int]


def _options(model: ModelSurvey, wanted: Column) -> Iterator[_Option]:
    """The columns of a model whose values are of the kind that a part is."""
    for field, column in model.columns.items():
        if not model.always(field):
            continue
        if column.kind is not list:
            if column.kind in (int, str) and not column.free:
                yield from _spelled(Part(field), column, wanted)
        elif column.lists is not None and column.lists.key.looks_like_keys:
            for position, part in enumerate(column.lists.key.columns or ()):
                yield from _spelled(Part(field, position), part, wanted)


def _spelled(part: Part, column: Column, wanted: Column) -> Iterator[_Option]:
    sample = wanted.sample or ""
    if wanted.kind is column.kind:
        is_iso = wanted.times and normal_time(sample) == sample
        differs = is_iso and normal_time(column.sample or "") != column.sample
        yield _Option(part._replace(transform="isoformat") if differs else part, column.codes)
    elif column.kind is int and wanted.kind is str and sample.lstrip("-").isdecimal():
        codes = array("q", [hash(str(code)) for code in column.codes])
        yield _Option(part._replace(transform="str"), codes)


def _from_member(model: ModelSurvey) -> _Vote | None:
    """The parts of `natural_key` members: columns that equal them in every record."""
    lists = model.natural_key.lists
    complete = model.with_natural_key == model.records
    if lists is None or not lists.key.looks_like_keys or not complete:
        return None
    parts = []
    for wanted in lists.key.columns or ():
        equal = [
            option.part
            for option in _options(model, wanted)
            if len(option.codes) == len(wanted.codes) and option.codes == wanted.codes
        ]
        part = max(equal, key=_preference) if equal else _old_id(wanted)
        if part is None:
            return None
        parts.append(part)
    count = number_of(model.records, "record")
    certain = 0.98 if model.records > 2 else 0.85
    if any(part.field == "pk" for part in parts):
        certain *= 0.8
    return _Vote(tuple(parts), model.records, certain, f"the natural_key of {count} holds it")


def _old_id(wanted: Column) -> Part | None:
    """The pk, for a part that no field holds: natural keys take its place."""
    if (wanted.sample or "").isdecimal():
        return Part("pk", None, "str")
    return Part("pk") if wanted.kind in (int, str) else None


def _fit(model: ModelSurvey, to: str, keys: Parts) -> _Vote | None:
    """The columns of a model that together hold these keys and tell its records apart."""
    choices = []
    for wanted in keys.columns or ():
        codes = wanted.distinct()
        few = codes[:: max(1, len(codes) // PREFILTER)]
        fitting = [
            option
            for option in _options(model, wanted)
            if joined(few, held := array("q", sorted(set(option.codes)))) >= LEAST_SHARE
            and joined(codes, held) >= LEAST_SHARE
        ]
        if not fitting:
            return None
        fitting.sort(key=lambda option: _preference(option.part), reverse=True)
        choices.append(fitting[:MOST_OPTIONS])
    wanted_keys = keys.distinct()
    best: tuple[float, float, tuple[Part, ...]] | None = None
    for chosen in itertools.product(*choices):
        parts = tuple(option.part for option in chosen)
        columns = [option.codes for option in chosen]
        if len(set(parts)) < len(parts) or not unique(columns):
            continue
        held_keys = set(zip(*columns, strict=False))
        share = len(wanted_keys & held_keys) / len(wanted_keys)
        rank = share, sum(map(_preference, parts)), parts
        if share >= LEAST_SHARE and (best is None or rank[:2] > best[:2]):
            best = rank
    if best is None:
        return None
    share, _, parts = best
    certain = (0.92 if model.is_keyed else 0.7) * share
    if len(parts) == 1 and parts[0].position is not None:
        certain *= THROUGH_ONE
    count = number_of(len(wanted_keys), "different key")
    fields = ", ".join(dict.fromkeys(part.field for part in parts))
    why = f"{share:.0%} of {count} found in {to} by {fields}"
    return _Vote(parts, len(wanted_keys), certain, why)


def _preference(part: Part) -> float:
    """How likely a column is part of a natural key, by its name; those of relations most."""
    if part.position is not None:
        return 1.0
    return KEY_WORDS.get(part.field.rpartition("_")[2], 0.3)
