"""What a restore did, or would do. Plain data; no Django."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from fastnk.policies import Words

LOSSES = {"FNK301", "FNK302", "FNK306", "FNK307", "FNK311", "FNK312"}
"""What a conversion may have let pass that the loader does not make good."""
TOTALS = ("records", "created", "updated", "unchanged", "kept", "renumbered", "unknown_rows")


class RestoreOptions(Words, frozen=True, kw_only=True):
    """What a restore does and does not do."""

    on_existing: Literal["update", "keep", "error"] = "update"
    """A record whose row exists and differs: change the row, leave it, or refuse the backup."""
    on_json_text: Literal["error", "keep", "read"] = "error"
    """A text that holds a JSON object or array, in a JSON field: refuse the backup, leave it a
    text, or read what texts hold, as far as they are JSON."""
    exclude: frozenset[str] = frozenset()
    """Apps, and models as `app.model` in small letters, whose records are left out; fields as
    `app.model.field`, of which records then say nothing."""
    defaults: dict[str, Any] = msgspec.field(default_factory=dict)
    """What new rows hold in a field (`app.model.field`) of which their records say nothing, or null
    where it takes none; as a backup would say it."""
    ignore_nonexistent: bool = False
    """Leave out, and count, models and fields that the project no longer has."""
    null_keys: bool = False
    """Let a natural key with a null in it identify the one row that has it so."""
    duplicate_keys: bool = False
    """Let natural keys count as none where several rows of the database have the same."""
    keep_generic: bool = False
    """Let a generic reference to a row that the backup lacks keep its id, whatever has it now."""
    on_dangling: Literal["error", "keep", "null", "drop"] = "error"
    """A reference that nothing in the backup or the database answers: refuse the backup; keep the
    id where the database lets it dangle, or has some row with it; write null where the column takes
    that, and one less among many; or leave its record out."""
    last_counts: bool = False
    """Leave out records of which a later one has the natural key."""
    diff: bool = False
    """Tell in the report which fields of existing rows change."""
    signals: bool = False
    """Call receivers of `pre_save`, `post_save` and `m2m_changed`, as `loaddata` does."""
    verify: bool = False
    """Read the rows back before commit and compare them with the backup."""

    def excludes(self, label: str) -> bool:
        """Whether the records of a model are left out."""
        return bool(self.exclude & {label, label.partition(".")[0]})


class ModelCounts(msgspec.Struct):
    """What became of the records of one model. The first four add up to all of them."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    kept: int = 0
    """Rows that differ and are left as they are, because they exist."""
    renumbered: int = 0
    """How many of the created have another pk than in the backup, where it was taken."""

    unknown_rows: int = 0
    """Rows of the database that the backup does not know; they are left alone."""


class Difference(msgspec.Struct, frozen=True):
    """A field of an existing row that changes."""

    model: str
    row: str
    """The natural key or the pk, as JSON."""
    field: str
    before: Any
    after: Any


class Default(msgspec.Struct):
    """What new rows hold in a field of which their records say nothing."""

    rows: int = 0
    value: Any = msgspec.UNSET
    """The same for all; not there where each row gets a value of its own."""


class Privilege(msgspec.Struct, frozen=True):
    """A change to what somebody may do."""

    model: str
    row: str
    """The natural key or the pk, as JSON."""
    change: str


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
    privileges: list[Privilege] = []
    """Who becomes, or no longer is, superuser or staff, and whose groups or permissions change."""
    differences: list[Difference] = []
    """With `diff`: what changes in existing rows."""
    receivers: list[str] = []
    """Who listens to signals of the models concerned, or of all: called with `signals` only."""
    left_out: dict[str, int] = {}
    """With `ignore_nonexistent`: how many records of models, and values of fields, are left out."""
    let_go: dict[str, int] = {}
    """How many references that nothing answers, by field, were let go as `on_dangling` says."""
    excluded: dict[str, int] = {}
    """How many records of each model, and values of each field, that is excluded are left out."""
    superseded: dict[str, int] = {}
    """How many records were left out, by model, because a later one has the same natural key."""
    renamed: dict[str, int] = {}
    """Of each rename, as `old -> new`, how many records have the old name; 0 where only references,
    content types or permissions do."""
    verified: bool = False
    """Whether the rows were read back and were those of the backup."""
    further_rows: dict[str, int] = {}
    """With `verified`: how many rows that are none of the backup came in meanwhile, by model."""
    seconds: dict[str, float] = {}
    """Wall time by phase."""
    generic_kept: int = 0
    """Generic references to rows that the backup does not hold; they keep their ids."""
    weak_keys: dict[str, str] = {}
    """Models whose natural keys do not tell their records apart, and why: they count as none."""
    defaulted: dict[str, Default] = {}
    """Fields that the backup does not say: how many new rows have the default, and what it is, if
    neither null nor a text that may be empty."""
    replaced_nulls: dict[str, int] = {}
    """Fields of which nulls, that are not taken, became what is declared; and how many."""
    misread: list[str] = []
    """Fields that make another value of what they write into backups, and say nothing."""
    format: str | None = None
    """What the backup was, in the words of `detect`; `None` where its head does not tell."""
    conversion: Any = None
    """The `ConversionReport` of a backup that was converted first."""
    schema: str | None = None
    """The one of the database that new tables come into, where that is not the usual one."""

    @property
    def where(self) -> str:
        """The database, in words."""
        schema = f", schema {self.schema}" if self.schema else ""
        return f"{self.database} ({self.engine}, {self.name}{schema})"

    @property
    def complete(self) -> bool:
        """Whether all that the backup says was restored."""
        lost = self.left_out or self.let_go or self.superseded or self.excluded
        if self.conversion is not None:
            applied = self.conversion.policies_applied.keys() & LOSSES
            lost = lost or applied or self.conversion.salvaged or self.conversion.records_dropped
        return not lost

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
    def kept(self) -> int:
        return sum(counts.kept for counts in self.models.values())

    @property
    def unknown_rows(self) -> int:
        return sum(counts.unknown_rows for counts in self.models.values())

    @property
    def rows_present(self) -> int:
        """Rows that the models concerned had before."""
        return self.updated + self.unchanged + self.kept + self.unknown_rows

    @property
    def records(self) -> int:
        return self.created + self.updated + self.unchanged + self.kept

    def as_dict(self) -> dict[str, Any]:
        """The report and its totals as JSON-ready data."""
        totals = {name: getattr(self, name) for name in TOTALS}
        data: dict[str, Any] = msgspec.to_builtins(self)
        return {**data, **totals}
