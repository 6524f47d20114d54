"""Natural keys from one backup alone: columns that tell the records of a model apart."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Collection, Iterator

from fastnk.infer.fields import MAX_KEY_PARTS, ModelSurvey, Room, Survey, is_random
from fastnk.infer.naming import singular
from fastnk.infer.proposal import KeyProposal, OtherKey, RelationProposal
from fastnk.profile import number_of
from fastnk.schema import KeyPart, model_name

LEAST_SHOWN = 0.001
MOST_OTHERS = 3

CONTENT_TYPES, PERMISSIONS = "contenttypes.contenttype", "auth.permission"

KNOWN_KEYS: dict[str, list[KeyPart]] = {
    CONTENT_TYPES: ["app_label", "model"],
    PERMISSIONS: ["codename", "content_type__app_label", "content_type__model"],
    "auth.group": ["name"],
    "auth.user": ["username"],
    "sites.site": ["domain"],
}
"""The natural keys of Django's own models."""

KEYLESS = {"admin.logentry", "flatpages.flatpage", "redirects.redirect", "sessions.session"}
"""Models of Django that have none."""

ABSENT = (CONTENT_TYPES, PERMISSIONS)
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

TREE_FIELDS, NAMES_IN_A_TREE = {"path", "depth", "numchild"}, ("name", "slug", "title")
"""Fields by which `django-treebeard` keeps a tree, as of pages, and what in it tells only records
with the same parent apart."""

CLOSE, UNDECIDED = 0.025, 0.85
"""How near the confidence in another key leaves both undecided, and how sure they then are at
most."""

OTHER_KEY_WORD = 0.3
SOME_NAME = 0.6
"""For a `first_name` or `file_name`, and for a `language_code` beside a `language`."""

MOST_KEY_WORDS = 4
"""Words of a text on average; a column of longer ones is prose."""

MOST_COMBINED = 0.8
"""The confidence in a key of several columns: others may be unique by accident as well."""

MOST_COMBINED_COLUMNS = 12

TEXT_PK, UNSURE_PK = 0.9, 0.4
BESIDE_TEXT_PK = 0.7
"""A pk that is a word or a code is what others refer to it by; that beats other unique columns."""

ONE_TO_ONE = 0.7
"""What a relation alone is worth as key, be it unique: few records may just not repeat it yet."""


def guess_keys(survey: Survey, relations: list[RelationProposal]) -> dict[str, list[KeyProposal]]:
    """Per model what may be its natural key, the likeliest first; Django's own models included
    that the backup may leave out."""
    likely = [one for one in relations if one.confidence >= 0.5]
    targets = {one.to for one in likely}
    related = defaultdict(set)
    for one in likely:
        related[one.model].add(one.field.removesuffix("_id"))
    found: dict[str, list[KeyProposal]] = {}
    for label, model in survey.models.items():
        worth = 1.0 if label in targets else 0.85
        single = _single_keys(label, model, worth, related[label])
        keys = sorted(single, key=lambda one: -one.confidence)
        if keys:
            found[label] = keys
            _doubt_close(keys)
    _combine(survey, relations, found)
    return {label: sorted(keys, key=lambda one: -one.confidence) for label, keys in found.items()}


def _doubt_close(keys: list[KeyProposal]) -> None:
    """Be less sure of keys that are about equally likely: a name and its slug."""
    close = [one for one in keys if keys[0].confidence - one.confidence < CLOSE]
    for one in close if len(close) > 1 else ():
        one.confidence = min(one.confidence, UNDECIDED)
        one.evidence.append("another is about as likely")


def with_others(keys: list[KeyProposal]) -> KeyProposal:
    """The first of these proposals, the rest as its alternatives."""
    best, *rest = keys
    best.others = [
        OtherKey(one.natural_key, one.confidence) for one in rest[:MOST_OTHERS] if one.natural_key
    ]
    return best


def _single_keys(
    label: str, model: ModelSurvey, worth: float, related: Collection[str]
) -> Iterator[KeyProposal]:
    """The key that Django gives a model, or keys of one column; `related` are the relations of the
    model by their names."""
    if label in KEYLESS:
        return
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
        first, _, last = name.rpartition("_")
        certain = KEY_WORDS.get(last, 0.9 if last == own else OTHER_KEY_WORD)
        if first not in ("", own) and (first in related or last == "name"):
            certain = min(certain, SOME_NAME)
        certain *= worth * _weight(model.records)
        evidence = [f"never null and unique in {_records(model)}"]
        if last in NAMES_IN_A_TREE and model.columns.keys() >= TREE_FIELDS:
            certain = min(certain, UNDECIDED)
            evidence.append("in a tree it may tell only those with the same parent apart")
        if worth < 1:
            evidence.append("nothing refers to the model, so it may well have no key")
        yield KeyProposal(
            model=label, natural_key=[name], confidence=round(certain, 3), evidence=evidence
        )


def _pk_as_key(label: str, model: ModelSurvey) -> KeyProposal:
    sample = model.text_pk or ""
    kind, confidence = "texts, which a new database keeps", TEXT_PK
    if is_random(sample):
        kind, confidence = "random, and a new database keeps them", UNSURE_PK
    elif sample.isdecimal():
        kind, confidence = "numbers in quotes, which the database may have made", UNSURE_PK
    return KeyProposal(
        model=label,
        natural_key=["pk"],
        confidence=confidence,
        evidence=[
            f"its pks are {kind}",
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
    for label in KNOWN_KEYS:
        if label not in survey.models:
            found[label] = list(_single_keys(label, ModelSurvey(Room()), 1.0, ()))
    of, to = defaultdict(list), defaultdict(list)
    for one in relations:
        of[one.model].append(one)
        to[one.to].append(one)
    waiting = {label for label, model in survey.models.items() if model.records > 1}
    waiting -= KEYLESS
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
