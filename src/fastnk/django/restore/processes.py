"""Work for a restore that another process does beside this one.

It must not use the connections to databases that it inherits, and runs no code of the project's
fields.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fastnk import processes
from fastnk.django.offline import without_databases
from fastnk.django.restore.columns import is_written_directly
from fastnk.django.restore.plan import Plan
from fastnk.django.restore.values import end_of, is_of_django
from fastnk.processes import Ends


def is_made_by_django(plan: Plan) -> bool:
    """Whether Django's own fields make all that is written into the tables of a model."""
    models = [plan.model, *(many.through for many in plan.many.values())]
    fields = [field for model in models for field in model._meta.concrete_fields]
    return all(map(is_written_directly, models)) and all(map(_is_made_by_django, fields))


def _is_made_by_django(field: Any) -> bool:
    return is_of_django(end_of(field))


@contextmanager
def other_process(work: Callable[[Ends], None]) -> Iterator[Ends]:
    """A process that does `work` without the databases; at the end of the `with` statement it is no
    more."""

    def alone(there: Ends) -> None:
        with without_databases():
            work(there)

    with processes.other_process(alone) as here:
        yield here
