"""A schema from a live Django project: its models, their relations and natural keys."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fastnk.errors import MissingExtraError, SchemaError, UsageError
from fastnk.schema import KeyPart, Model, Schema, flat_parts

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

    A natural key that cannot be traced raises `UntraceableKeyError`, which names all of them.
    With `on_untraceable`, which is called for each, those models have no natural key instead.
    Raises `UsageError` where Django is not set up, and for an `at` that names no migration.
    """
    _require_django()
    from django.apps import apps

    if not apps.models_ready:
        raise UsageError(
            "Django is not set up", remedy="call django.setup() before, or name the settings"
        )
    if isinstance(at, str):
        raise UsageError(f'"{at}" is not a sequence of points', remedy=f'at=["{at}"]')
    from fastnk.django.describe import models_in_backups, relations_of
    from fastnk.django.history import generic_relations_then

    live = _by_label(models_in_backups())
    written, keys, reasons = _written(live, at)
    _hand_over(reasons, on_untraceable)
    return Schema.of(
        {
            label: Model(
                pk=model._meta.pk.name,
                natural_key=keys[label],
                relations=relations_of(model),
                generic_relations=generic_relations_then(model, live.get(label)),
                keep_pk=_keeps_pk(model, keys),
            )
            for label, model in written.items()
        }
    )


_Models = dict[str, type[Any]]
_Keys = dict[str, list[KeyPart] | None]


def _by_label(models: Iterable[type[Any]]) -> _Models:
    return {model._meta.label_lower: model for model in models}


def _written(live: _Models, at: Sequence[str]) -> tuple[_Models, _Keys, dict[str, str]]:
    """The models in a backup made at `at`, their keys, and of keys not known the reason."""
    from fastnk.django.history import keys_then, models_at

    written = _by_label(models_at(at)) if at else live
    keys, reasons = _trace(live)
    if at:
        keys, reasons = keys_then(written, live, keys, reasons)
    for label, reason in _keys_that_proxies_change(written, keys):
        keys[label] = None
        reasons.setdefault(label, reason)
    return written, keys, reasons


def _trace(live: _Models) -> tuple[_Keys, dict[str, str]]:
    """The key of each model, and of those that cannot be traced the reason."""
    from fastnk.django.tracing import TraceError, trace_natural_key

    keys: _Keys = {}
    reasons: dict[str, str] = {}
    for label, model in live.items():
        try:
            keys[label] = trace_natural_key(model)
        except TraceError as error:
            keys[label] = None
            reasons[label] = str(error)
    return keys, reasons


def _keys_that_proxies_change(written: _Models, keys: _Keys) -> Iterator[tuple[str, str]]:
    """The models that are referred to through a proxy with another key than theirs.

    Django writes the proxy's key there, and the model's key on the record: they never meet.
    """
    from fastnk.django.describe import concrete_label, relations_to_proxies, target_of
    from fastnk.django.history import live_counterpart
    from fastnk.django.tracing import TraceError, trace_natural_key

    for field in relations_to_proxies(written.values()):
        proxy = target_of(field)
        label = concrete_label(proxy)
        who = (
            f'{proxy._meta.label}, the proxy that "{field.name}" of {field.model._meta.label_lower}'
        )
        # A model out of the migrations has no methods.
        live = live_counterpart(proxy)
        if live is None:
            yield label, f"is not known to be that of {who} referred to, which is gone"
            continue
        try:
            same = trace_natural_key(live) == keys[label]
        except TraceError as error:
            yield label, f"is not that of {who} refers to, which {error}"
        else:
            if not same:
                yield label, f"makes another key than that of {who} refers to"


def _keeps_pk(model: type[Any], keys: _Keys) -> bool:
    from fastnk.django.describe import loses_its_pk

    key = keys[model._meta.label_lower]
    return key is not None and loses_its_pk(
        model, flat_parts(key), lambda label: keys[label] is not None
    )


def _hand_over(reasons: dict[str, str], on_untraceable: OnUntraceable | None) -> None:
    if reasons and on_untraceable is None:
        raise UntraceableKeyError(reasons)
    if on_untraceable is not None:
        for label, reason in reasons.items():
            on_untraceable(label, reason)


def _require_django() -> None:
    try:
        import django  # noqa: F401
    except ModuleNotFoundError:
        raise MissingExtraError("Django", "django", "a schema from a Django project") from None


def set_up(settings: str) -> None:
    """Set Django up with a settings module. Raises `UsageError` for one that does not load."""
    import django
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
    try:
        importlib.import_module(settings)
    except Exception as error:
        raise UsageError(
            f'cannot import the settings "{settings}": {_named(error)}',
            remedy="run it in the folder of manage.py, with the settings that manage.py names",
        ) from error
    os.environ["DJANGO_SETTINGS_MODULE"] = settings
    try:
        django.setup()
    except Exception as error:
        raise UsageError(
            f'the project with the settings "{settings}" does not load: {_named(error)}',
            remedy="python manage.py check",
        ) from error


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
