"""What Django writes of which model into a backup, read from the live models. Imports Django."""

from __future__ import annotations

from typing import Any, cast

from django.apps import apps

from fastnk.errors import SchemaError
from fastnk.schema import GenericRelation, Relation


def models_in_backups() -> list[type[Any]]:
    """The models that `dumpdata` writes, sorted by label.

    And the through models, which it leaves out, that a relation of one of them points at.
    """
    every = [model for model in apps.get_models(include_auto_created=True) if not model._meta.proxy]
    written = [model for model in every if not model._meta.auto_created]
    pointed_at = {relation.to for model in written for relation in relations_of(model).values()}
    return sorted(
        (model for model in every if model in written or model._meta.label_lower in pointed_at),
        key=lambda model: model._meta.label_lower,
    )


def relations_of(model: type[Any]) -> dict[str, Relation]:
    """The relations among the fields of a record of `model`, and its pk if that is one."""
    relations = {}
    for field in model._meta.local_fields:
        if field.concrete and field.is_relation and is_saved(field):
            to = _target_label(field)
            to_field = None if field.target_field.primary_key else field.target_field.name
            relations[field.name] = Relation(to=to, to_field=to_field)
    for field in model._meta.local_many_to_many:
        if field.serialize and field.remote_field.through._meta.auto_created:
            relations[field.name] = Relation(to=_target_label(field), many=True)
    return relations


def generic_relations_of(model: type[Any]) -> dict[str, GenericRelation]:
    """The generic foreign keys whose two fields are in a record of `model`."""
    if not apps.is_installed("django.contrib.contenttypes"):
        return {}
    from django.contrib.contenttypes.fields import GenericForeignKey

    local = {field.name for field in model._meta.local_fields}
    return {
        field.name: GenericRelation(content_type=field.ct_field, object_id=field.fk_field)
        for field in model._meta.private_fields
        if isinstance(field, GenericForeignKey) and {field.ct_field, field.fk_field} <= local
    }


def is_saved(field: Any) -> bool:
    """Whether Django writes `field` into a backup: among the fields, or as the pk."""
    return bool(field.serialize or field.primary_key)


def target_of(field: Any) -> type[Any]:
    """The model that the relation `field` refers to. Raises `SchemaError` if it has no table."""
    model = field.remote_field.model
    if isinstance(model, str):
        fault = f"{model}, which is not installed"
    elif model._meta.swapped:
        fault = f"{model._meta.label}, which {model._meta.swapped} replaces"
    else:
        return cast(type[Any], model)
    raise SchemaError(
        f'"{field.name}" of {field.model._meta.label_lower} refers to {fault}',
        remedy="python manage.py check",
    )


def _target_label(field: Any) -> str:
    return str(target_of(field)._meta.concrete_model._meta.label_lower)
