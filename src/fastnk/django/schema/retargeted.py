"""Relations that once led to another model than today, as the migrations tell. Imports Django.

An id in an old backup is one of the model of then, and today's schema would take it for one of
today's. No database is asked.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, NamedTuple

from django.apps import apps
from django.db.migrations import RenameModel
from django.db.migrations.utils import resolve_relation

from fastnk.django.schema.describe import has_ids_of, is_saved, target_label
from fastnk.django.schema.history import all_migrations, flat

Shape = frozenset[str]
"""The names of the fields that records of a model have, without the pk."""

_Model = tuple[str, str]
"""The labels of an app and a model, the latter in lower case."""


class Former(NamedTuple):
    """A model to which a relation led."""

    label: str
    until: str | None
    """The last migration at which it did, `app.name`; `None` where none tells."""
    shapes: set[Shape]
    """The records that there were meanwhile."""


class Retargeted(NamedTuple):
    """A relation that once led to another model than today."""

    pk: str
    """The name of the pk of the model that has it."""
    is_many: bool
    target: str
    """The label of the model of today."""
    shapes: set[Shape]
    """The records that there are since it leads there."""
    formers: list[Former]


def retargeted() -> dict[str, dict[str, Retargeted]]:
    """Such relations of the project that is set up, by the label of their model and by name.

    A model that was renamed, or whose table went on under another model, is the same; parents and
    children in multi-table inheritance have the same ids, too.
    """
    history = _History()
    found: dict[str, dict[str, Retargeted]] = {}
    for model in apps.get_models():
        changed = {name: history.of(field) for name, field in _relations(model).items()}
        told = {name: one for name, one in changed.items() if one is not None}
        if told and not model._meta.proxy:
            found[model._meta.label_lower] = told
    return found


def unchanged(model: type[Any]) -> dict[str, Retargeted]:
    """The relations of a model, of which nothing is known but that they lead where they do."""
    return {
        name: Retargeted(model._meta.pk.name, field.many_to_many, target_label(field), set(), [])
        for name, field in _relations(model).items()
    }


def _relations(model: type[Any]) -> dict[str, Any]:
    """The relations that records of a model may hold, and that lead to one that is installed."""
    fields = [*model._meta.local_fields, *model._meta.local_many_to_many]
    return {
        field.name: field
        for field in fields
        if is_saved(field) and field.remote_field and not isinstance(field.remote_field.model, str)
    }


class _Target(NamedTuple):
    """What a relation led to for a while."""

    model: int
    """Which model it was, whatever its name."""
    table: str
    former: Former


class _History:
    """What all relations ever led to."""

    def __init__(self) -> None:
        self._state, migrations = all_migrations()
        self._models: dict[_Model, int] = {}
        """A number for each model there is, that stays when the model is renamed."""
        self._count = 0
        self._targets: dict[_Model, dict[str, list[_Target]]] = defaultdict(dict)
        """By model and field, in order."""
        for migration in migrations:
            for operation in flat(migration.operations):
                self._apply(operation, migration.app_label)
            self._note(migration)

    def of(self, field: Any) -> Retargeted | None:
        """What a relation of today once led to; `None` where it always led to the same model."""
        model = field.model._meta
        targets = self._targets[model.app_label, model.model_name].get(field.name, [])
        today = [one for one in targets if self._is_today(one, field)]
        formers = [one.former for one in targets if one not in today]
        if not formers:
            return None
        shapes = {shape for one in today for shape in one.former.shapes}
        target = target_label(field)
        return Retargeted(model.pk.name, field.many_to_many, target, shapes, formers)

    def _is_today(self, target: _Target, field: Any) -> bool:
        """Whether ids of then are those of the model to which the field leads today."""
        model = field.remote_field.model
        label = (model._meta.app_label, model._meta.model_name)
        if target.model == self._models.get(label) or target.table == model._meta.db_table:
            return True
        return has_ids_of(target.former.label, model)

    def _apply(self, operation: Any, app: str) -> None:
        operation.state_forwards(app, self._state)
        if isinstance(operation, RenameModel):
            old, new = ((app, one.lower()) for one in (operation.old_name, operation.new_name))
            if old in self._models:
                self._models[new] = self._models.pop(old)
            self._targets[new] = self._targets.pop(old, {})
        for model in self._models.keys() - self._state.models.keys():
            del self._models[model]
        for model in self._state.models.keys() - self._models.keys():
            self._count += 1
            self._models[model] = self._count

    def _note(self, migration: Any) -> None:
        """Note where the relations of an app lead behind a migration of it."""
        app, until = migration.app_label, f"{migration.app_label}.{migration.name}"
        for model in [one for one in self._state.models if one[0] == app]:
            fields = self._state.models[model].fields
            shape = frozenset(name for name, field in fields.items() if _is_in_records(field))
            for name in shape:
                if fields[name].remote_field:
                    key = resolve_relation(fields[name].remote_field.model, *model)
                    self._note_target(self._targets[model].setdefault(name, []), key, until, shape)

    def _note_target(self, targets: list[_Target], key: _Model, until: str, shape: Shape) -> None:
        state = self._state.models.get(key)
        table = state.options.get("db_table") if state else None
        table = table or "_".join(key)
        number = self._models.get(key, 0)
        label = ".".join(key)
        shapes = {shape}
        if targets and (targets[-1].model, targets[-1].former.label) == (number, label):
            shapes |= targets.pop().former.shapes
        targets.append(_Target(number, table, Former(label, until, shapes)))


def _is_in_records(field: Any) -> bool:
    """Whether records have a field, of a model that was never made."""
    through = getattr(field.remote_field, "through", None)
    return bool(field.serialize and not field.primary_key and through is None)
