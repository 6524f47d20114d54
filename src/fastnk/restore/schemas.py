"""The schema by which a backup is converted on its way into a project of today."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial

import msgspec

from fastnk.errors import FindingsError
from fastnk.renames import Renames
from fastnk.schema import Relation, Schema

FieldOfModel = tuple[str, str]
"""The label of a model and the name of a field."""


def schema_of_project(schema: Schema | str | os.PathLike[str] | None) -> Schema:
    """The schema that is given, or that of the project of this process."""
    if isinstance(schema, Schema):
        return schema
    if schema is not None:
        return Schema.load(schema)
    from fastnk.django.schema.introspect import schema_from_apps

    return schema_from_apps()


def schema_of_backup(schema: Schema, renames: Renames) -> Schema:
    """The schema by the names of the backup, without methods that only know those of today."""
    from fastnk.django.calling import methods_that_meet

    changed = renames.changed(schema.models)
    useless = methods_that_meet(schema, changed) if changed else set()
    return renames.schema_of_backup(without_methods(schema, useless))


def renamed_to_many(schema: Schema, renames: Renames) -> dict[FieldOfModel, Relation]:
    """The renamed relations that lead to many today, in a schema by the names of the backup."""
    models = schema.models
    return {
        (label, name): models[label].relations[name]
        for label, names in renames.fields.items()
        for name in names
        if label in models and name in models[label].relations
        if models[label].relations[name].many
    }


def held_as_keys(
    relations: Mapping[FieldOfModel, Relation], renames: Renames, error: FindingsError
) -> set[FieldOfModel]:
    """Those in which a conversion has found what no id of their targets can be."""
    from fastnk.django.restore.renaming import may_be_pk

    found = set()
    for finding in error.findings:
        place = (finding.place.model or "", finding.place.field or "")
        if finding.code == "FNK301" and place in relations:
            target = renames.label(relations[place].to)
            if not may_be_pk(target, finding.value):
                found.add(place)
    return found


def useless_methods(schema: Schema, error: FindingsError) -> set[str]:
    """The labels of models whose method could not make a natural key of some record."""
    labels = {kind.model for kind in error.counts if kind.code == "FNK307"}
    return {label for label in labels if label and schema.models[label].natural_key_method}


def without_methods(schema: Schema, labels: set[str]) -> Schema:
    """`schema` without the methods that make keys of these models, for records and references."""
    no_method = partial(msgspec.structs.replace, natural_key_method=None)
    models = {}
    for label, model in schema.models.items():
        relations = {
            name: no_method(relation) if relation.to in labels else relation
            for name, relation in model.relations.items()
        }
        own = no_method(model, keep_pk=False) if label in labels else model
        models[label] = msgspec.structs.replace(own, relations=relations)
    return msgspec.structs.replace(schema, models=models)


def leading_to_one(schema: Schema, fields: set[FieldOfModel]) -> Schema:
    """`schema` with these relations to one each."""
    models = dict(schema.models)
    for label, name in fields:
        one = msgspec.structs.replace(models[label].relations[name], many=False)
        relations = models[label].relations | {name: one}
        models[label] = msgspec.structs.replace(models[label], relations=relations)
    return msgspec.structs.replace(schema, models=models)
