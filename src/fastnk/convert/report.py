"""What a conversion did."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec

from fastnk.planning import Style
from fastnk.source import Source

if TYPE_CHECKING:
    from fastnk.source.losses import Loss


class ModelCounts(msgspec.Struct, frozen=True):
    """What one model contributed."""

    records: int
    with_pk: int
    with_natural_key: int


class ConversionReport(msgspec.Struct, kw_only=True):
    """What a conversion did."""

    backup: str | None
    output: str | None
    style: Style
    complete: bool = True
    """False where a policy or `salvage` left something out or unconverted."""
    bytes_read: int = 0
    bytes_written: int = 0
    records: int = 0
    records_dropped: int = 0
    keys_written: int = 0
    """Records whose pk became a natural key."""
    references_written: int = 0
    """Ids in relation fields that became natural keys."""
    generic_kept: int = 0
    """Generic references that keep their ids: they lead nowhere, and by the schema may do so."""
    models: dict[str, ModelCounts] = {}
    pks_lost: list[str] = []
    """Models whose pk says something that the style `django` has no place for."""
    ids_left: list[str] = []
    """Without `embedded`: fields that, by the schema, hold ids of records whose pks became keys."""
    models_keeping_pks: list[str] = []
    """Models whose natural keys turned out not to identify their records."""
    keys_called: int = 0
    """Natural keys that methods of the project made, because no fields can tell them."""
    forward_references: int | None = None
    """With `order`: references within an array that no order can make point backwards."""
    policies_applied: dict[str, int] = {}
    """How often, by the code of the finding."""
    read_as: list[str] = []
    """What the backup is packed in and how it is encoded, where that is not a plain file."""
    salvaged: str | None = None
    """With `salvage`: what was wrong and what is lost."""
    losses: list[Loss] = []
    """With `salvage`: each stretch of the backup that is lost, the first 10,000 of them."""
    places_lost: int = 0
    bytes_lost: int = 0
    """With `salvage`: how many stretches and bytes are lost in all."""
    records_lost: int = 0
    """With `salvage`: how many records seem to begin in them."""
    dangling: list[dict[str, Any]] = []
    """With `salvage`, where records are lost: references to what the backup does not hold, which
    keep their ids; as findings, the first 10,000 of them."""
    seconds: dict[str, float] = {}
    """Wall time by phase."""
    key_map_bytes: int = 0
    key_map_spilled_bytes: int = 0
    """How much of the key map lay in temporary files, because of `memory_limit`."""
    key_map_spilled_seconds: float = 0.0
    """What looking rows up there took, all threads together."""

    def note_damage(self, source: Source) -> None:
        """What `salvage` leaves out."""
        damage = source.damage
        if damage is None:
            return
        before = f"{self.salvaged}; of {source.name or 'the keys'} " if self.salvaged else ""
        self.salvaged = before + damage.summary()
        self.losses = self.losses + damage.losses()
        self.places_lost += damage.loss_count
        self.bytes_lost += damage.lost_bytes
        self.records_lost += damage.lost_records
        self.complete = False


class Clock:
    """Adds up the time of phases."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self._seconds = seconds
        self.start()

    def start(self) -> None:
        self._started = time.perf_counter()

    def end(self, phase: str) -> None:
        """It ends now, and the next one begins."""
        now = time.perf_counter()
        self._seconds[phase] = self._seconds.get(phase, 0.0) + now - self._started
        self._started = now
