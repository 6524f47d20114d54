"""The one restore for every backup: detect what it is, convert it, load it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import msgspec

from fastnk._core import Splitter
from fastnk.convert import Conversion, ConversionReport, LegacyBackupConverter, Policies
from fastnk.detect import BackupFormatDetector
from fastnk.django.report import ModelCounts, RestoreOptions, RestoreReport, RestoreTarget
from fastnk.errors import MissingExtraError, OutputError
from fastnk.schema import Schema
from fastnk.source import Backup, Progress, name_of, rereadable

__all__ = [
    "ModelCounts",
    "RestoreReport",
    "RestoreTarget",
    "UnifiedRestoreManager",
    "read_chunks",
    "restore",
]


CHUNK_BYTES = 1 << 19
"""Long enough that a chunk costs nothing, short enough that its rows take little memory."""


SPILLING = 8
"""Of so many bytes of a backup one may go to temporary files: fingerprints of keys, mostly."""

Confirm = Callable[[RestoreReport], None]


class UnifiedRestoreManager:
    """Restores backups of any format into a database of a Django project.

    `schema` is a `Schema` or the path of one; without it the project's own is made. `database` is
    an alias of the project's `DATABASES`. `settings` names the project's settings module; without
    it Django is used as it is set up in this process, or as `DJANGO_SETTINGS_MODULE` says. With
    `dry_run` nothing is written. `on_existing` says what becomes of rows that exist and differ,
    `ignore_nonexistent` leaves out, and counts, models and fields that the project no longer has,
    `diff` tells which fields change, `verify` reads the rows back before commit, `signals` calls
    receivers of signals as `loaddata` does. The other options are those of the conversion that a
    backup with ids goes through. Raises `MissingExtraError` without Django, `UsageError` for a
    project or a database that is not there, `SchemaError`.
    """

    def __init__(
        self,
        schema: Schema | str | os.PathLike[str] | None = None,
        *,
        database: str = "default",
        settings: str | None = None,
        dry_run: bool = False,
        policies: Policies | None = None,
        keys: Iterable[Backup] = (),
        embedded: bool = False,
        salvage: bool = False,
        encoding: str | None = None,
        jobs: int | None = None,
        memory_limit: int | None = None,
        on_existing: Literal["update", "keep", "error"] = "update",
        ignore_nonexistent: bool = False,
        diff: bool = False,
        verify: bool = False,
        signals: bool = False,
        progress: Progress | None = None,
    ) -> None:
        _require_django()
        from fastnk.django.project import set_up

        set_up(settings)
        from fastnk.django.loader import Loader

        self._schema = _schema(schema)
        policies = policies or Policies()
        if ignore_nonexistent and policies.on_unknown_model == "error":
            # The conversion lets them pass; the loader leaves them out and counts them.
            policies = msgspec.structs.replace(policies, on_unknown_model="keep")
        options = RestoreOptions(
            on_existing=on_existing,
            ignore_nonexistent=ignore_nonexistent,
            null_keys=policies.on_null_key != "error",
            diff=diff,
            verify=verify,
            signals=signals,
        )
        self._loader = Loader(self._schema, database, dry_run=dry_run, options=options)
        self._encoding = encoding
        self._converter = LegacyBackupConverter(
            self._schema,
            keys=keys,
            policies=policies,
            embedded=embedded,
            salvage=salvage,
            encoding=encoding,
            jobs=jobs,
            memory_limit=memory_limit,
            progress=progress,
        )

    @property
    def target(self) -> RestoreTarget:
        """The database that a restore will change."""
        return self._loader.target

    def restore_any_format(
        self, backup: Backup, *, confirm: Confirm | None = None
    ) -> RestoreReport:
        """Restore `backup` (path, bytes or binary file) in one transaction, all or nothing.

        `confirm` is told what will be done, before the first row is written; it raises to stop.
        Raises `FindingsError` before anything is written, `LockedError` while another restore
        into the database is under way, `RestoreError` where the database refuses, and what the
        conversion raises. The database is then as it was.
        """
        _refuse_without_room(backup)
        # Whatever the head looks like: an id further down must not be taken for one of the target.
        # What is natural passes through unchanged.
        with rereadable(backup) as again:
            with self._converter.converted(again) as conversion:
                report = self._load(conversion, backup, confirm)
            report.conversion = conversion.report
            report.format = self._format(again, conversion.report)
        return report

    def _format(self, backup: Backup, conversion: ConversionReport) -> str | None:
        """What the head of the backup says, or where it is damaged all that is whole of it."""
        is_damaged = conversion.salvaged is not None
        detector = BackupFormatDetector(self._schema, encoding=self._encoding, salvage=is_damaged)
        return detector.detect_format(backup).format

    def _load(
        self, conversion: Conversion, backup: Backup, confirm: Confirm | None
    ) -> RestoreReport:
        return self._loader.load(
            lambda phase: read_chunks(conversion.blocks(phase)),
            name_of(backup),
            labels=list(conversion.report.models),
            confirm=confirm,
        )


def restore(
    backup: Backup,
    schema: Schema | str | os.PathLike[str] | None = None,
    **options: Any,
) -> RestoreReport:
    """Restore one backup; the options are those of `UnifiedRestoreManager`."""
    return UnifiedRestoreManager(schema, **options).restore_any_format(backup)


def read_chunks(blocks: Iterable[bytes | memoryview]) -> Iterator[bytes]:
    """The records in the blocks of a backup, in JSON arrays of `CHUNK_BYTES` or little more.

    Raises `BackupSyntaxError`.
    """
    splitter = Splitter()
    for block in blocks:
        splitter.feed(block)
        if splitter.waiting >= CHUNK_BYTES:
            yield splitter.take_array()
    splitter.finish()
    if splitter.waiting:
        yield splitter.take_array()


def _schema(schema: Schema | str | os.PathLike[str] | None) -> Schema:
    if isinstance(schema, Schema):
        return schema
    if schema is not None:
        return Schema.load(schema)
    from fastnk.django.introspect import schema_from_apps

    return schema_from_apps()


def _refuse_without_room(backup: Backup) -> None:
    """Raise `OutputError` where the folder for temporary files has no room for what spills."""
    if not isinstance(backup, (str, os.PathLike)) or not Path(backup).is_file():
        return
    needed = Path(backup).stat().st_size // SPILLING
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OutputError(
            f"a restore may need {needed:,} bytes in {folder}, where {free:,} are free",
            remedy="TMPDIR names another folder",
        )


def _require_django() -> None:
    if find_spec("django") is None:
        raise MissingExtraError("Django", "django", "a restore")
