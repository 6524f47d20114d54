"""The Django app: its management commands are the verbs of the command line."""

from __future__ import annotations

from django.apps import AppConfig


class FastnkConfig(AppConfig):  # type: ignore[misc]
    name = "fastnk.django"
    label = "fastnk"
    verbose_name = "fastnk"
