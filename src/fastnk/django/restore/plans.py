"""The plans of the models of a project, made of Django's fields and the schema's natural keys."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

from django.apps import apps
from django.core.exceptions import FieldDoesNotExist
from django.db import DatabaseError, connections, router, transaction
from django.db.models import Field, QuerySet
from msgspec import UNSET

from fastnk import schema as schemas
from fastnk.django.restore.natural_keys import CalledKey, KeyForm, KeyPart, concrete, misfit, walk
from fastnk.django.restore.plan import (
    Column,
    ExcludedError,
    ManyColumn,
    Plan,
    Reference,
    UnknownModelError,
    is_time_of_writing,
    odd_type,
)
from fastnk.django.restore.renaming import Naming
from fastnk.django.restore.values import Inside, told_of_json_text
from fastnk.django.schema.describe import has_ids_of, is_composite, plain_of
from fastnk.errors import SchemaError, did_you_mean
from fastnk.renames import Renames


class Plans:
    """The plans of all models that are asked for, by any of their labels."""

    def __init__(
        self,
        schema: schemas.Schema,
        database: str,
        weak: Mapping[str, str] | None = None,
        renames: Renames | None = None,
        on_json_text: str = "error",
        labels: Collection[str] = (),
        excludes: Callable[[str], bool] = lambda label: False,
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        """`weak` tells of which models the natural key counts as none, and why; `labels` are those
        of the backup's records, where they are known; `excludes` tells of which no record
        counts, `defaults` what is declared for fields, `app.model.field`."""
        self.defaults = defaults or {}
        self.excludes = excludes
        self.on_json_text = on_json_text
        self.naming = Naming(renames or Renames(), schema)
        self.weak = weak or {}
        self._specs = _by_concrete_label(schema)
        self._proxies = schema.proxies
        self._database = database
        self._plans: dict[str, Plan] = {}
        self._unknown: dict[str, str] = {}
        self._sees: dict[Any, bool] = {}
        self._labels = labels
        self.of_tables: dict[str, str] = {
            model._meta.db_table: model._meta.label_lower
            for model in sorted(apps.get_models(), key=lambda model: bool(model._meta.managed))
            if not model._meta.proxy and router.allow_migrate_model(database, model)
        }
        """The models of which there may be records, by their tables: of several of one table that
        which Django manages."""

    def __getitem__(self, label: str) -> Plan:
        """The plan of a model or of what it is a proxy of. Raises `UnknownModelError`."""
        plan = self._plans.get(label)
        if plan is None:
            model = self._model(label)
            own = model._meta.label_lower
            plan = self._plans.get(own) or _planned(
                model, self._specs.get(own) or schemas.Model(), self
            )
            self._plans[own] = self._plans[label] = plan
        return plan

    def of_records(self, label: str) -> Plan:
        """The same of a model whose records can be restored. Raises `UnknownModelError`."""
        plain = schemas.plain_label(label)
        own = self._proxies.get(plain, plain)
        if self.excludes(own):
            raise ExcludedError(own)
        plan = self[label]
        owner = self.of_tables.get(plan.model._meta.db_table)
        if owner != plan.label and owner in self._labels:
            raise UnknownModelError(f"its table is that of {owner}, which has records as well")
        if plan.database is not None:
            if self._is_view(plan.model):
                raise UnknownModelError("its table is a view, which shows rows of others")
            if plan.database == self._database:
                raise UnknownModelError(self._not_ours)
            raise UnknownModelError(self._no_table)
        return plan

    def makes_links(self, field: Any) -> bool:
        """Whether what records say of a many-to-many field is enough to make its links of; where
        its table is a model's, and there are records of that, these say them."""
        through = field.remote_field.through
        label = through._meta.label_lower
        if through._meta.auto_created:
            return True
        if not self._labels or label in self._labels or through._meta.parents:
            return False
        column = ManyColumn(field, _reference_of_many(field, None, self))
        ends = (through._meta.get_field(name).target_field for name in column.ends)
        return all(end.primary_key for end in ends) and all(
            f"{label}.{one.name}" in self.defaults or _may_be_unsaid(one) for one in column.rest
        )

    def all(self, labels: Iterable[str] | None = None) -> Iterator[Plan]:
        """The plans of these models, or of all, as far as the database and the schema fit."""
        if labels is None:
            labels = [model._meta.label_lower for model in apps.get_models()]
        for label in labels:
            try:
                yield self[label]
            except (UnknownModelError, SchemaError):
                continue

    def may_change(self, field: Any) -> bool:
        """Whether `field` is a pk that the same row need not have in the target."""
        if field.primary_key and odd_type(field) is not None:
            return True
        label = concrete(field.model)._meta.label_lower
        spec = self._specs.get(label)
        if not field.primary_key or spec is None or not spec.has_natural_key or label in self.weak:
            return False
        parts = map(schemas.parse_path, schemas.flat_parts(spec.natural_key or ()))
        return all(part.hops or part.field not in ("pk", field.name) for part in parts)

    def own_label(self, label: str) -> str:
        """The label of the concrete model. Raises `UnknownModelError`."""
        return str(self._model(label)._meta.label_lower)

    def elsewhere(self, model: Any) -> str | None:
        """The alias of the database where others may find the rows of a model that is not restored;
        `None` for those restored into, or where it has no table."""
        if router.allow_migrate_model(self._database, model) and not self._is_view(model):
            return None
        alias = str(router.db_for_write(model))
        return alias if alias != self._database or self._sees_table(model) else None

    def _sees_table(self, model: Any) -> bool:
        """Whether a table that is not for this database is there all the same, as those of a schema
        that is shared by others."""
        if model not in self._sees:
            try:
                with transaction.atomic(using=self._database):
                    QuerySet(model, using=self._database).exists()
            except DatabaseError:
                self._sees[model] = False
            else:
                self._sees[model] = True
        return self._sees[model]

    def _is_view(self, model: Any) -> bool:
        return not model._meta.managed and model._meta.db_table in self._views

    @cached_property
    def _views(self) -> set[str]:
        connection = connections[self._database]
        with connection.cursor() as cursor:
            tables = connection.introspection.get_table_list(cursor)
        return {one.name for one in tables if one.type == "v"}

    @property
    def _no_table(self) -> str:
        return f'it has no table in database "{self._database}"'

    @property
    def _not_ours(self) -> str:
        return f'the routers of the project keep its rows out of database "{self._database}"'

    def _model(self, label: str) -> Any:
        if label not in self._unknown:
            try:
                model = apps.get_model(self._proxies.get(schemas.plain_label(label), label))
            except (LookupError, ValueError):
                self._unknown[label] = f"no such model in this project{_similar(label)}"
            else:
                if model._meta.swapped:
                    self._unknown[label] = f"it is swapped out for {model._meta.swapped}"
                elif not (model._meta.pk.concrete or is_composite(model._meta.pk)):
                    self._unknown[label] = (
                        "its pk is no column, and none that Django makes of several"
                    )
                elif not (
                    router.allow_migrate_model(self._database, model) or self.elsewhere(model)
                ):
                    self._unknown[label] = self._no_table
                else:
                    return concrete(model)
        raise UnknownModelError(self._unknown[label])


def _may_be_unsaid(field: Any) -> bool:
    """Whether a new row of which nothing is said can hold something in a column."""
    is_made = field.has_default() or getattr(field, "has_db_default", bool)()
    return field.null or is_made or is_time_of_writing(field) or field.get_default() is not None


def _similar(label: str) -> str:
    return did_you_mean(label, [model._meta.label_lower for model in apps.get_models()])


def _planned(model: Any, spec: schemas.Model, plans: Plans) -> Plan:
    """The plan of a concrete model, which the schema describes by `spec`."""
    own = [field for field in model._meta.local_fields if field.concrete]
    generated = {
        field.name: Column(field, None) for field in own if getattr(field, "generated", False)
    }
    columns = {
        field.name: _column(field, spec, plans) for field in own if field.name not in generated
    }
    many = _many(model, spec, plans)
    return Plan(
        model,
        columns,
        generated=generated,
        made_of_others={field.name for field in model._meta.local_fields if not field.concrete},
        many=many,
        many_of_others=_many_of_others(model, many, plans),
        generics={
            generic.object_id: generic
            for generic in spec.generic_relations.values()
            if {generic.object_id, generic.kind} <= columns.keys()
        },
        inside=_inside(model, spec, plans),
        spelled_key=_key_form(model, spec, plans),
        weak=plans.weak.get(model._meta.label_lower),
        database=plans.elsewhere(model),
        plan_of=plans.__getitem__,
    )


def _column(field: Any, spec: schemas.Model, plans: Plans) -> Column:
    return Column(
        told_of_json_text(field, plans.on_json_text),
        _reference(field, spec.relations.get(field.name), plans),
        plans.defaults.get(f"{field.model._meta.label_lower}.{field.name}", UNSET),
    )


def _many(model: Any, spec: schemas.Model, plans: Plans) -> dict[str, ManyColumn]:
    return {
        field.name: ManyColumn(
            field, _reference_of_many(field, spec.relations.get(field.name), plans)
        )
        for field in model._meta.local_many_to_many
        if plans.makes_links(field)
    }


def _many_of_others(model: Any, many: Mapping[str, ManyColumn], plans: Plans) -> dict[str, str]:
    """By field, the model whose records say the same links."""
    others: dict[str, str] = {
        field.name: concrete(field.model)._meta.label_lower
        for field in model._meta.many_to_many
        if field not in model._meta.local_many_to_many
    }
    for name, column in many.items():
        if column.maker and column.maker != model._meta.label_lower:
            others[name] = column.maker
        table = column.through._meta.db_table
        if table in plans.of_tables:
            others[name] = plans.of_tables[table]
    return others


def _reference(
    field: Field[Any, Any], relation: schemas.Relation | None, plans: Plans
) -> Reference | None:
    proxy_key = _has_proxy_key(relation)
    if field.remote_field:
        target, former = field.target_field, _former(field, relation, plans)
        if not target.primary_key:
            label = concrete(target.model)._meta.label_lower
            return Reference(label, target.name, proxy_key, former)
        label = concrete(field.remote_field.model)._meta.label_lower
        return Reference(label, None, proxy_key, former)
    if relation is None:
        return None
    try:  # a plain column that holds keys all the same
        return Reference(plans.own_label(relation.to), relation.to_field, proxy_key)
    except UnknownModelError:
        return None


def _reference_of_many(field: Any, relation: schemas.Relation | None, plans: Plans) -> Reference:
    label = concrete(field.remote_field.model)._meta.label_lower
    return Reference(label, None, _has_proxy_key(relation), _former(field, relation, plans))


def _former(field: Any, relation: schemas.Relation | None, plans: Plans) -> str | None:
    """To which other model, with ids of its own, a relation of today leads by the schema."""
    if relation is None:
        return None
    label = plans.naming.renames.label(relation.to)
    return None if has_ids_of(label, field.remote_field.model) else label


def _has_proxy_key(relation: schemas.Relation | None) -> bool:
    keys = (relation.natural_key, relation.natural_key_method) if relation else ()
    return any(key is not None for key in keys)


def _inside(model: Any, spec: schemas.Model, plans: Plans) -> dict[str, Inside]:
    inside: dict[str, Inside] = {}
    for path, embedded in spec.embedded.items():
        try:
            end = _own_end(embedded, plans)
        except FieldDoesNotExist as error:
            place = f"models.{model._meta.label_lower}.embedded.{path}.to_field"
            raise misfit(str(error), place) from None
        inside.setdefault(schemas.embedded_steps(path)[0], Inside()).add(path, end)
    return inside


def _own_end(end: schemas.Embedded, plans: Plans) -> schemas.Embedded:
    """`end` by the label of the concrete model, and without a `to_field` that is the pk."""
    try:
        label = plans.own_label(end.to)
    except UnknownModelError:
        return end
    if end.to_field is None:
        return schemas.Embedded(label)
    field = apps.get_model(label)._meta.get_field(end.to_field)
    owner = concrete(field.model)._meta.label_lower
    return schemas.Embedded(owner, None if field.primary_key else field.name)


def _by_concrete_label(schema: schemas.Schema) -> dict[str, schemas.Model]:
    specs = {}
    for label, spec in schema.models.items():
        try:
            own = concrete(apps.get_model(label))._meta.label_lower
        except (LookupError, ValueError):
            continue
        if own == label or own not in specs:
            specs[own] = spec
    return specs


def _key_form(model: Any, spec: schemas.Model, plans: Plans) -> KeyForm | None:
    if spec.natural_key_method is not None:
        return CalledKey(spec.natural_key_method, model)
    natural_key = spec.natural_key or _key_of_links(model)
    if natural_key is None:
        return None
    parts: list[KeyPart] = []

    def shape_of(key: list[schemas.KeyPart]) -> list[Any]:
        """`None` for a part, a list for a list; the parts are gathered on the way."""
        shape: list[Any] = []
        for part in key:
            if isinstance(part, list):
                shape.append(shape_of(part))
            else:
                shape.append(None)
                parts.append(_key_part(model, part, spec, plans))
        return shape

    return KeyForm(shape_of(natural_key), parts, plans.naming)


def _key_of_links(model: Any) -> list[schemas.KeyPart] | None:
    """What tells the rows of a table apart that Django made for a many-to-many field."""
    if not model._meta.auto_created:
        return None
    return [
        f"{field.name}__pk" for field in model._meta.local_concrete_fields if field.remote_field
    ]


def _key_part(model: Any, part: str, spec: schemas.Model, plans: Plans) -> KeyPart:
    hops, field, transform = schemas.parse_path(part)
    try:
        path, end = walk(model, (*hops, field))
    except FieldDoesNotExist as error:
        what = f'"{part}" does not lead to a field of this project: {error}'
        raise misfit(what, f"models.{model._meta.label_lower}.natural_key") from None
    holders = {generic.object_id for generic in spec.generic_relations.values()}
    holders |= {schemas.embedded_steps(path)[0] for path in spec.embedded}
    is_foreign_pk = path[0] in holders if len(path) == 1 else plans.may_change(end)
    return KeyPart(path, plain_of(end), transform, is_foreign_pk)
