"""Natural keys that methods of the project make and records do not say.

Django's own natural dumps have such keys in references only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from typing import Self

from django.apps import apps

from fastnk.django.instances import Instances, names_of_records
from fastnk.django.kept import KeptRecords
from fastnk.django.restore.natural_keys import CalledKey, Key
from fastnk.django.restore.rows import InBackup
from fastnk.django.schema.describe import concrete_label
from fastnk.django.unmade import RefusalError


class KeyMaker:
    """Calls the methods on instances that are built from the records of the backup alone."""

    def __init__(
        self,
        forms: Collection[CalledKey],
        bodies: Callable[[], Iterator[bytes]],
        renamed: Collection[str] = (),
    ) -> None:
        """`bodies` gives all records of the backup, in order. Of the models in `renamed` they have
        names of another time, by which methods would find nothing, or the wrong thing."""
        self._models = [
            form.model
            for form in forms
            if names_of_records([form.model]).keys().isdisjoint(renamed)
        ]
        self._records = KeptRecords(lambda: [bodies()], _proxies())
        self._instances = Instances(self._records)
        self._numbers: dict[CalledKey, list[int]] = {}

    def __enter__(self) -> Self:
        """Raises `OutputError` when there is no room for temporary data."""
        self._records.keep(names_of_records(self._models))
        return self

    def __exit__(self, *_: object) -> None:
        self._instances.__exit__()
        self._records.__exit__()

    def key(self, form: CalledKey, row: InBackup) -> Key:
        """The key that the method makes of the record of a row. Raises `RefusalError`."""
        if form.model not in self._models:
            raise RefusalError("cannot be called on records under another name")
        if form not in self._numbers:
            self._numbers[form] = list(self._records.numbers(concrete_label(form.model)))
        numbers = self._numbers[form]
        if len(numbers) != len(row.rows):
            raise RefusalError("cannot be called on records under another name")
        name = form.method.rpartition(".")[2]
        return form.read(json.loads(self._instances.key(form.model, name, numbers[row.number])))


def _proxies() -> dict[str, str]:
    """Which model each proxy stands for."""
    return {
        model._meta.label_lower: concrete_label(model)
        for model in apps.get_models()
        if model._meta.proxy
    }
