"""What is asked of a conversion."""

from __future__ import annotations

import msgspec

from fastnk.planning import Plans, Style
from fastnk.schema import Schema
from fastnk.source import BLOCK_SIZE, Backup, Progress, Source


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What all conversions by one converter have in common."""

    schema: Schema
    plans: Plans
    style: Style
    embedded: bool
    keys: tuple[Backup, ...]
    salvage: bool
    encoding: str | None
    jobs: int
    memory_limit: int
    """0 for none."""
    spill_folder: bytes
    block_size: int
    progress: Progress | None

    @property
    def is_plain(self) -> bool:
        """Whether nothing is asked for but the conversion itself."""
        tables = self.plans.lean.key_tables
        further = (self.keys, tables, self.salvage, self.encoding, self.memory_limit)
        return self.block_size >= BLOCK_SIZE and self.progress is None and not any(further)

    def open(self, backup: Backup) -> Source:
        """The backup to be converted. Raises `SourceError`."""
        return Source(
            backup,
            self.block_size,
            encoding=self.encoding,
            salvage=self.salvage,
            progress=self.progress,
        )

    def open_keys(self, backup: Backup) -> Source:
        """A backup that supplies keys. Raises `SourceError`."""
        return Source(backup, self.block_size, salvage=self.salvage)
