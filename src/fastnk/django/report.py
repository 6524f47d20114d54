"""What a restore did, or would do. Plain data; no Django."""

from __future__ import annotations

from typing import Any

import msgspec


class ModelCounts(msgspec.Struct):
    """What became of the records of one model. The first three add up to all of them."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    renumbered: int = 0
    """How many of the created have another pk than in the backup, where it was taken."""


class RestoreTarget(msgspec.Struct, frozen=True):
    """The database that a restore changes."""

    database: str
    """The alias in `DATABASES`."""
    engine: str
    """`postgresql`, `sqlite`, …"""
    name: str
    """The database's own name, or its file."""
    host: str
    """Empty for the default of the driver, and for a file."""

    def __str__(self) -> str:
        host = f" at {self.host}" if self.host else ""
        return f'database "{self.database}" ({self.engine} {self.name}{host})'


class RestoreReport(msgspec.Struct):
    """What a restore did, model by model, and to which database."""

    database: str
    """The alias in `DATABASES`."""
    engine: str
    """`postgresql`, `sqlite`, …"""
    name: str
    """The database's own name, or its file."""
    dry_run: bool
    models: dict[str, ModelCounts]
    generic_kept: int = 0
    """Generic references to rows that the backup does not hold; they keep their ids."""
    format: str | None = None
    """What the backup was, in the words of `detect`; `None` where it was too damaged to tell."""
    conversion: Any = None
    """The `ConversionReport` of a backup that was converted first."""

    @property
    def created(self) -> int:
        return sum(counts.created for counts in self.models.values())

    @property
    def updated(self) -> int:
        return sum(counts.updated for counts in self.models.values())

    @property
    def unchanged(self) -> int:
        return sum(counts.unchanged for counts in self.models.values())

    @property
    def renumbered(self) -> int:
        return sum(counts.renumbered for counts in self.models.values())

    @property
    def records(self) -> int:
        return self.created + self.updated + self.unchanged

    def as_dict(self) -> dict[str, Any]:
        """The report and its totals as JSON-ready data."""
        totals = {
            name: getattr(self, name)
            for name in ("records", "created", "updated", "unchanged", "renumbered")
        }
        data: dict[str, Any] = msgspec.to_builtins(self)
        return {**data, **totals}
