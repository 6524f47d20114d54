"""Runs code of a project without its databases, or with another one. Imports Django."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, router

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


@contextmanager
def with_database(connection: Any) -> Iterator[None]:
    """Whatever asks a database in this thread asks `connection`, no matter by which alias."""
    known = {one.alias: one for one in _connections()}
    _forget_content_types()
    for alias in connections:
        connections[alias] = connection
    try:
        yield
    finally:
        for alias in connections:
            del connections[alias]
        for alias, one in known.items():
            connections[alias] = one
        _forget_content_types()


@contextmanager
def reading_from(alias: str) -> Iterator[None]:
    """Queries in this thread that name no database read from `alias` what is kept there."""
    first = _FirstRouter(alias)
    router.routers.insert(0, first)
    try:
        yield
    finally:
        router.routers.remove(first)


class _FirstRouter:
    def __init__(self, alias: str) -> None:
        self._alias = alias
        self._thread = threading.get_ident()

    def db_for_read(self, model: type[Any], **_: Any) -> str | None:
        """What Django asks a router."""
        is_asked = threading.get_ident() == self._thread
        return self._alias if is_asked and router.allow_migrate_model(self._alias, model) else None


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
