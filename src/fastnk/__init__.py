"""Converts legacy Django backups to natural keys, and restores any backup.

- `fastnk.detect("backup.json")` says what a backup is;
- `fastnk.convert("backup.json", "natural.json", "schema.json")` turns its ids into natural keys;
- `fastnk.verify("backup.json", "natural.json", "schema.json")` proves that nothing was changed;
- `fastnk.restore("natural.json")` loads it into the Django project that is set up.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastnk.convert import ConversionReport, LegacyBackupConverter, convert
    from fastnk.detect import BackupFormatDetector, DetectionReport, detect
    from fastnk.errors import FastnkError, Finding, FindingsError, Place
    from fastnk.policies import Policies
    from fastnk.restore import RestoreReport, UnifiedRestoreManager, restore
    from fastnk.schema import Schema
    from fastnk.verify import VerificationError, VerificationReport, verify

__all__ = [
    "BackupFormatDetector",
    "ConversionReport",
    "DetectionReport",
    "FastnkError",
    "Finding",
    "FindingsError",
    "LegacyBackupConverter",
    "Place",
    "Policies",
    "RestoreReport",
    "Schema",
    "UnifiedRestoreManager",
    "VerificationError",
    "VerificationReport",
    "convert",
    "detect",
    "restore",
    "verify",
]

_HOMES = {
    "convert": ("ConversionReport", "LegacyBackupConverter", "convert"),
    "detect": ("BackupFormatDetector", "DetectionReport", "detect"),
    "errors": ("FastnkError", "Finding", "FindingsError", "Place"),
    "policies": ("Policies",),
    "restore": ("RestoreReport", "UnifiedRestoreManager", "restore"),
    "schema": ("Schema",),
    "verify": ("VerificationError", "VerificationReport", "verify"),
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `import fastnk` alone stays cheap."""
    if name == "__version__":
        from importlib.metadata import version

        return version("fastnk")
    for module, names in _HOMES.items():
        if name in names:
            value = getattr(import_module(f"fastnk.{module}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module 'fastnk' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """Keeps `fastnk.convert` the function when somebody imports the module of that name."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in __all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
