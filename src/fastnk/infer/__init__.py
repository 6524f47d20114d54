"""Proposes a schema from a backup alone, or with a newer backup that has natural keys as example.

A proposal is a guess with its reasons. Nothing is converted by it before a person has made a
schema of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fastnk.errors import UsageError
from fastnk.infer.fields import ModelSurvey, Survey, survey
from fastnk.infer.guess import guess_relations
from fastnk.infer.inheritance import guess_parents
from fastnk.infer.keys import guess_keys, with_others
from fastnk.infer.learning import LearnedKey, LearnedRelation, Lesson, learn
from fastnk.infer.proposal import KeyProposal, Proposal, RelationProposal, Target
from fastnk.profile import number_of
from fastnk.schema import CONTENT_TYPE, OBJECT_IDS, KeyPart, flat_parts, parse_path
from fastnk.source import Backup, Progress, name_of, several

NOT_UNIQUE = 0.6
"""How sure a learned key can be at most that does not tell the records of the backup apart."""


def infer(
    backup: Backup,
    example: Backup | None = None,
    *,
    keys: Iterable[Backup] = (),
    encoding: str | None = None,
    salvage: bool = False,
    progress: Progress | None = None,
) -> Proposal:
    """Propose a schema for `backup`.

    `example` is a newer backup of the same system that has natural keys; relations and keys are
    learned from it. `keys` are further backups that hold records which `backup` refers to but
    does not hold. With `salvage` the whole records of damaged ones are used. Raises
    `BackupSyntaxError` for what is no backup, `SourceError`, and `UsageError` for an example
    without natural keys.
    """
    held = survey(backup, *several(keys), encoding=encoding, salvage=salvage, progress=progress)
    parents = [*guess_parents(held)]
    relations = [*parents, *guess_relations(held, parents)]
    lessons = []
    notes, damage = [*held.notes], [*held.damage]
    if example is not None:
        shown = survey(example, salvage=salvage, progress=progress)
        lessons.append(_learned(shown, held))
        notes += shown.notes
        damage += shown.damage
    if any(model.is_keyed for model in held.models.values()):
        # A model all of whose records have pks may just not have been converted yet.
        lessons.append(learn(held, held)._replace(keyless=set()))
        notes.append("the backup has natural keys itself; they were learned from, too")
    for lesson in lessons:
        relations = _with_learned_relations(held, relations, lesson)
    object_ids = _object_ids(held)
    return Proposal(
        backup=name_of(backup),
        example=None if example is None else name_of(example),
        models=_models(held, relations),
        relations=sorted(relations, key=lambda one: (one.model, one.field)),
        keys=sorted(_keys(held, relations, lessons), key=lambda one: one.model),
        object_ids=object_ids,
        notes=[*notes, *_generic_notes(object_ids)],
        damage=damage,
    )


def _learned(shown: Survey, held: Survey) -> Lesson:
    """What an example teaches. Raises `UsageError` where that is nothing."""
    lesson = learn(shown, held)
    if not (lesson.relations or lesson.keyed):
        raise UsageError(
            "the example has no natural keys to learn from",
            remedy="dumpdata --natural-foreign --natural-primary writes one",
        )
    return lesson


def _models(held: Survey, relations: list[RelationProposal]) -> dict[str, int]:
    models = {label: model.records for label, model in held.models.items()}
    for one in relations:
        models.setdefault(one.to, 0)
    return models


def _generic_notes(object_ids: dict[str, list[str]]) -> Iterator[str]:
    for label, names in object_ids.items():
        for name in names:
            yield f"{label}: {name} is taken for the id of a row, perhaps gone, of {CONTENT_TYPE}"


def _object_ids(held: Survey) -> dict[str, list[str]]:
    return {
        label: [name for name in OBJECT_IDS if name in model.columns]
        for label, model in held.models.items()
        if CONTENT_TYPE in model.columns
    }


# ---- relations ---------------------------------------------------------------------------------


def _with_learned_relations(
    held: Survey, relations: list[RelationProposal], lesson: Lesson
) -> list[RelationProposal]:
    """The relations guessed, confirmed or corrected by those that an example teaches."""
    guessed = {(one.model, one.field): one for one in relations}
    for (label, field), learned in lesson.relations.items():
        model = held.models.get(label)
        if model is not None and field in model.columns:
            old = guessed.get((label, field))
            guessed[label, field] = _learned_relation(label, field, learned, old, model)
    return list(guessed.values())


def _learned_relation(
    label: str,
    field: str,
    learned: LearnedRelation,
    guessed: RelationProposal | None,
    model: ModelSurvey,
) -> RelationProposal:
    certain, evidence = learned.confidence, [*learned.evidence]
    others: list[Target] = []
    to_field, values = None, 0
    if guessed is not None:
        values = guessed.values
        others = [other for other in guessed.others if other.to != learned.to]
        also = {guessed.to: guessed.confidence} | {o.to: o.confidence for o in guessed.others}
        if guessed.to != learned.to:
            others.insert(0, Target(guessed.to, guessed.confidence))
        else:
            to_field = guessed.to_field
            evidence += guessed.evidence
        if learned.to in also:
            certain = 1 - (1 - certain) * (1 - also[learned.to])
        elif values:
            certain *= 0.6
            evidence.append(f"but the backup's values are not those of {learned.to}")
    elif (column := model.columns[field]).ints or column.texts:
        certain *= 0.6
        evidence.append("but the backup's values are not ids that it holds")
    return RelationProposal(
        model=label,
        field=field,
        to=learned.to,
        to_field=to_field,
        many=learned.many,
        confidence=round(certain, 3),
        named=True,
        values=values,
        evidence=[*dict.fromkeys(evidence)],
        others=others,
    )


# ---- natural keys ------------------------------------------------------------------------------


def _keys(
    held: Survey, relations: list[RelationProposal], lessons: list[Lesson]
) -> Iterator[KeyProposal]:
    guessed = guess_keys(held, relations)
    targets = {one.to for one in relations}
    for label in {*held.models, *(label for label in guessed if label in targets)}:
        lesson = _about(label, lessons)
        keys = guessed.get(label, [])
        if lesson is None:
            if keys:
                yield with_others(keys)
        elif label in lesson.keys:
            yield _learned_key(label, lesson.keys[label], keys, held.models.get(label))
        elif label in lesson.keyless:
            yield KeyProposal(
                model=label,
                natural_key=None,
                confidence=0.9,
                evidence=["in the example its records have pks, those of other models do not"],
            )
        elif keys:
            keys[0].confidence = round(1 - (1 - keys[0].confidence) / 2, 3)
            keys[0].evidence.append("in the example its records have no pk, so it has some key")
            yield with_others(keys)


def _about(label: str, lessons: list[Lesson]) -> Lesson | None:
    """The first lesson that says something of a model; the key itself says most."""
    for lesson in lessons:
        if label in lesson.keys:
            return lesson
    for lesson in lessons:
        if label in lesson.keyed or label in lesson.keyless:
            return lesson
    return None


def _learned_key(
    label: str, learned: LearnedKey, guessed: list[KeyProposal], model: ModelSurvey | None
) -> KeyProposal:
    certain, evidence = learned.confidence, [*learned.evidence]
    if model is not None:
        certain, tried = _tried(model, learned.natural_key, certain)
        evidence.append(tried)
    key = KeyProposal(
        model=label,
        natural_key=learned.natural_key,
        confidence=round(certain, 3),
        evidence=evidence,
    )
    others = [one for one in guessed if one.natural_key != learned.natural_key]
    return with_others([key, *others])


def _tried(model: ModelSurvey, natural_key: list[KeyPart], certain: float) -> tuple[float, str]:
    """How sure a key is after a look at the backup's own records, and what was seen there."""
    fields = [first for part in flat_parts(natural_key) if (first := _first(part)) != "pk"]
    names = [*dict.fromkeys(fields)]
    missing = [name for name in names if name not in model.columns]
    if missing:
        return certain * 0.3, f"but no record of the backup has {', '.join(missing)}"
    if len(fields) < len([*flat_parts(natural_key)]):
        return certain, "the pk makes it unique"
    absent = [name for name in names if not model.always(name)]
    if absent:
        return min(certain, NOT_UNIQUE), f"but {', '.join(absent)} is null in some records"
    if not model.is_unique(names):
        return min(certain, NOT_UNIQUE), "but it is not unique in the backup"
    return certain, f"unique in {number_of(model.records, 'record')} of the backup"


def _first(part: str) -> str:
    hops, field, _ = parse_path(part)
    return hops[0] if hops else field
