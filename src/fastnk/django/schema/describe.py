"""What Django writes of which model into a backup, read from the live models. Imports Django."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

from django.apps import apps
from django.db import models
from django.db.models.fields import AutoFieldMixin

from fastnk.errors import SchemaError
from fastnk.schema import CONTENT_TYPE, OBJECT_IDS, Embedded, GenericRelation, Relation


def models_in_backups(every: Iterable[type[Any]] | None = None) -> list[type[Any]]:
    """The models that `dumpdata` writes, sorted by label; of `every` model, or of the live ones.

    And the through models, which it leaves out, that a relation of one of them points at.
    """
    if every is None:
        every = apps.get_models(include_auto_created=True)
    every = [model for model in every if not model._meta.proxy]
    written = [model for model in every if not model._meta.auto_created]
    pointed_at = {relation.to for model in written for relation in relations_of(model).values()}
    return sorted(
        (model for model in every if model in written or model._meta.label_lower in pointed_at),
        key=lambda model: model._meta.label_lower,
    )


def proxies_of(model: type[Any]) -> list[str]:
    """The labels of the proxies of `model`, in its own registry: the live one, or that of a
    migration."""
    return sorted(
        other._meta.label_lower
        for other in model._meta.apps.get_models()
        if other._meta.proxy and other._meta.concrete_model is model
    )


def relations_of(model: type[Any]) -> dict[str, Relation]:
    """The relations among the fields of a record of `model`, and its pk if that is one.

    Before Django 3.0 a record had the many-to-many fields of its model's parents, too, and one of a
    time before a field had a through model of its own says what it held.
    """
    relations = {}
    for field in model._meta.local_fields:
        if field.concrete and field.is_relation and is_saved(field):
            to = target_label(field)
            to_field = None if field.target_field.primary_key else field.target_field.name
            relations[field.name] = Relation(
                to=to, to_field=to_field, parent_link=_is_parent_link_as_pk(field)
            )
    for field in model._meta.many_to_many:
        through = field.remote_field.through  # `None` of what is kept inside another field
        if field.serialize and through:
            relations[field.name] = Relation(to=target_label(field), many=True)
    return relations


def generic_relations_of(model: type[Any]) -> dict[str, GenericRelation]:
    """The generic relations whose two fields are in a record of `model`.

    Those of a `GenericForeignKey`, and those that only bear the names which one has, as in the log
    of Django's admin: nothing says of these that the row is still there.
    """
    return _generic_foreign_keys(model) | {
        ids: GenericRelation(content_type=kind, object_id=ids, may_dangle=True)
        for kind, ids in _undeclared_ids(model)
        if kind == CONTENT_TYPE and ids in OBJECT_IDS
    }


def copied_pks_of(model: type[Any]) -> dict[str, Embedded]:
    """The plain fields of `model` that hold pks of the rows it keeps copies of, as a history does.

    The class of such a model has that of the original in an attribute, and the copy of a pk has the
    name of the pk, but is neither the pk of the copy nor a relation: the original may be gone.
    """
    fields = {
        field.name
        for field in model._meta.local_concrete_fields
        if not (field.primary_key or field.is_relation) and is_saved(field)
    }
    return {
        original._meta.pk.name: Embedded(concrete_label(original))
        for named in _models_named_by(model)
        for original in (named, *named._meta.get_parent_list())
        if original._meta.pk.name in fields
    }


def _models_named_by(model: type[Any]) -> Iterator[type[Any]]:
    for owner in model.__mro__:
        for value in vars(owner).values():
            if isinstance(value, models.base.ModelBase) and not value._meta.abstract:
                yield value


def undeclared_ids(model: type[Any]) -> Iterator[tuple[str, str]]:
    """A relation to content types, and a field that seems to hold ids of the models it names, of
    which neither a `GenericForeignKey` nor their names tell."""
    known = {generic.content_type for generic in generic_relations_of(model).values()}
    return (names for names in _undeclared_ids(model) if names[0] not in known)


def relations_kept_inside(model: type[Any]) -> list[str]:
    """The relations of `model` and its proxies that have no column: another field keeps their ids,
    as one of JSON may, and nothing says where in it."""
    same = [one for one in model._meta.apps.get_models() if one._meta.concrete_model is model]
    names = (
        field.name
        for one in same
        for field in one._meta.private_fields
        if isinstance(field, models.ForeignKey | models.ManyToManyField)
        and not getattr(field, "mti_inherited", False)
    )
    return sorted({*names})


def lossy_fields(model: type[Any]) -> Iterator[tuple[str, str]]:
    """The many-to-many fields from which dumpdata, even with `--all`, leaves out what the manager
    of their target hides, and these targets."""
    for field in model._meta.local_many_to_many:
        target = field.remote_field.model
        if field.remote_field.through._meta.auto_created and _hides_rows(target):
            yield field.name, target._meta.label_lower


def _hides_rows(model: Any) -> bool:
    try:
        return bool(model._default_manager.all().query.where)
    except Exception:  # a manager of the project that needs more than a model, such as a request
        return False


def _generic_foreign_keys(model: type[Any]) -> dict[str, GenericRelation]:
    if not apps.is_installed("django.contrib.contenttypes"):
        return {}
    from django.contrib.contenttypes.fields import GenericForeignKey

    local = {field.name for field in model._meta.local_fields}
    return {
        field.name: GenericRelation(content_type=field.ct_field, object_id=field.fk_field)
        for field in model._meta.private_fields
        if isinstance(field, GenericForeignKey) and {field.ct_field, field.fk_field} <= local
    }


def _undeclared_ids(model: type[Any]) -> Iterator[tuple[str, str]]:
    declared = _generic_foreign_keys(model).values()
    told = {generic.content_type for generic in declared} | {one.object_id for one in declared}
    fields = [field for field in model._meta.local_fields if field.name not in told]
    for kind in fields:
        if kind.is_relation and target_label(kind) == "contenttypes.contenttype":
            for field in fields:
                if not field.is_relation and field.name.endswith(("_id", "_pk")):
                    yield kind.name, field.name


def relations_to_proxies(written: Iterable[type[Any]]) -> Iterator[Any]:
    """The fields of `written` that refer to a proxy: its method makes the keys they hold."""
    for model in written:
        for field in (*model._meta.local_fields, *model._meta.local_many_to_many):
            if field.is_relation and field.serialize and target_of(field)._meta.proxy:
                yield field


def loses_its_pk(model: type[Any], key: Iterable[str], has_key: Callable[[str], bool]) -> bool:
    """Whether a record of `model` that has `key` for a pk no longer says what its pk was.

    Of a pk that the database numbered nothing is lost. `key` is given as its paths; `has_key` says
    of a model's label whether it has a natural key.
    """
    pk = model._meta.pk
    if isinstance(pk, AutoFieldMixin) or is_composite(pk):
        return False
    spellings = {"pk", pk.name}
    if pk.is_relation:
        if _is_parent_link_as_pk(pk) or has_key(target_label(pk)):
            return False
        spellings.add(f"{pk.name}__{pk.target_field.name}")
    return spellings.isdisjoint(key)


def is_composite(pk: Any) -> bool:
    """Whether `pk` is that of Django 5.2 which other columns make, all among a record's fields."""
    return isinstance(pk, getattr(models, "CompositePrimaryKey", ()))


def _is_parent_link_as_pk(field: Any) -> bool:
    return bool(field.primary_key and field.remote_field.parent_link)


def is_saved(field: Any) -> bool:
    """Whether Django writes `field` into a backup: among the fields, or as the pk."""
    return bool(field.serialize or field.primary_key)


def plain_of(field: Any) -> Any:
    """The field that knows the values of `field`: itself, or what a generated column gives out."""
    return field.output_field if getattr(field, "generated", False) else field


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


def concrete_label(model: type[Any]) -> str:
    """The label of `model`, or of the model with the table that a proxy stands for."""
    return str(model._meta.concrete_model._meta.label_lower)


def target_label(field: Any) -> str:
    """The label of the model with the rows that a relation refers to."""
    return concrete_label(target_of(field))


def has_ids_of(label: str, model: type[Any]) -> bool:
    """Whether the ids of the model with that label are those of `model`, as one of the two inherits
    from the other. One that is not installed has ids of its own."""
    try:
        other = apps.get_model(label)
    except (LookupError, ValueError):
        return False
    return issubclass(other, model) or issubclass(model, other)


def spelled_out(key: Any) -> Any:
    """What a `natural_key` method returned, with the natural keys of instances in their places.

    Parts are not looked at, they may be stand-ins that refuse it.
    """
    if not issubclass(type(key), tuple | list):
        return key
    parts = (spelled_out(_key_of_instance(part)) for part in key)
    return tuple(parts) if issubclass(type(key), tuple) else list(parts)


def _key_of_instance(part: Any) -> Any:
    is_instance = issubclass(type(part), models.Model)
    has_key = is_instance and callable(getattr(part, "natural_key", None))
    return part.natural_key() if has_key else part
