"""Which Django project a restore works in."""

from __future__ import annotations

from fastnk.django.schema.introspect import set_up as set_up_settings
from fastnk.django.schema.introspect import set_up_by_environment
from fastnk.errors import NAME_THE_SETTINGS, UsageError


def set_up(settings: str | None) -> None:
    """Set Django up with a settings module, else leave it or do as the environment says.

    Raises `UsageError` for a project that does not load, and when there is none.
    """
    if settings is not None:
        set_up_settings(settings)
    elif not set_up_by_environment():
        raise UsageError("no Django project to restore into", remedy=NAME_THE_SETTINGS)
