"""Models that continue the rows of another: children in multi-table inheritance.

A backup says that only by their pks, which are those of their parents. Where the parents then go by
natural keys, the children would have lost them. So would rows whose pk is a one-to-one relation, as
that of a profile to its user, of which a backup does not even tell the name.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from fastnk.infer.fields import Hashes, Ids, ModelSurvey, Survey, contained
from fastnk.infer.guess import find_people
from fastnk.infer.keys import ABSENT
from fastnk.infer.naming import MIN_PART
from fastnk.infer.proposal import RelationProposal, Target
from fastnk.profile import number_of
from fastnk.schema import model_name

NAMED, UNNAMED = 0.6, 0.05
"""How sure a parent is whose pks say no more, where its child's name ends with its own or not."""

MOST_NAMED, MOST_UNNAMED = 0.97, 0.85
MOST_BITS = 20.0
LATE, APART = 3.0, 3.0
"""Bits: what it is worth that pks begin where those of a table of its own would have ended, and
that another child has none of them, for tables of their own begin with the same ones."""

MOST_SIBLINGS = 20
"""So many are looked at where their names say nothing."""

BITS_OF_A_TEXT = 3.0
SCATTERED = 8.0
"""So many bits speak for a parent by themselves, fewer where it has children by their names."""

LINKED = 0.9
"""A `taskpage` with a field `task` rather says what the task of a page is; its pk is a one-to-one
relation then."""

EARLY = 0.9
"""What is left where the pks are all from one on: those of a table of its own would be, too."""

MOST_OTHERS = 3


class _Parent(NamedTuple):
    to: str
    confidence: float
    named: bool
    has_named: bool
    """Whether others are named as its children."""
    is_vague: bool
    """Whether nothing speaks for it but that others may be its children, too."""
    apart: int
    """How many other models that are named as its children have none of the child's pks."""
    evidence: list[str]


def guess_parents(survey: Survey) -> Iterator[RelationProposal]:
    """A proposal for each model that may be a child, with the models that may be its parent."""
    parents = defaultdict(list)
    siblings = {}
    held = {label: pks for label, model in survey.models.items() if (pks := _pks(model))}
    for to, children in _children(survey, held):
        named = [one for one in children if _is_named(one, to)]
        siblings[to] = named or [one for one in children if _is_late(held[one])][:MOST_SIBLINGS]
        for label in children:
            parents[label].append(to)
    found = {
        label: _likeliest(
            held, filter(None, [_parent(survey, held, label, to, siblings[to]) for to in possible])
        )
        for label, possible in parents.items()
    }
    branches = defaultdict(list)
    for label, likely in found.items():
        if likely:
            branches[likely[0].to].append(label)
    for label, likely in found.items():
        if likely:
            root = likely[0]
            best = _nearest(held, label, root, branches[root.to])
            rest = [one for one in likely if one.to != best.to]
            yield RelationProposal(
                model=label,
                field=f"{model_name(best.to)}_ptr",
                to=best.to,
                parent_link=True,
                confidence=round(best.confidence, 3),
                named=best.named,
                values=survey.models[label].records,
                evidence=best.evidence,
                others=[Target(one.to, round(one.confidence, 3)) for one in rest[:MOST_OTHERS]],
            )


def _children(survey: Survey, held: Mapping[str, Ids | Hashes]) -> Iterator[tuple[str, list[str]]]:
    """Each model with those all of whose pks are pks of it, and that do not speak against it: a
    child has no field of its parent's, and none that is named after it."""
    columns = {label: model.columns.keys() for label, model in survey.models.items()}
    spans = {label: _span(pks) for label, pks in held.items()}
    people = find_people(survey)
    for to, (kind, most, low, high) in spans.items():
        if to not in ABSENT and columns[to]:
            has_gaps = high - low >= most
            # Said in little time: many models are compared with many.
            fits = [
                label
                for label, (its_kind, count, lowest, highest) in spans.items()
                if lowest >= low and highest <= high and its_kind is kind
                if count < most or (count == most and has_gaps and _may_have_all(label, to, people))
                # Where there are no gaps, early pks are there by accident.
                if has_gaps or lowest > count or _is_named(label, to)
            ]
            yield (
                to,
                [
                    label
                    for label in fits
                    if columns[label].isdisjoint(columns[to])
                    and model_name(to) not in columns[label]
                    and _is_within(held[label], held[to])
                    and not (spans[label][1] == most and _has_link(survey.models[label], held[to]))
                ],
            )


def _may_have_all(label: str, to: str, people: str | None) -> bool:
    """Whether a model may have a row for each one of another, told by their names: a child, or what
    there is once for all people or for each record."""
    return model_name(label) != model_name(to) and (
        to == people or _is_named(label, to) or _begins(label, to)
    )


def _has_link(model: ModelSurvey, pks: Ids | Hashes) -> bool:
    """Whether a field of the model, and then not its pk, says to which of these a row belongs."""
    kind = int if isinstance(pks, Ids) else str
    columns = [column.distinct() for column in model.columns.values() if column.kind is kind]
    return any(
        len(codes) == len(pks) and contained(codes, pks, len(codes)) == 1 for codes in columns
    )


def _parent(
    survey: Survey, held: Mapping[str, Ids | Hashes], label: str, to: str, siblings: list[str]
) -> _Parent | None:
    """How sure it is that `to`, of which others are children if `label` is one, is its parent."""
    pks, theirs = held[label], held[to]
    is_child, has_all = _is_named(label, to), len(pks) == len(theirs)
    scattered, is_late = _chance(pks, theirs)
    named = is_child or (has_all and _begins(label, to))
    if not (named or is_late or scattered >= SCATTERED):
        return None
    others = [held[one] for one in siblings if one != label]
    apart = sum(_are_apart(pks, other) for other in others)
    if not named and scattered < SCATTERED and not (others and apart == len(others)):
        return None
    bits = min(MOST_BITS, scattered + LATE * is_late + APART * apart)
    # Where each row has one, it may as well be a one-to-one relation.
    most = MOST_NAMED if is_child and not has_all else MOST_UNNAMED
    before = NAMED if named else UNNAMED
    odds = before / (1 - before) * 2 ** (bits / 2)
    evidence = []
    if named:
        evidence.append(f"its name {'ends' if is_child else 'begins'} with that of its parent")
    evidence.append(f"{number_of(len(pks), 'pk')}, all of the {len(theirs):,} of {to}")
    if apart:
        evidence.append(f"no pk is in {number_of(apart, 'other model')} that may be such a child")
    certain = min(most, odds / (1 + odds))
    if named and model_name(label).removesuffix(model_name(to)) in survey.models[label].columns:
        certain *= LINKED
        evidence.append("but it may link its parent to what a field of it is named after")
    if _is_early(pks):
        certain *= EARLY
        evidence.append("but a table of its own would have the same ones")
    has_named = any(_is_named(one, to) for one in siblings)
    is_vague = not named and not has_named and scattered < SCATTERED
    return _Parent(to, certain, named, has_named, is_vague, apart, evidence)


def _likeliest(held: Mapping[str, Ids | Hashes], found: Iterable[_Parent]) -> list[_Parent]:
    """The likeliest first; of equals one that has children by their names, then the smallest."""
    parents = [*found]
    vague = max(1, sum(one.is_vague for one in parents))
    parents = [
        one._replace(confidence=one.confidence / vague) if one.is_vague else one for one in parents
    ]
    return sorted(parents, key=lambda one: (-one.confidence, not one.has_named, len(held[one.to])))


def _nearest(
    held: Mapping[str, Ids | Hashes], label: str, root: _Parent, children: list[str]
) -> _Parent:
    """The parent of `label`, which continues rows of `root`: of its children the nearest one that
    has all these pks as well, for two children of one parent have no row in common."""
    pks = held[label]
    between = [one for one in children if len(held[one]) > len(pks) and _is_within(pks, held[one])]
    if not between:
        return root
    to = min(between, key=lambda one: len(held[one]))
    most = MOST_NAMED if root.apart else MOST_UNNAMED
    evidence = [*root.evidence, f"and of the {len(held[to]):,} of {to}, which continue its rows"]
    return root._replace(to=to, confidence=min(root.confidence, most), evidence=evidence)


def _is_named(child: str, parent: str) -> bool:
    name = model_name(parent)
    return len(name) >= MIN_PART and model_name(child).endswith(name)


def _begins(label: str, to: str) -> bool:
    """Whether a model is named after what it adds to another, as a `userprofile`."""
    name = model_name(to)
    return len(name) >= MIN_PART and model_name(label).startswith(name)


def _chance(pks: Ids | Hashes, theirs: Ids | Hashes) -> tuple[float, bool]:
    """In bits, how unlikely it is that pks like these all are among others by accident; and
    whether they begin late."""
    if not (isinstance(pks, Ids) and isinstance(theirs, Ids)):
        return BITS_OF_A_TEXT * len(pks), False
    if len(pks) == len(theirs):
        return _bits_of_gaps(pks), _is_late(pks)
    density = theirs.density(pks.lowest, pks.highest)
    bits = -len(pks) * math.log2(density) if density < 1 else 0.0
    return bits, _is_late(pks)


def _bits_of_gaps(pks: Ids) -> float:
    """How unlikely it is that as many pks between the same two leave out the same ones."""
    places, count = pks.highest - pks.lowest + 1, len(pks)
    ways = math.lgamma(places + 1) - math.lgamma(count + 1) - math.lgamma(places - count + 1)
    return ways / math.log(2) if places > count else 0.0


def _is_late(pks: Ids | Hashes) -> bool:
    """Whether pks begin where those of a table of its own would have ended."""
    return isinstance(pks, Ids) and pks.lowest > len(pks)


def _is_early(pks: Ids | Hashes) -> bool:
    """Whether they are all the numbers from one on."""
    return isinstance(pks, Ids) and pks.lowest == 1 and pks.highest == len(pks)


def _span(pks: Ids | Hashes) -> tuple[type, int, int, int]:
    """Of which kind they are, how many, and from where to where they go."""
    return type(pks), len(pks), pks.lowest, pks.highest


def _is_within(pks: Ids | Hashes, theirs: Ids | Hashes) -> bool:
    if isinstance(pks, Ids):
        return isinstance(theirs, Ids) and pks.is_within(theirs)
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
