"""Runs code of a project without its databases. Imports Django."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.db import connections

_DOORS = ("ensure_connection", "close_if_health_check_failed")
"""The methods of a connection that come first when a database is asked."""


def _refuse() -> NoReturn:
    raise RuntimeError("no database is to be asked here")


@contextmanager
def without_databases(refuse: Callable[[], NoReturn] = _refuse) -> Iterator[None]:
    """Whatever asks a database in this thread runs into `refuse`, before a connection is made."""

    def refuse_connection(*_: Any) -> NoReturn:
        refuse()

    _forget_content_types()
    doors = [(vars(one), name) for one in _connections() for name in _DOORS]
    before = [attributes.get(name) for attributes, name in doors]
    for attributes, name in doors:
        attributes[name] = refuse_connection
    try:
        yield
    finally:
        for (attributes, name), method in zip(doors, before, strict=True):
            if method is None:
                del attributes[name]
            else:
                attributes[name] = method


def _connections() -> Iterator[Any]:
    for alias in connections:
        # One whose driver is not installed cannot be asked.
        try:
            yield connections[alias]
        except ImproperlyConfigured:
            continue


def _forget_content_types() -> None:
    """What was read from a database before would be an answer from that database."""
    if apps.is_installed("django.contrib.contenttypes"):
        from django.contrib.contenttypes.models import ContentType

        ContentType.objects.clear_cache()
