"""The models of a project as they were at an older point of its migrations. Imports Django.

No database is asked: the migrations on disk say what the models were. Methods are not part of
that, so natural keys are those of today, kept where their fields were there already, by the names
that these had.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from django.apps import apps
from django.db import models
from django.db.migrations import RenameField, SeparateDatabaseAndState
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.state import ProjectState

from fastnk.django.schema.describe import (
    concrete_label,
    copied_pks_of,
    generic_relations_of,
    is_saved,
    models_in_backups,
    relations_of,
    target_of,
)
from fastnk.errors import UsageError
from fastnk.schema import Embedded, GenericRelation, KeyPart, flat_parts, parse_path

Models = dict[str, type[Any]]
"""Models by label."""

Keys = dict[str, list[KeyPart] | None]
"""Natural keys by model label."""

Reasons = dict[str, str]
"""Why the natural key of a model is not known, by its label; goes on after "natural_key()"."""

Names = dict[str, dict[str, str]]
"""By model label: what fields of today were called then, of those that were renamed since."""

_Migration = tuple[str, str]
"""The label of its app, and its name."""


def models_at(points: Sequence[str]) -> list[type[Any]]:
    """The models in a backup made at `points`, each `app.migration`; a prefix of it is enough.

    Other apps are at the latest migration that needs no later one of the apps in `points`; apps
    without migrations are as they are today. Raises `UsageError` for points that are unknown, not
    clear, or exclude each other, and for migrations that do not load.
    """
    try:
        loader = _Loader(points)
        state = loader.project_state(_latest(loader.graph, loader.targets))
        then = state.apps.get_models(include_auto_created=True)
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(
            f"the project's migrations do not load: {type(error).__name__}: {error}",
            remedy="python manage.py showmigrations --plan",
        ) from error
    # Django leaves the relations of apps without migrations out of the state.
    today = apps.get_models(include_auto_created=True)
    unmigrated = loader.unmigrated_apps
    return models_in_backups(
        [
            *(model for model in then if model._meta.app_label not in unmigrated),
            *(model for model in today if model._meta.app_label in unmigrated),
        ]
    )


def all_migrations() -> tuple[ProjectState, list[Any]]:
    """The state before all migrations on disk, and these in an order in which they apply.

    Raises what Django raises for migrations that do not load.
    """
    loader = _Loader([])
    nodes = _plan(loader.graph, loader.graph.leaf_nodes())
    migrations = [loader.graph.nodes[node] for node in nodes]
    return ProjectState(real_apps=loader.unmigrated_apps), migrations


def flat(operations: Iterable[Any]) -> Iterator[Any]:
    """The operations that change the state, those inside others as well."""
    for operation in operations:
        if isinstance(operation, SeparateDatabaseAndState):
            yield from flat(operation.state_operations)
        else:
            yield operation


def names_at(points: Sequence[str]) -> Names:
    """What fields were called at `points`, of which `models_at` gives the models."""
    graph = (loader := _Loader(points)).graph
    applied = _plan(graph, _latest(graph, loader.targets))
    names: Names = defaultdict(dict)
    for node in _plan(graph, graph.leaf_nodes()):
        for operation in [] if node in applied else flat(graph.nodes[node].operations):
            if isinstance(operation, RenameField):
                of_model = names[f"{node[0]}.{operation.model_name_lower}"]
                old, new = operation.old_name, operation.new_name
                of_model[new] = of_model.pop(old, old)
    return names


def keys_then(
    then: Models, now: Models, keys: Keys, reasons: Reasons, names: Names
) -> tuple[Keys, Reasons]:
    """The keys of the models `then`, and of those that are not known the reason.

    Made of what tracing the models of `now` gave: `keys`, and `reasons` for those it could not.
    """
    keys_of_then: Keys = {}
    reasons_of_then: Reasons = {}
    for label, model in then.items():
        key = keys.get(label) or []
        reason = reasons.get(label)
        if label not in now:
            reason = None if model._meta.auto_created else _GONE
        elif reason is None:
            reason = difference_then(label, key, then, now, names)
        if reason is not None:
            reasons_of_then[label] = reason
        is_known = keys.get(label) is not None and reason is None
        keys_of_then[label] = key_then(label, key, now, names) if is_known else None
    return keys_of_then, reasons_of_then


def key_then(label: str, key: list[KeyPart], now: Models, names: Names) -> list[KeyPart]:
    """`key`, which model `label` has today, by what its fields were called then."""
    return [
        _part_then(label, part, now, names)
        if isinstance(part, str)
        else key_then(label, part, now, names)
        for part in key
    ]


def difference_then(
    label: str, key: list[KeyPart], then: Models, now: Models, names: Names
) -> str | None:
    """Why `key` of model `label` was not a key of its records then; `None` where it was."""
    return next(_differences(label, key, then, now, names), None)


def same_records(label: str, then: Models, now: Models) -> bool:
    """Whether the records of `label` had all fields then that they have now, of the same types, and
    so had those that their relations lead to: today's methods find there what they ask for."""
    seen: set[str] = set()
    left = [label]
    while left:
        label = left.pop()
        if label in seen:
            continue
        seen.add(label)
        if label not in then or label not in now:
            return False
        was, relations = _fields(then[label]), relations_of(now[label])
        for name, field in _fields(now[label]).items():
            if type(was.get(name)) is not type(field):
                return False
            if name in relations:
                if relations_of(then[label])[name] != relations[name]:
                    return False
                left.append(relations[name].to)
    return True


def _fields(model: type[Any]) -> dict[str, Any]:
    """The fields of a record of `model`, its pk included, by name."""
    return {field.name: field for field in model._meta.local_fields if is_saved(field)}


_GONE = "cannot be known, because the project no longer has the model; it may have had none"


def generic_relations_then(model: type[Any], live: type[Any] | None) -> dict[str, GenericRelation]:
    """The generic relations of `live`, today's `model`, whose two fields were there already; of a
    model that is gone those that their names tell, because migrations hold the fields alone.
    """
    if live is None or model is live:
        return generic_relations_of(model)
    return {
        name: generic
        for name, generic in generic_relations_of(live).items()
        if generic.content_type in relations_of(model) and _field(model, generic.object_id)
    }


def copied_pks_then(
    model: type[Any], live: type[Any] | None, written: Models
) -> dict[str, Embedded]:
    """The pks that `live`, today's `model`, copies, of models that are `written`, in fields that
    were there already: migrations hold no attributes of classes."""
    return {
        name: original
        for name, original in (copied_pks_of(live) if live is not None else {}).items()
        if original.to in written and _field(model, name)
    }


def live_counterpart(model: type[Any]) -> type[Any] | None:
    """The model of today with the label of `model`; `None` where there is none any more."""
    try:
        live: type[Any] = apps.get_model(model._meta.label)
    except LookupError:
        return None
    return live


# ---- migrations --------------------------------------------------------------------------------


class _Loader(MigrationLoader):  # type: ignore[misc]
    """The migrations on disk.

    One that was squashed from others stands back for them as long as they are all there, unless it
    is a target: they have more points to stop at.
    """

    def __init__(self, points: Sequence[str]) -> None:
        self._points = points
        self.targets: dict[str, str] = {}
        """The name of a migration by the label of its app."""
        self._replaced: list[_Migration] = []
        super().__init__(None, ignore_no_migrations=True)

    def load_disk(self) -> None:
        super().load_disk()
        disk = self.disk_migrations
        self.targets = _targets(self._points, disk)
        self._replaced = [
            migration.replaces[0]
            for node, migration in disk.items()
            if node not in self.targets.items()
            and migration.replaces
            and all(replaced in disk for replaced in migration.replaces)
        ]

    @property
    def applied_migrations(self) -> dict[_Migration, Any] | None:
        return self._applied

    @applied_migrations.setter
    def applied_migrations(self, applied: dict[_Migration, Any] | None) -> None:
        # Django leaves a squashed migration aside where it finds a part of it applied.
        self._applied = None if applied is None else applied | dict.fromkeys(self._replaced)


def _targets(points: Sequence[str], migrations: Iterable[_Migration]) -> dict[str, str]:
    names: dict[str, list[str]] = {}
    for app, name in sorted(migrations):
        names.setdefault(app, []).append(name)
    targets: dict[str, str] = {}
    for point in points:
        app, _, prefix = point.partition(".")
        if app not in names:
            raise UsageError(
                f'"{point}" names no app that has migrations',
                remedy=f"APP.MIGRATION with one of these apps: {', '.join(names) or 'none'}",
            )
        name = _full_name(app, prefix, names[app])
        if targets.setdefault(app, name) != name:
            raise UsageError(
                f"two points of {app}: {targets[app]} and {name}", remedy="name one for each app"
            )
    return targets


def _full_name(app: str, prefix: str, names: list[str]) -> str:
    if prefix in names:
        return prefix
    candidates = [name for name in names if name.startswith(prefix)] if prefix else []
    if len(candidates) == 1:
        return candidates[0]
    fault = f'several migrations of {app} begin with "{prefix}"'
    raise UsageError(
        fault if candidates else f'{app} has no migration "{prefix}"',
        remedy=f"one of {', '.join(candidates or names)}",
    )


def _latest(graph: Any, targets: dict[str, str]) -> list[_Migration]:
    """The last migrations of the largest part of `graph` that goes nowhere beyond `targets`."""
    plans = {app: graph.forwards_plan((app, name)) for app, name in targets.items()}
    _refuse_exclusion(targets, plans)
    later = [node for node in graph.nodes if node[0] in plans and node not in plans[node[0]]]
    beyond = {node for start in later for node in graph.backwards_plan(start)}
    kept = graph.nodes.keys() - beyond
    return sorted(
        node
        for node in kept
        if kept.isdisjoint(child.key for child in graph.node_map[node].children)
    )


def _plan(graph: Any, targets: Iterable[_Migration]) -> dict[_Migration, None]:
    """The migrations that lead to `targets`, in an order in which they apply."""
    return dict.fromkeys(itertools.chain.from_iterable(map(graph.forwards_plan, targets)))


def _refuse_exclusion(targets: dict[str, str], plans: dict[str, list[_Migration]]) -> None:
    for point, plan in plans.items():
        for app, name in plan:
            if app in plans and (app, name) not in plans[app]:
                raise UsageError(
                    f"{point}.{targets[point]} needs {app}.{name}, "
                    f"which is not among what {app}.{targets[app]} has",
                    remedy=f"{app}.{name} or later, or leave {app} out",
                )


# ---- models ------------------------------------------------------------------------------------


def _differences(
    label: str, key: list[KeyPart], then: Models, now: Models, names: Names
) -> Iterator[str]:
    """Why parts of `key`, which model `label` has today, are not parts of its key then."""
    for part in flat_parts(key):
        for step in _steps(label, part, now):
            difference = _field_difference(*step, then, now, names)
            if difference is not None:
                break
        else:
            difference = _kind_difference(*step, then, now, names)
        if difference is not None:
            yield f'uses "{part}", but then {difference}'


def _part_then(label: str, part: str, now: Models, names: Names) -> str:
    path = "__".join(_name_then(*step, names) for step in _steps(label, part, now))
    transform = parse_path(part).transform
    return path if transform is None else f"{path}|{transform}"


def _steps(label: str, part: str, now: Models) -> Iterator[tuple[str, str]]:
    """The fields along a key part of model `label`, each with the label of its model."""
    path = parse_path(part)
    for name in path.hops:
        yield label, name
        label = concrete_label(target_of(_field(now[label], name)))
    yield label, path.field


def _name_then(label: str, name: str, names: Names) -> str:
    return names.get(label, {}).get(name, name)


def _field_difference(label: str, name: str, then: Models, now: Models, names: Names) -> str | None:
    if label not in then:
        return f"there was no {label}"
    was = _field(then[label], _name_then(label, name, names))
    if was is None:
        return f'{label} had no field "{name}"'
    referred = _referred(was)
    if referred != _referred(_field(now[label], name)):
        return f'"{name}" of {label} referred to {referred or "no model"}'
    return None


def _kind_difference(label: str, name: str, then: Models, now: Models, names: Names) -> str | None:
    was = _field(then[label], _name_then(label, name, names))
    if _kind(was) != _kind(_field(now[label], name)):
        return f'"{name}" of {label} was a {type(was).__name__}'
    return None


def _field(model: type[Any], name: str) -> Any:
    """The field `name` of a record of `model`; also its pk, by its name or as `pk`; else `None`."""
    if name == "pk":
        return model._meta.pk
    fields = [field for field in model._meta.local_fields if field.name == name]
    return fields[0] if fields and is_saved(fields[0]) else None


def _referred(field: Any) -> str | None:
    return concrete_label(target_of(field)) if field.is_relation else None


_KINDS: tuple[tuple[type[Any], ...], ...] = (
    (
        models.CharField,
        models.FilePathField,
        models.GenericIPAddressField,
        models.TextField,
        models.UUIDField,
    ),
    (models.BooleanField,),
    (models.IntegerField,),
    (models.DecimalField,),
    (models.FloatField,),
    (models.DateTimeField,),
    (models.DateField,),
    (models.TimeField,),
)
"""Kinds of fields: one key part serves for all of a kind, because Django writes them alike."""


def _kind(field: Any) -> tuple[type[Any], ...] | None:
    while field.is_relation:
        field = field.target_field
    return next((kind for kind in _KINDS if isinstance(field, kind)), None)
