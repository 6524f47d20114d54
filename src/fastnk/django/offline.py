"""Runs code of a project without its databases. Imports Django."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from django.apps import apps
from django.db import connections


@contextmanager
def without_databases(refuse: Callable[[], NoReturn]) -> Iterator[None]:
    """Whatever asks a database runs into `refuse`, before a connection is made."""

    def refuse_connection(*_: Any) -> NoReturn:
        refuse()

    forget_content_types()
    every = connections.all()
    for connection in every:
        connection.ensure_connection = refuse_connection
    try:
        yield
    finally:
        for connection in every:
            del connection.ensure_connection


def forget_content_types() -> None:
    """What was read from a database before is an answer from that database."""
    if apps.is_installed("django.contrib.contenttypes"):
        from django.contrib.contenttypes.models import ContentType

        ContentType.objects.clear_cache()
