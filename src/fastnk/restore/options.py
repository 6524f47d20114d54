"""What a restore is asked for, in the form in which it is done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from fastnk.errors import UsageError
from fastnk.policies import Policies
from fastnk.schema import plain_label


def excluded_names(names: Iterable[str]) -> frozenset[str]:
    """Apps, labels and fields with the names of models as in labels. Raises `UsageError`."""
    if isinstance(names, str):
        raise UsageError("one name where a list of them is taken", remedy=f'["{names}"]')
    return frozenset(_plain_path(name) if is_field(name) else plain_label(name) for name in names)


def is_field(name: str) -> bool:
    """Whether it is one as `app.model.field`, and no app or model."""
    return name.count(".") == 2


def _plain_path(path: str) -> str:
    label, _, name = path.rpartition(".")
    return f"{plain_label(label)}.{name}"


def defaults_by_path(defaults: Mapping[str, Any]) -> dict[str, Any]:
    """By field, `app.model.field`. Raises `UsageError` for what is none."""
    for path in defaults:
        if not is_field(path):
            raise UsageError(f'"{path}" is no field', remedy="app.model.field")
    return {_plain_path(path): value for path, value in defaults.items()}


def policies_of_conversion(policies: Policies, ignore_nonexistent: bool) -> Policies:
    """Those of the conversion: models that the loader leaves out, and counts, have to pass it."""
    if ignore_nonexistent and policies.on_unknown_model == "error":
        return msgspec.structs.replace(policies, on_unknown_model="keep")
    return policies
