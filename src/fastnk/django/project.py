"""Which Django project a restore works in."""

from __future__ import annotations

import os

from django.apps import apps

from fastnk.django.schema.introspect import set_up as set_up_settings
from fastnk.errors import UsageError


def set_up(settings: str | None) -> None:
    """Set Django up with a settings module, else leave it or do as the environment says.

    Raises `UsageError` for a project that does not load, and when there is none.
    """
    if settings is None:
        if apps.ready:
            return
        settings = os.environ.get("DJANGO_SETTINGS_MODULE")
    if settings is None:
        raise UsageError(
            "no Django project to restore into", remedy="name its settings: mysite.settings"
        )
    set_up_settings(settings)
