"""Conversion to natural keys: two passes over the core, the policies, the report."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import msgspec

from fastnk._core import Indexer, Splicer, repeated
from fastnk.convert.conversion import Conversion
from fastnk.convert.policies import DANGLING, lenient, strict
from fastnk.convert.report import ConversionReport
from fastnk.convert.settings import Settings
from fastnk.errors import BackupSyntaxError, Finding, FindingsError, UsageError
from fastnk.output import MemorySink, NoSink, Output, Sink, TemporarySink, open_sink, output_name
from fastnk.planning import Plans, Style
from fastnk.policies import Policies
from fastnk.schema import Schema
from fastnk.source import BLOCK_SIZE, Backup, Progress, Source, is_plain, several
from fastnk.threads import default_jobs

__all__ = ["Conversion", "ConversionReport", "LegacyBackupConverter", "Policies", "convert"]

Order = Literal["dependencies"]
MAX_JOBS = 1_000
"""Threads at once; each needs memory of its own."""
AT_ONCE_BYTES = 4 << 20
"""A backup in memory that is no longer is not worth to be cut into pieces, whose memory the system
would have to find anew for each conversion: that takes twice as long as to convert it."""
MAX_DANGLING = 10_000
"""How many references to what is lost a report holds."""


class LegacyBackupConverter:
    """Converts backups with one schema; prepared once, used any number of times.

    `keys` are further backups whose records only supply keys. `block_size` is how many bytes are
    read at once, `jobs` how many threads work at once, without it as many as there are processors,
    up to 8; the output is the same. With `embedded`, the ids inside fields that the schema declares
    are converted, too. Past `memory_limit` (in bytes) the key map moves to temporary files; what
    else is kept takes less than 64 MB with 8 jobs. Without `sync` an output is complete when it
    appears, but may be lost in a power cut, as that of most programs. With `order="dependencies"` a
    record comes behind those it refers to, wherever there is such an order; with several arrays in
    an envelope, within each. Where the schema names methods that make natural keys, Django must be
    set up.
    Raises `SchemaError` for a schema that cannot be loaded.
    """

    def __init__(
        self,
        schema: Schema | str | os.PathLike[str],
        *,
        keys: Iterable[Backup] = (),
        policies: Policies | None = None,
        style: Style = "fastnk",
        embedded: bool = False,
        order: Order | None = None,
        salvage: bool = False,
        encoding: str | None = None,
        compress: str | None = None,
        force: bool = False,
        sync: bool = True,
        jobs: int | None = None,
        memory_limit: int | None = None,
        block_size: int = BLOCK_SIZE,
        progress: Progress | None = None,
    ) -> None:
        _check_options(style, order, jobs, memory_limit)
        schema = schema if isinstance(schema, Schema) else Schema.load(schema)
        schema = schema.by_column_names()
        self._settings = Settings(
            schema=schema,
            plans=Plans(schema, style, embedded),
            style=style,
            embedded=embedded,
            keys=several(keys),
            salvage=salvage,
            encoding=encoding,
            jobs=default_jobs() if jobs is None else jobs,
            memory_limit=memory_limit or 0,
            spill_folder=_temporary_folder() if memory_limit else b".",
            block_size=block_size,
            progress=progress,
        )
        self._policies = policies or Policies()
        self._policies_by_name = msgspec.structs.asdict(self._policies)
        self._order = order
        self._compress = compress
        self._force = force
        self._sync = sync
        drops = "drop" in self._policies_by_name.values()
        self._is_plain = self._settings.is_plain and order is None and not drops
        """Whether nothing is asked for but the conversion itself."""

    def convert_to_natural_keys(
        self, backup: Backup, output: Output | TemporarySink
    ) -> ConversionReport:
        """Convert `backup` (path, bytes or binary file) into `output` (path or binary file).

        The output appears only when it is complete. Raises `BackupSyntaxError` for a damaged
        backup, `FindingsError` for findings that no policy allows, `SourceError`, `OutputError`,
        and `UsageError` where the output exists or is the backup.
        """
        with self._settings.open(backup) as source:
            sink = open_sink(
                output,
                force=self._force,
                sources=source.statuses(),
                compress=self._compress,
                sync=self._sync,
            )
            try:
                report = self._convert(source, sink)
                report.output = output_name(output)
            except BaseException:
                sink.discard()
                raise
            started = time.perf_counter()
            sink.commit()
            report.seconds["commit"] = time.perf_counter() - started
            return report

    def convert_bytes(self, data: bytes | bytearray | memoryview) -> bytes:
        """Convert a backup in memory. Raises as `convert_to_natural_keys` does."""
        data = bytes(data)
        if self._is_plain and len(data) <= AT_ONCE_BYTES and is_plain(data):
            converted = self._converted_at_once(data)
            if converted is not None:
                return converted
        with self._settings.open(data) as source:
            sink = MemorySink()
            self._convert(source, sink)
            return sink.value()

    def _converted_at_once(self, data: bytes) -> bytes | None:
        """A small backup in two strokes of the core, for jobs that convert many; `None` where there
        is anything to be told of it, which is left to a `Conversion`."""
        indexer = Indexer(
            self._settings.plans.lean.plan,
            policies=self._policies_by_name,
            django_style=self._settings.style == "django",
        )
        try:
            indexer.feed(data)
            indexer.finish()
        except BackupSyntaxError:
            return None
        pks, keys = indexer.take_prints()
        splicer = Splicer(indexer)
        if splicer.lacks_rows() or indexer.take_findings() or repeated(pks):
            return None
        converted = bytes(splicer.splice(data, 0, indexer.take_log(), 0, 0))
        splicer.finish()
        if splicer.again or splicer.take_findings() or repeated(keys + splicer.take_prints()):
            return None
        return converted

    @contextlib.contextmanager
    def converted(self, backup: Backup) -> Iterator[Conversion]:
        """What `backup` is in natural keys, to be read any number of times and written nowhere.

        Raises `BackupSyntaxError` and `SourceError`.
        """
        with self._settings.open(backup) as source, self._indexed(source) as conversion:
            yield conversion

    @contextlib.contextmanager
    def _indexed(self, source: Source) -> Iterator[Conversion]:
        dangling = self._dangling(source)
        policies = self._policies if dangling is None else lenient(self._policies, dangling)
        with Conversion(self._settings, source, policies) as conversion:
            lost = [one.as_dict() for one in dangling or () if one.code in DANGLING]
            conversion.report.dangling = lost[:MAX_DANGLING]
            yield conversion

    def _convert(self, source: Source, sink: Sink) -> ConversionReport:
        if self._order is None:
            return self._run(source, sink)
        from fastnk.order import arrange

        unordered = TemporarySink()
        with unordered.file:
            report = self._run(source, unordered)
            unordered.commit()
            started = time.perf_counter()
            with Source(unordered.file, self._settings.block_size) as converted:
                arrangement = arrange(converted, sink, self._settings.schema)
        report.forward_references = arrangement.forward_references
        report.seconds["order"] = time.perf_counter() - started
        return report

    def _run(self, source: Source, sink: Sink) -> ConversionReport:
        with self._indexed(source) as conversion:
            return conversion.write(sink)

    def _dangling(self, source: Source) -> list[Finding] | None:
        """What refers to nothing in a damaged backup; `None` where no record of it is lost."""
        if source.damage is None or not source.damage.lost_records:
            return None
        try:
            with Conversion(self._settings, source, strict(self._policies)) as conversion:
                conversion.write(NoSink())
        except FindingsError as error:
            return error.findings
        return []


def convert(
    backup: Backup,
    output: Output,
    schema: Schema | str | os.PathLike[str],
    **options: Any,
) -> ConversionReport:
    """Convert one backup; the options are those of `LegacyBackupConverter`."""
    return LegacyBackupConverter(schema, **options).convert_to_natural_keys(backup, output)


def _check_options(
    style: Style, order: Order | None, jobs: int | None, memory_limit: int | None
) -> None:
    if style not in ("fastnk", "django"):
        raise UsageError(f'no style "{style}"', remedy="fastnk or django")
    if jobs is not None and not 0 < jobs <= MAX_JOBS:
        raise UsageError(f"{jobs:,} jobs get nothing done", remedy=f"1 to {MAX_JOBS:,}")
    if memory_limit is not None and memory_limit < 1:
        raise UsageError(f"{memory_limit} bytes of memory hold nothing", remedy="1 or more")
    if order not in (None, "dependencies"):
        raise UsageError(f'no order "{order}"', remedy="dependencies, or none")


def _temporary_folder() -> bytes:
    import tempfile

    return os.fsencode(tempfile.gettempdir())
