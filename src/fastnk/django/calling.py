"""Natural keys that methods of the project make, called on instances of the backup's records.

The records of the models with such keys, of all that these refer to, and of those that the methods
query, go into private temporary files, so that memory does not grow with them.
"""

from __future__ import annotations

import json
import operator
import sys
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from fastnk.django.schema.introspect import set_up_by_environment
from fastnk.errors import NAME_THE_SETTINGS, MissingExtraError, UsageError
from fastnk.schema import MAKE_ONE, Schema
from fastnk.source import Source

if TYPE_CHECKING:
    from fastnk.django.instances import Instances
    from fastnk.django.kept import KeptRecords


class CalledKey(NamedTuple):
    """The natural key of one record, or why there is none."""

    label: str
    method: str
    """As the schema names it."""
    pk: str
    """JSON text as it stands in the backup."""
    key: str | None
    """A list as JSON text, spelled as Django's serializer spells it; `None` where it failed."""
    reason: str | None
    """Then: what happened, on one line."""


class _Method(NamedTuple):
    """A method that makes keys for the records of a model, or for references to them."""

    label: str
    path: str
    makes_own_key: bool
    """Whether it is the model's own, and not that of a proxy."""


def called_keys(schema: Schema, sources: Sequence[Source]) -> Iterator[CalledKey]:
    """The key that each method named in the schema makes of each record with a pk.

    The first of `sources` is the backup, the others supply keys to it; one that is cut off counts
    up to there. Each record comes once, of two with one pk the one that counts; a natural key that
    a record tells is taken from it. What a method asks a database is answered from the records.

    Raises `MissingExtraError` without Django, `UsageError` where Django is not set up or the
    schema names a method that is not there, `BackupSyntaxError`, `SourceError`, and `OutputError`
    when there is no room for temporary data.
    """
    _require_project()
    from fastnk.django.instances import Instances, names_of_records
    from fastnk.django.kept import KeptRecords, whole_records

    classes = {method: _class_of(method) for method in _methods(schema)}
    with (
        KeptRecords(lambda: map(whole_records, sources), schema.proxies) as records,
        Instances(records) as instances,
    ):
        records.keep(names_of_records(classes.values()))
        for method, model in classes.items():
            yield from _keys_of(method, model, records, instances)


def _keys_of(
    method: _Method, model: type[Any], records: KeptRecords, instances: Instances
) -> Iterator[CalledKey]:
    from fastnk.django.unmade import RefusalError

    label, path, makes_own_key = method
    name = path.rpartition(".")[2]
    for record in records.that_count(label):
        if record.pk is None:
            continue
        key = reason = None
        if makes_own_key and record.natural_key is not None:
            key = json.dumps(json.loads(record.natural_key), ensure_ascii=False)
        else:
            try:
                key = instances.key(model, name, record.number)
            except RefusalError as refusal:
                # Half a pair of surrogates, which JSON can name, is nothing to print.
                reason = str(refusal).encode(errors="backslashreplace").decode()
        yield CalledKey(label, path, record.pk, key, reason)


def method_of(model: type[Any]) -> str | None:
    """The dotted path of the `natural_key` of `model`; `None` where it does not lead there, as to
    a class that was made in a function."""
    path = f"{model.__module__}.{model.__qualname__}"
    return f"{path}.natural_key" if at_path(path) is model else None


def methods_that_meet(schema: Schema, labels: Collection[str]) -> set[str]:
    """The models whose method, or that of a proxy of theirs, may look at a record of `labels`."""
    from fastnk.django.instances import names_of_records

    return {
        method.label
        for method in _methods(schema)
        if not names_of_records([_class_of(method)]).keys().isdisjoint(labels)
    }


def _methods(schema: Schema) -> list[_Method]:
    """Each model and method, once."""
    found: dict[tuple[str, str | None], bool] = {}
    for label, model in schema.models.items():
        found[label, model.natural_key_method] = True
    for model in schema.models.values():
        for relation in model.relations.values():
            found.setdefault((relation.to, relation.natural_key_method), False)
    return [_Method(label, path, own) for (label, path), own in found.items() if path is not None]


def _class_of(method: _Method) -> type[Any]:
    """The model or proxy whose method it is. Raises `UsageError`."""
    from django.db.models import Model

    from fastnk.django.schema.describe import concrete_label

    path, _, name = method.path.rpartition(".")
    model = at_path(path)
    if model is None:
        fault = f"this project has no {path}"
    elif not (isinstance(model, type) and issubclass(model, Model) and hasattr(model, "_meta")):
        fault = f"{path} is not a model"
    elif model._meta.abstract or concrete_label(model) != method.label:
        fault = f"{path} is not a class of {method.label}"
    elif not callable(getattr(model, name, None)):
        fault = f'{path} has no method "{name}"'
    else:
        return cast(type[Any], model)
    raise UsageError(
        f'cannot call "{method.path}", which the schema names for {method.label}: {fault}',
        remedy=f"give the schema and the settings of the same project: {MAKE_ONE}",
    )


def at_path(path: str) -> Any:
    """What a dotted path leads to; `None` where it leads nowhere.

    The models of a project that is set up are there: what a schema names is not imported.
    """
    names = path.split(".")
    for length in range(len(names) - 1, 0, -1):
        module = sys.modules.get(".".join(names[:length]))
        if module is not None:
            try:
                return operator.attrgetter(".".join(names[length:]))(module)
            except AttributeError:
                return None
    return None


def _require_project() -> None:
    try:
        import django  # noqa: F401
    except ModuleNotFoundError:
        raise MissingExtraError("Django", "django", "a natural key made by a method") from None
    if not set_up_by_environment():
        raise UsageError(
            "the schema names methods that make natural keys, and Django is not set up",
            remedy=NAME_THE_SETTINGS,
        )
