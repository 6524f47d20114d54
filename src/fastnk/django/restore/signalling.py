"""The signals of models: who would have been called, and calls as `loaddata` makes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from django.db.models import QuerySet
from django.db.models.signals import m2m_changed, post_save, pre_save

from fastnk.django.restore.batches import Table
from fastnk.django.restore.discretion import remedy_for
from fastnk.django.restore.plan import ManyColumn, Plan
from fastnk.django.restore.writing import Change
from fastnk.errors import RestoreError

SIGNALS = {"pre_save": pre_save, "post_save": post_save, "m2m_changed": m2m_changed}


def has_receivers(plan: Plan) -> bool:
    """Whether anybody listens to what happens to rows of a model."""
    saves = pre_save.has_listeners(plan.model) or post_save.has_listeners(plan.model)
    return saves or any(m2m_changed.has_listeners(many.through) for many in plan.many.values())


def receivers(plans: Iterable[Plan]) -> list[str]:
    """Signal, model and receiver, by name, of everybody who listens to rows of these models; once
    of those who listen to whatever model."""
    found = set()
    general = {name: {*map(_name, _live(signal, object))} for name, signal in SIGNALS.items()}
    for plan in plans:
        senders = {"pre_save": [plan.model], "post_save": [plan.model]}
        senders["m2m_changed"] = [many.through for many in plan.many.values()]
        for name, signal in SIGNALS.items():
            for receiver in (
                _name(one) for sender in senders[name] for one in _live(signal, sender)
            ):
                of = "all models" if receiver in general[name] else plan.label
                found.add(f"{name} of {of}: {receiver}")
    return sorted(found)


class Sender:
    """Calls the receivers of a batch of rows, before and after it is written."""

    def __init__(self, database: str, before: Callable[[], None]) -> None:
        """`before` is called first each time: receivers may use the database."""
        self._database = database
        self._before = before

    def created(self, table: Table, pks: Sequence[Any], write: Callable[[], None]) -> None:
        """Write new rows, with signals around."""
        plan = table.plan
        columns: dict[str, Sequence[Any]] = {
            plan.columns[name].field.attname: values
            for name, values in table.columns.items()
            if name in plan.columns
        }
        columns[plan.pk.attname] = pks
        # As a database gives them: in the order of the model's fields.
        names = [one.attname for one in plan.model._meta.concrete_fields if one.attname in columns]
        rows = zip(*(columns[name] for name in names), strict=True)
        instances = [plan.model.from_db(self._database, names, row) for row in rows]
        self._around(plan, instances, write, created=True)
        for name, of_rows in table.many.items():
            targets = (set(pks or ()) for pks in of_rows)
            self._links(plan.many[name], zip(instances, targets, strict=True), "add")

    def updated(self, plan: Plan, changes: list[Change], write: Callable[[], None]) -> None:
        """Change rows, with signals around."""
        by_pk = {change.row.pk: change for change in changes}
        rows = QuerySet(plan.model, using=self._database).filter(pk__in=by_pk)
        instances = list(rows)
        for instance in instances:
            for name, value in by_pk[instance.pk].columns.items():
                setattr(instance, plan.columns[name].field.attname, value)
        self._around(plan, instances, write, created=False)
        for name, column in plan.many.items():
            pairs = [(instance, by_pk[instance.pk]) for instance in instances]
            removed = ((one, set(change.removed.get(name, {}).values())) for one, change in pairs)
            self._links(column, removed, "remove")
            added = ((one, set(change.added.get(name, ()))) for one, change in pairs)
            self._links(column, added, "add")

    def _around(
        self, plan: Plan, instances: list[Any], write: Callable[[], None], *, created: bool
    ) -> None:
        self._before()
        common = {"sender": plan.model, "raw": True, "using": self._database, "update_fields": None}
        for instance in instances:
            _call("pre_save", instance=instance, **common)
        write()
        self._before()
        for instance in instances:
            instance._state.adding = False
            _call("post_save", instance=instance, created=created, **common)

    def _links(
        self, column: ManyColumn, pairs: Iterable[tuple[Any, set[Any]]], action: str
    ) -> None:
        for instance, pks in pairs:
            for moment in ("pre", "post") if pks else ():
                _call(
                    "m2m_changed",
                    sender=column.through,
                    action=f"{moment}_{action}",
                    instance=instance,
                    reverse=False,
                    model=column.field.remote_field.model,
                    pk_set=pks,
                    using=self._database,
                )


def _call(name: str, instance: Any, **named: Any) -> None:
    """Call the receivers of a signal. What they raise is no fault of the backup."""
    try:
        SIGNALS[name].send(instance=instance, **named)
    except Exception as error:
        label = instance._meta.label_lower
        raise RestoreError(
            f"a receiver of {name} of {label} failed: {type(error).__name__}; everything was rolled"
            " back",
            remedy=remedy_for(error) or "leave out --signals, or mend it: --debug shows where",
        ) from error


def _live(signal: Any, sender: Any) -> Iterator[Any]:
    found = signal._live_receivers(sender)
    # Since Django 5.0 the asynchronous ones are apart.
    for receivers_now in found if isinstance(found, tuple) else (found,):
        yield from receivers_now


def _name(receiver: Any) -> str:
    own = getattr(receiver, "__qualname__", None) or type(receiver).__qualname__
    return f"{getattr(receiver, '__module__', '')}.{own}"
