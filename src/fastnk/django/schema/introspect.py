"""A schema from a live Django project: its models, their relations and natural keys."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

from msgspec.structs import replace

from fastnk.errors import SchemaError, UsageError, require_django
from fastnk.schema import KeyPart, Model, Schema, flat_parts

OLDEST = 3, 0
"""Of Django: earlier ones do not tell which pks are numbered by the database."""

OnUntraceable = Callable[[str, str], None]
"""Called with the label of a model and with what its `natural_key` method does."""


class UntraceableKeyError(SchemaError):
    """Natural keys that are more than fields of their record and of records it refers to."""

    code = "FNK111"

    def __init__(self, reasons: dict[str, str]) -> None:
        self.reasons = reasons
        """What the method does, by model label."""
        lines = [f"\n    {label}: natural_key() {reason}" for label, reason in reasons.items()]
        super().__init__(
            f"cannot tell what these natural keys are made of:{''.join(lines)}",
            remedy='write each by hand in the schema: "natural_key": ["title", "author__name"]; '
            "--skip-untraceable leaves them out",
        )

    def as_dict(self) -> dict[str, Any]:
        return {**super().as_dict(), "models": self.reasons}


def schema_from_project(
    settings: str, on_untraceable: OnUntraceable | None = None, at: Sequence[str] = ()
) -> Schema:
    """The schema of the Django project with the settings module `settings`.

    Sets Django up as `manage.py` in the current folder would. Raises `MissingExtraError` without
    Django, `UsageError` for a project that does not load, else as `schema_from_apps`.
    """
    _require_django()
    set_up(settings)
    return schema_from_apps(on_untraceable, at)


def schema_from_apps(on_untraceable: OnUntraceable | None = None, at: Sequence[str] = ()) -> Schema:
    """The schema of the Django project that is set up in this process.

    With `at`, a sequence of `app.migration` (a prefix of the name that one migration has is
    enough), the schema as it was there; other apps are as late as these allow. The database is not
    asked. Natural keys are today's: one whose fields were not all there, or whose model is gone,
    counts as one that cannot be traced.

    A natural key that cannot be traced to fields is made by the method itself, which the schema
    then names; with `at` only where the model, and all that it leads to, had today's fields. One
    that can neither be traced nor called raises `UntraceableKeyError`, which names all of them.
    With `on_untraceable`, which is called for each, those models have no natural key instead.
    Raises `UsageError` where Django is not set up, and for an `at` that names no migration.
    """
    _require_models()
    if isinstance(at, str):
        raise UsageError(f'"{at}" is not a sequence of points', remedy=f'at=["{at}"]')
    from fastnk.django.schema.describe import (
        concrete_label,
        models_in_backups,
        proxies_of,
        relations_of,
        target_of,
    )
    from fastnk.django.schema.history import copied_pks_then, generic_relations_then

    live = _by_label(models_in_backups())
    written, keys, reasons, names = _written(live, at)
    relations = {label: relations_of(model) for label, model in written.items()}
    for field, key, reason in _keys_through_proxies(written, live, keys, names):
        if reason is not None:
            label = concrete_label(target_of(field))
            reasons.setdefault(label, reason)
            keys[label] = _NO_KEY
        of_record = relations[field.model._meta.label_lower]
        # A many-to-many relation without a table is kept inside another field.
        if field.name in of_record:
            of_record[field.name] = replace(
                of_record[field.name], natural_key=key.parts, natural_key_method=key.method
            )
    _hand_over(reasons, on_untraceable)
    return Schema.of(
        {
            label: Model(
                pk=model._meta.pk.name,
                natural_key=keys[label].parts,
                natural_key_method=keys[label].method,
                relations=relations[label],
                generic_relations=generic_relations_then(model, live.get(label)),
                embedded=copied_pks_then(model, live.get(label), written),
                keep_pk=_keeps_pk(model, keys),
                proxies=proxies_of(model),
            )
            for label, model in written.items()
        }
    )


class UndeclaredGeneric(NamedTuple):
    """What looks like a generic relation, of which the project does not tell."""

    model: str
    content_type: str
    object_id: str


def undeclared_generics(schema: Schema) -> list[UndeclaredGeneric]:
    """Fields that may hold ids of any model, beside a content type that says of which, in the
    models of the project that is set up. Those named `content_type` and `object_id` or `object_pk`
    are taken for a generic relation and not listed."""
    from fastnk.django.schema.describe import undeclared_ids

    return [
        UndeclaredGeneric(label, *names)
        for label, model in _models_of(schema)
        for names in undeclared_ids(model)
    ]


def relations_inside_fields(schema: Schema) -> list[tuple[str, str]]:
    """The relations, each with its model, whose ids stand inside another field of a record, in the
    models of the project that is set up."""
    from fastnk.django.schema.describe import relations_kept_inside

    return [
        (label, name)
        for label, model in _models_of(schema)
        for name in relations_kept_inside(model)
    ]


class LossyField(NamedTuple):
    """A many-to-many field of which Django's backups do not hold all."""

    model: str
    field: str
    target: str


def lossy_fields(schema: Schema) -> list[LossyField]:
    """Such fields of the models of the project that is set up: their targets have managers that
    hide rows."""
    from fastnk.django.schema import describe

    return [
        LossyField(label, *names)
        for label, model in _models_of(schema)
        for names in describe.lossy_fields(model)
    ]


def _models_of(schema: Schema) -> Iterator[tuple[str, type[Any]]]:
    """The models of the project that a schema has, too."""
    from fastnk.django.schema.describe import models_in_backups

    for label, model in _by_label(models_in_backups()).items():
        if label in schema.models:
            yield label, model


class _Key(NamedTuple):
    """How the natural key of a model is got; neither where it has none."""

    parts: list[KeyPart] | None = None
    method: str | None = None


_NO_KEY = _Key()


_Models = dict[str, type[Any]]
_Keys = dict[str, _Key]
_Names = dict[str, dict[str, str]]
"""As `history.Names`."""


def _by_label(models: Iterable[type[Any]]) -> _Models:
    return {model._meta.label_lower: model for model in models}


def _written(live: _Models, at: Sequence[str]) -> tuple[_Models, _Keys, dict[str, str], _Names]:
    """The models in a backup made at `at`, their keys, of keys not known the reason, and what
    fields of today were called there."""
    from fastnk.django.schema.history import keys_then, models_at, names_at, same_records

    keys: _Keys = {}
    untraced: dict[str, str] = {}
    for label, model in live.items():
        keys[label], reason = _key_of(model)
        if reason is not None:
            untraced[label] = reason
    if not at:
        why_none = {label: why for label, why in untraced.items() if not keys[label].method}
        return live, keys, why_none, {}
    written = _by_label(models_at(at))
    traced = {label: key.parts for label, key in keys.items()}
    names = names_at(at)
    parts, reasons = keys_then(written, live, traced, untraced, names)
    keys_of_then = {label: _Key(one) for label, one in parts.items()}
    for label in untraced:
        if keys[label].method and label in written and same_records(label, written, live):
            keys_of_then[label] = keys[label]
            del reasons[label]
    return written, keys_of_then, reasons, names


def _key_of(model: type[Any]) -> tuple[_Key, str | None]:
    """The key of a live model, and why it cannot be traced where that is so."""
    from fastnk.django.calling import method_of
    from fastnk.django.schema.tracing import TraceError, trace_natural_key

    try:
        return _Key(trace_natural_key(model)), None
    except TraceError as error:
        return _Key(method=method_of(model)), str(error)


def _keys_through_proxies(
    written: _Models, live: _Models, keys: _Keys, names: _Names
) -> Iterator[tuple[Any, _Key, str | None]]:
    """The relations that lead through a proxy with another key than that of its model: the field,
    the key, and where that is not known why.

    Django writes the proxy's key there, and the model's key on the record.
    """
    from fastnk.django.schema.describe import concrete_label, relations_to_proxies, target_of
    from fastnk.django.schema.history import live_counterpart

    for field in relations_to_proxies(written.values()):
        proxy = target_of(field)
        label = concrete_label(proxy)
        holder = field.model._meta.label_lower
        who = f'{proxy._meta.label}, the proxy that "{field.name}" of {holder}'
        # A model out of the migrations has no methods.
        counterpart = live_counterpart(proxy)
        if counterpart is None:
            yield field, _NO_KEY, f"is not known to be that of {who} referred to, which is gone"
            continue
        key, reason = _proxy_key(label, counterpart, written, live, names)
        if reason is not None:
            yield field, _NO_KEY, f"is not that of {who} refers to, which {reason}"
        elif key == _NO_KEY != keys[label]:
            yield field, key, f"is not that of {who} refers to, which has none"
        elif key != keys[label]:
            yield field, key, None


def _proxy_key(
    label: str,
    proxy: type[Any],
    written: _Models,
    live: _Models,
    names: _Names,
) -> tuple[_Key, str | None]:
    """The key that `proxy` makes of the records of `label`, or why it is not known."""
    from fastnk.django.schema.history import difference_then, key_then, same_records

    key, reason = _key_of(proxy)
    if key.parts is not None and written is not live:
        reason = difference_then(label, key.parts, written, live, names)
        if reason is None:
            key = _Key(key_then(label, key.parts, live, names))
    elif key.method is not None and (written is live or same_records(label, written, live)):
        reason = None
    return (key, None) if reason is None else (_NO_KEY, reason)


def _keeps_pk(model: type[Any], keys: _Keys) -> bool:
    from fastnk.django.schema.describe import loses_its_pk

    key = keys[model._meta.label_lower]
    return key != _NO_KEY and loses_its_pk(
        model, flat_parts(key.parts or ()), lambda label: keys[label] != _NO_KEY
    )


def _hand_over(reasons: dict[str, str], on_untraceable: OnUntraceable | None) -> None:
    if reasons and on_untraceable is None:
        raise UntraceableKeyError(reasons)
    if on_untraceable is not None:
        for label, reason in reasons.items():
            on_untraceable(label, reason)


def _require_django() -> None:
    remedy = "fastnk schema infer proposes a schema from the backup alone"
    require_django("a schema from a Django project", OLDEST, remedy)


def _require_models() -> None:
    _require_django()
    from django.apps import apps

    if not apps.models_ready:
        raise UsageError(
            "Django is not set up", remedy="call django.setup() before, or name the settings"
        )


def set_up(settings: str) -> None:
    """Set Django up with a settings module. Raises `UsageError` for one that does not load.

    What projects print while they load is talk: standard output may be a backup.
    """
    from django.apps import apps
    from django.conf import settings as live

    if live.configured and getattr(live, "SETTINGS_MODULE", None) != settings:
        raise UsageError(
            f'Django is set up with other settings than "{settings}" in this process',
            remedy="use schema_from_apps(), or another process",
        )
    if apps.ready:
        return
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    os.environ["DJANGO_SETTINGS_MODULE"] = settings
    with redirect_stdout(sys.stderr):
        _load(settings)


def set_up_by_environment() -> bool:
    """Set Django up as `DJANGO_SETTINGS_MODULE` says, where it is not; whether it is set up now."""
    from django.apps import apps

    settings = os.environ.get("DJANGO_SETTINGS_MODULE")
    if settings is not None and not apps.models_ready:
        set_up(settings)
    return bool(apps.models_ready)


def _load(settings: str) -> None:
    import django
    from django.conf import settings as live

    try:
        # Django imports them, and again reads all of those that look into themselves meanwhile.
        live.is_overridden("INSTALLED_APPS")
    except Exception as error:
        raise UsageError(
            f'cannot import the settings "{settings}": {_named(error)}',
            remedy="run it in the folder of manage.py, with the settings that manage.py names",
        ) from error
    try:
        django.setup()
    except Exception as error:
        raise UsageError(
            f'the project with the settings "{settings}" does not load: {_named(error)}',
            remedy="python manage.py check",
        ) from error


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
