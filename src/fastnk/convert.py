"""Conversion to natural keys: two passes over the core, the policies, the report."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, Self

import msgspec

from fastnk._core import DEFAULT_MAX_RECORD, Indexer, Splicer, repeated
from fastnk.audit import Audit
from fastnk.errors import (
    BackupSyntaxError,
    Finding,
    FindingsError,
    OutputError,
    Place,
    UsageError,
)
from fastnk.lanes import (
    PIECE_SIZE,
    Cutter,
    IndexLane,
    Piece,
    SlotLog,
    SpliceLane,
    in_order,
    lanes_for,
    loaded,
)
from fastnk.output import Output, Sink, TemporarySink, open_sink, output_name
from fastnk.planning import Planner, Style
from fastnk.schema import Schema
from fastnk.source import BLOCK_SIZE, Backup, Progress, Source, is_plain

if TYPE_CHECKING:
    from fastnk.scan import Loss

Order = Literal["dependencies"]


class Policies(msgspec.Struct, frozen=True, kw_only=True):
    """What to do about findings. `error` refuses the backup and lists them all."""

    on_unresolved: Literal["error", "keep", "null", "drop"] = "error"
    """An id that no record has: keep it, write null, or leave the record out."""
    on_unknown_model: Literal["error", "keep", "drop"] = "error"
    """A record of a model that the schema does not know: keep it as it is, or leave it out."""
    on_duplicate_pk: Literal["error", "keep"] = "error"
    """Two records with one pk: keep both; ids then mean the last one."""
    on_duplicate_key: Literal["error", "keep"] = "error"
    """Two records with one natural key: all records of the model keep their pks."""
    on_null_key: Literal["error", "keep", "null"] = "error"
    """A natural key with a null in it: the model keeps its pks, or the key is written so."""
    on_duplicate_member: Literal["error", "keep"] = "error"
    """A member that stands twice in a record: keep both; the last one counts."""
    on_generic: Literal["error", "keep"] = "error"
    """A generic relation that leads to no natural key: keep its id."""
    on_embedded: Literal["error", "keep"] = "error"
    """An id inside a field that no record has, or a text that should be JSON: keep it."""


_CODES: dict[int, tuple[str, str]] = {
    301: ("no record has this id", "on_unresolved"),
    302: ("the schema does not know this model", "on_unknown_model"),
    303: ("an earlier record has the same pk", "on_duplicate_pk"),
    304: ("another record has the same natural key", "on_duplicate_key"),
    305: ("the natural key has a null part", "on_null_key"),
    306: ("a member stands twice in this record", "on_duplicate_member"),
    307: (
        "the natural key cannot be made: a record on its way is missing, or its method fails",
        "on_unresolved",
    ),
    308: ("no record has this content type, or the schema lacks its model", "on_generic"),
    309: ("no record has this id (generic relation)", "on_generic"),
    310: ("the target of this generic relation has no natural key", "on_generic"),
    311: ("no record has this id (inside a field)", "on_embedded"),
    312: ("the text is not JSON, so its ids cannot be found", "on_embedded"),
}


_DANGLING = ("FNK301", "FNK307", "FNK309", "FNK311")
"""Findings that a lost record may cause."""
_LENIENT = ("on_unresolved", "on_generic", "on_embedded")
MAX_DANGLING = 10_000


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
    models: dict[str, ModelCounts] = {}
    pks_lost: list[str] = []
    """Models whose pk says something that the style `django` has no place for."""
    models_keeping_pks: list[str] = []
    """Models whose natural keys turned out not to identify their records."""
    keys_called: int = 0
    """Natural keys that methods of the project made, because no fields can tell them."""
    forward_references: int | None = None
    """With `order`: references that no order can make point backwards."""
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


class LegacyBackupConverter:
    """Converts backups with one schema; prepared once, used any number of times.

    `keys` are further backups whose records only supply keys. `block_size` is how many bytes are
    read at once, `jobs` how many threads work at once, as many as there are processors without it;
    the output is the same. With `embedded`, the ids inside fields that the schema declares are
    converted, too. Past `memory_limit` (in bytes) the key map moves to temporary files; what else
    is kept takes less than 64 MB. Without `sync` an output is complete when it appears, but may be
    lost in a power cut, as that of most programs. With `order="dependencies"` a record comes
    behind those it refers to, wherever there is such an order. Where the schema names methods
    that make natural keys, Django must be set up.
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
        if style not in ("fastnk", "django"):
            raise UsageError(f'no style "{style}"', remedy="fastnk or django")
        self._schema = schema if isinstance(schema, Schema) else Schema.load(schema)
        if jobs is not None and jobs < 1:
            raise UsageError(f"{jobs} jobs get nothing done", remedy="1 or more")
        if memory_limit is not None and memory_limit < 1:
            raise UsageError(f"{memory_limit} bytes of memory hold nothing", remedy="1 or more")
        if order not in (None, "dependencies"):
            raise UsageError(f'no order "{order}"', remedy="dependencies, or none")
        planner = Planner(self._schema, style, embedded)
        self._plan = planner.plan()
        self._key_tables = planner.key_tables
        self._keys = tuple(keys)
        self._policies = policies or Policies()
        self._policies_by_name = msgspec.structs.asdict(self._policies)
        self._style: Style = style
        self._order = order
        self._salvage = salvage
        self._encoding = encoding
        self._compress = compress
        self._force = force
        self._sync = sync
        self._jobs = len(os.sched_getaffinity(0)) if jobs is None else jobs
        self._memory_limit = memory_limit or 0
        self._spill_folder = _temporary_folder() if memory_limit else b"."
        self._block_size = block_size
        self._progress = progress
        further = (self._keys, order, salvage, encoding, memory_limit, progress, self._key_tables)
        self._is_plain = (
            block_size >= BLOCK_SIZE
            and not any(further)
            and "drop" not in self._policies_by_name.values()
        )
        """Whether nothing is asked for but the conversion itself."""

    def convert_to_natural_keys(
        self, backup: Backup, output: Output | TemporarySink
    ) -> ConversionReport:
        """Convert `backup` (path, bytes or binary file) into `output` (path or binary file).

        The output appears only when it is complete. Raises `BackupSyntaxError` for a damaged
        backup, `FindingsError` for findings that no policy allows, `SourceError`, `OutputError`,
        and `UsageError` where the output exists or is the backup.
        """
        with self._open(backup) as source:
            sink = open_sink(
                output,
                force=self._force,
                sources=source.identities(),
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

    def convert_bytes(self, data: bytes) -> bytes:
        """Convert a backup in memory. Raises as `convert_to_natural_keys` does."""
        if self._is_plain and len(data) <= PIECE_SIZE and is_plain(data):
            converted = self._converted_at_once(data)
            if converted is not None:
                return converted
        with self._open(data) as source:
            sink = MemorySink()
            self._convert(source, sink)
            return sink.value()

    def _converted_at_once(self, data: bytes) -> bytes | None:
        """A small backup in two strokes of the core, for jobs that convert many; `None` where there
        is anything to be told of it, which is left to a `Conversion`."""
        indexer = Indexer(
            self._plan, policies=self._policies_by_name, django_style=self._style == "django"
        )
        try:
            indexer.feed(data)
            indexer.finish()
        except BackupSyntaxError:
            return None
        pks, keys = indexer.take_prints()
        if indexer.take_findings() or repeated(pks):
            return None
        splicer = Splicer(indexer)
        converted = bytes(splicer.splice(data, 0, indexer.take_log(), 0, 0))
        splicer.finish()
        if splicer.again or splicer.take_findings() or repeated(keys + splicer.take_prints()):
            return None
        return converted

    def _open(self, backup: Backup) -> Source:
        return Source(
            backup,
            self._block_size,
            encoding=self._encoding,
            salvage=self._salvage,
            progress=self._progress,
        )

    def _open_keys(self, backup: Backup) -> Source:
        return Source(backup, self._block_size, salvage=self._salvage)

    @contextlib.contextmanager
    def converted(self, backup: Backup) -> Iterator[Conversion]:
        """What `backup` is in natural keys, to be read any number of times and written nowhere.

        Raises `BackupSyntaxError` and `SourceError`.
        """
        with self._open(backup) as source, self._indexed(source) as conversion:
            yield conversion

    @contextlib.contextmanager
    def _indexed(self, source: Source) -> Iterator[Conversion]:
        dangling = self._dangling(source)
        policies = self._policies if dangling is None else self._lenient(dangling)
        with Conversion(self, source, policies) as conversion:
            lost = [one.as_dict() for one in dangling or () if one.code in _DANGLING]
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
            with Source(unordered.file, self._block_size) as converted:
                before, behind = _one_envelope(converted)
                sink.write(before)
                arrangement = arrange(converted, sink, self._schema)
                sink.write(behind)
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
        strict = dict.fromkeys(_LENIENT, "error")
        policies = msgspec.structs.replace(self._policies, **strict)
        try:
            with Conversion(self, source, policies) as conversion:
                conversion.write(NoSink())
        except FindingsError as error:
            return error.findings
        return []

    def _lenient(self, findings: list[Finding]) -> Policies:
        """The policies, where a lost record may be why a reference leads nowhere: it keeps its id,
        if the policy for it is to refuse the backup and is about nothing else."""
        others = {_CODES[int(one.code[3:])][1] for one in findings if one.code not in _DANGLING}
        kept = {
            name: "keep"
            for name in _LENIENT
            if getattr(self._policies, name) == "error" and name not in others
        }
        return msgspec.structs.replace(self._policies, **kept)


def convert(
    backup: Backup,
    output: Output,
    schema: Schema | str | os.PathLike[str],
    **options: Any,
) -> ConversionReport:
    """Convert one backup; the options are those of `LegacyBackupConverter`."""
    return LegacyBackupConverter(schema, **options).convert_to_natural_keys(backup, output)


def _one_envelope(source: Source) -> tuple[bytes, bytes]:
    """What stands in front of the records and behind them. Raises `BackupSyntaxError` where
    something stands between them."""
    if source.envelope is None:
        return b"", b""
    if source.joint:
        from fastnk.envelope import cannot_be_ordered

        raise cannot_be_ordered(source.name)
    before, behind = source.envelope.around
    return before, behind


class NoSink:
    """Takes an output that nobody wants."""

    def write(self, data: bytes | memoryview) -> None:
        pass

    def restart(self) -> None:
        pass

    def commit(self) -> None:
        pass

    def discard(self) -> None:
        pass


class MemorySink:
    """Collects the output in memory."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes | memoryview) -> None:
        self._parts.append(bytes(data))

    def restart(self) -> None:
        self._parts.clear()

    def commit(self) -> None:
        pass

    def discard(self) -> None:
        self._parts.clear()

    def value(self) -> bytes:
        return b"".join(self._parts)


class Conversion:
    """One backup under conversion, from a `with` statement: pass 1 has been made, and pass 2 can be
    made as often as its output is wanted."""

    def __init__(
        self, converter: LegacyBackupConverter, source: Source, policies: Policies
    ) -> None:
        self._converter = converter
        self._source = source
        self._policies = msgspec.structs.asdict(policies)
        self._drops = "drop" in self._policies.values()
        """Whether a record may be left out, so that what stands before has to be known."""
        self._phase_started = time.perf_counter()
        self._indexer = self._make_indexer(None)
        self._log = SlotLog()
        self._pks = Audit()
        self._keys = Audit()
        self._findings: list[Finding] = []
        self._unmade: dict[tuple[str, str], str] = {}
        self._is_audited = False
        """Whether it is known which keys occur twice."""
        self._is_in_turns = self._drops
        """Whether a record depends on what became of another, so that one thread must do all."""
        self._is_settled = False
        """Whether all passes to come give the output of the last one."""
        self.report = ConversionReport(backup=source.name, output=None, style=converter._style)

    def __enter__(self) -> Self:
        try:
            with self._keeping():
                self._index_all()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def write(self, sink: Sink) -> ConversionReport:
        """Give the output to `sink`, again from the start whenever it turns out to be another.

        Raises `FindingsError`, `SourceError` and `OutputError`.
        """
        envelope = self._source.envelope
        before, *between, behind = envelope.written if envelope else (b"", b"")
        self._phase_started = time.perf_counter()
        with self._keeping():
            while not self._is_settled:
                sink.restart()
                records = self._in_arrays(self._spliced("splice"), between)
                for data in self._counted(itertools.chain([before], records, [behind])):
                    sink.write(data)
        self._end_phase("splice")
        self._refuse_findings()
        return self.report

    def _in_arrays(
        self, blocks: Iterator[bytes | memoryview], between: list[bytes]
    ) -> Iterator[bytes | memoryview]:
        """The records; where they stand in several arrays, with what is between those."""
        if not between:
            yield from blocks
            return
        from fastnk.envelope import Joints

        joints = Joints(self._source.joint, between, self._source.name)
        for data in blocks:
            yield from joints.put(data)
        if not self._findings:
            yield joints.finish()

    def blocks(self, phase: str) -> Iterator[bytes | memoryview]:
        """The records of the output, each time from the start; a block is valid until the next.

        The first time `FindingsError` may come at its end. Raises `SourceError` and `OutputError`.
        """
        if not self._is_settled and (self._findings or self._may_change()):
            self.write(NoSink())
        with self._keeping():
            yield from self._timed(self._counted(self._spliced(phase)))
        if not self._is_settled:  # there are findings, whose places are still to be told
            self.write(NoSink())
        self._refuse_findings()

    def _may_change(self) -> bool:
        """Whether a pass may show that the next one gives another output, or only findings."""
        return set(self._policies.values()) != {"error"}

    def _counted(self, blocks: Iterator[bytes | memoryview]) -> Iterator[bytes | memoryview]:
        written = 0
        for block in blocks:
            written += len(block)
            yield block
        self.report.bytes_written = written

    def _timed(self, blocks: Iterator[bytes | memoryview]) -> Iterator[bytes | memoryview]:
        while True:
            self._phase_started = time.perf_counter()
            block = next(blocks, None)
            self._end_phase("splice")
            if block is None:
                return
            yield block

    def _close(self) -> None:
        self._log.close()
        self._pks.close()
        self._keys.close()

    @contextlib.contextmanager
    def _keeping(self) -> Iterator[None]:
        """Say what it was that could not be kept in temporary files."""
        try:
            yield
        except OSError as error:
            # Sources and sinks have errors of their own.
            raise OutputError(
                f"cannot keep what does not fit into memory in temporary files: {error}",
                remedy="set TMPDIR to a folder on a disk with room",
            ) from error

    def _make_indexer(self, before: Indexer | None, is_piece: bool = False) -> Indexer:
        return Indexer(
            self._converter._plan,
            name=self._source.name,
            policies=self._policies,
            django_style=self._converter._style == "django",
            after=before,
            is_piece=is_piece,
            memory_limit=0 if is_piece else self._converter._memory_limit,
            spill_folder=self._converter._spill_folder,
        )

    def _index_all(self) -> None:
        self._note_damage(self._source)
        self._index(0 if self._drops else self._converter._jobs)
        if repeated := self._pks.repeated():
            self._index_again(repeated)
        self._end_phase("index")
        self._index_keys()
        self._end_phase("keys")
        if self._converter._key_tables:
            self._call_methods()
            self._end_phase("methods")
        self.report.read_as = self._source.notes

    def _end_phase(self, name: str) -> None:
        now = time.perf_counter()
        seconds = self.report.seconds
        seconds[name] = seconds.get(name, 0.0) + now - self._phase_started
        self._phase_started = now

    def _index_again(self, repeated: bytes) -> None:
        """Now that it is known which pks occur twice, their places can be told."""
        self._start_over()
        self._indexer.expect(repeated)
        self._index(0)

    def _start_over(self) -> None:
        self._indexer = self._make_indexer(self._indexer)
        for part in (self._log, self._pks, self._keys):
            part.close()
        self._log, self._pks, self._keys = SlotLog(), Audit(), Audit()
        self._findings.clear()

    def _index(self, jobs: int) -> None:
        """In so many threads, piece by piece; with 0, byte after byte."""
        try:
            if jobs == 0 or not self._index_pieces(jobs):
                self._index_whole()
        except BackupSyntaxError as error:
            if not self._source.recover(error):
                raise self._source.explained(error) from None
            self._start_over()
            self._index(0)
            return
        indexer, report = self._indexer, self.report
        report.records = indexer.records
        report.models = {
            label: ModelCounts(records, with_pk, with_key)
            for label, _, records, with_pk, with_key in indexer.model_counts()
        }
        report.pks_lost = self._lost_pks()

    def _index_whole(self) -> None:
        self.report.bytes_read = 0
        for block in self._source.watched("index", self._converter._progress):
            self.report.bytes_read += len(block)
            self._indexer.feed(block)
            # Not up to `consumed`: a record that is dropped takes the separator in front with it.
            if self._log.is_full(self._indexer.records_end):
                self._close_segment(self._indexer.records_end)
            elif self._indexer.consumed == self.report.bytes_read:
                self._close_segment_in_space(self._indexer.consumed)
        self._indexer.finish()
        self._close_segment(self.report.bytes_read)

    def _close_segment_in_space(self, end: int) -> None:
        """Cut between records where white space goes on, so that it need not be in memory."""
        length = end - self._indexer.records_end
        if not self._drops:
            if length > PIECE_SIZE and self._log.is_full(end):
                self._close_segment(end)
        elif length > DEFAULT_MAX_RECORD:
            raise BackupSyntaxError(
                f"more than {DEFAULT_MAX_RECORD:,} bytes of white space between two records",
                code="FNK208",
                place=Place(self._source.name, self._indexer.records_end, self._indexer.records),
                remedy="that is too much where a policy is drop; any other word will do",
            )

    def _index_pieces(self, jobs: int) -> bool:
        """Index piece by piece, in several threads. Where the backup does not lend itself to that,
        or anything is wrong with it, nothing has happened; it is False."""
        size = self._source.size
        cutter = None if size is None else Cutter(self._source, size)
        pieces = cutter and cutter.pieces()
        if not (size and cutter and pieces):
            return False
        progress = self._converter._progress
        lanes = [
            IndexLane(
                self._source,
                size,
                self._make_indexer(self._indexer, is_piece=True),
                cutter.is_array,
            )
            for _ in lanes_for(jobs)
        ]
        for done in in_order(lanes, pieces, jobs):
            indexer = lanes[done.number].indexer
            if not (done.result and self._indexer.adopt(indexer)):
                self._start_over()
                return False
            self._end_piece(indexer, done.task)
            if progress is not None:
                progress("index", done.task.end, size)
        if cutter.gave_up or not self._indexer.settle():
            self._start_over()
            return False
        self._indexer.finish()
        self.report.bytes_read = size
        return True

    def _end_piece(self, indexer: Indexer, piece: Piece) -> None:
        self._take(indexer)
        self._indexer.cut_log()
        self._close_segment(piece.end)

    def _close_segment(self, end: int) -> None:
        self._take(self._indexer)
        self._log.close_segment(end, self._indexer.log_end, self._indexer.logged_record)

    def _lost_pks(self) -> list[str]:
        """Models met whose pk is no mere number, where Django's natural dump leaves it out."""
        if self._converter._style != "django":
            return []
        models = self._converter._schema.models
        return [
            label
            for label, counts in self.report.models.items()
            if counts.with_pk and (model := models.get(label)) and model.pk_says_something
        ]

    def _take(self, indexer: Indexer) -> None:
        """Move what an indexer has found since the last time out of the core."""
        self._log.append(indexer.take_log())
        pks, keys = indexer.take_prints()
        self._pks.add(pks)
        self._keys.add(keys)
        self._find(indexer.take_findings())

    def _note_damage(self, source: Source) -> None:
        """What `salvage` leaves out."""
        damage = source.damage
        if damage is None:
            return
        report = self.report
        before = f"{report.salvaged}; of {source.name or 'the keys'} " if report.salvaged else ""
        report.salvaged = before + damage.summary()
        report.losses = report.losses + damage.losses()
        report.places_lost += damage.loss_count
        report.bytes_lost += damage.lost_bytes
        report.records_lost += damage.lost_records
        report.complete = False

    def _index_keys(self) -> None:
        for number, backup in enumerate(self._converter._keys, start=1):
            with self._converter._open_keys(backup) as source:
                name = source.name = source.name or f"keys {number}"
                self._note_damage(source)
                self._indexer.start_keys(name)
                try:
                    self._feed_keys(source)
                except BackupSyntaxError as error:
                    if not source.recover(error):
                        raise source.explained(error) from None
                    # Records that are met again only say again what they said.
                    self._indexer.start_keys(name)
                    self._feed_keys(source)
                self._find(self._indexer.take_findings(), name, source)

    def _feed_keys(self, source: Source) -> None:
        for block in source.watched("keys", self._converter._progress):
            self._indexer.feed(block)
        self._indexer.finish()

    def _call_methods(self) -> None:
        """Have the project's methods make the keys that no fields can tell."""
        tables = self._converter._key_tables
        if not self._converter._keys and not any(
            label in self.report.models for label, _ in tables
        ):
            return
        from fastnk.django.calling import called_keys

        self._indexer.start_keys("natural keys from methods")
        with contextlib.ExitStack() as stack:
            backups = [self._source]
            for keys in self._converter._keys:
                backups.append(stack.enter_context(self._converter._open_keys(keys)))
            for made in called_keys(self._converter._schema, backups):
                table = tables.get((made.label, made.method))
                if table is None:
                    continue
                if made.key is None:
                    self._unmade[made.label, _plain_id(made.pk)] = made.reason or ""
                    continue
                record = f'{{"model": "{table}", "pk": {made.pk}, "fields": {{"key": {made.key}}}}}'
                self._indexer.feed(record.encode())
                self.report.keys_called += 1
        if self.report.keys_called:
            self._indexer.finish()

    def _spliced(self, phase: str) -> Iterator[bytes | memoryview]:
        """One pass over the backup; behind it is known whether it was the last that was needed."""
        progress = self._converter._progress
        jobs = 1 if self._is_in_turns or len(self._log) == 1 else self._converter._jobs
        lanes = [SpliceLane(self._source, self._indexer) for _ in lanes_for(jobs)]
        for done in in_order(lanes, loaded(self._source, self._log), jobs):
            if not self._findings:
                yield done.result
            prints = lanes[done.number].splicer.take_prints()
            if not self._is_audited:
                self._keys.add(prints)
            if progress is not None:
                progress(phase, done.task.end, self.report.bytes_read)
        if not self._is_settled:
            self._settle([lane.splicer for lane in lanes])

    def _settle(self, splicers: list[Splicer]) -> None:
        """Whether another pass is needed: when a record is dropped or a model keeps its pks,
        because what was written before may refer to it, and when keys turn out to occur twice."""
        for splicer in splicers:
            splicer.finish()
        again = any(splicer.again for splicer in splicers)
        if not self._is_audited and (repeated := self._keys.repeated()):
            self._indexer.expect(repeated)
            again = True
        self._is_audited = True
        self._is_in_turns |= again
        if not again:
            self._is_settled = True
            self._keys.close()
            self._report_on(splicers)

    def _report_on(self, splicers: list[Splicer]) -> None:
        self._count_policies(self._indexer.policy_counts())
        report = self.report
        for splicer in splicers:
            self._find(splicer.take_findings())
            self._count_policies(splicer.policy_counts())
            report.keys_written += splicer.keys_written
            report.references_written += splicer.references_written
            report.key_map_spilled_seconds += splicer.spilled_nanoseconds / 1e9
        report.key_map_bytes = self._indexer.key_map_bytes
        report.key_map_spilled_bytes = self._indexer.spilled_bytes
        report.records_dropped = self._indexer.dropped_records
        report.models_keeping_pks = self._indexer.models_with_pks()
        if report.records_dropped or report.models_keeping_pks:
            report.complete = False

    def _find(
        self, found: list[CoreFinding], name: str | None = None, keys: Source | None = None
    ) -> None:
        """Take findings in. Those of the backup itself get their places when all are known."""
        offsets = [offset for _, offset, *_ in found]
        places = keys.places(offsets) if keys else [(None, offset) for offset in offsets]
        for (path, at), (code, _, record, model, field, pk, value) in zip(
            places, found, strict=True
        ):
            place = Place(path or name, at, record, model, pk, field)
            if code == 307 and pk is not None:
                value = self._unmade.get((model, pk), value)
            self._findings.append(Finding(f"FNK{code}", _CODES[code][0], place, value))

    def _place_findings(self) -> None:
        """Lead the places of findings in the backup back to its files, all in one go."""
        own = [i for i, one in enumerate(self._findings) if one.place.path is None]
        offsets = [self._findings[i].place.offset or 0 for i in own]
        for i, (path, at) in zip(own, self._source.places(offsets), strict=True):
            one = self._findings[i]
            self._findings[i] = one._replace(place=one.place._replace(path=path, offset=at))

    def _count_policies(self, counts: dict[int, int]) -> None:
        null_keys_are_written = self._policies["on_null_key"] == "null"
        applied = self.report.policies_applied
        for code, count in counts.items():
            applied[f"FNK{code}"] = applied.get(f"FNK{code}", 0) + count
            if code != 306 and not (code == 305 and null_keys_are_written):
                self.report.complete = False

    def _refuse_findings(self) -> None:
        if not self._findings:
            return
        self._place_findings()
        self._findings.sort(key=lambda one: (one.place.path or "", one.place.offset or 0))
        raise FindingsError(self._findings, total=len(self._findings), remedy=self._remedy())

    def _remedy(self) -> str:
        codes = {int(finding.code[3:]) for finding in self._findings}
        options = sorted({"--" + _CODES[code][1].replace("_", "-") for code in codes})
        remedy = f"allow them with {', '.join(options)}"
        if 302 in codes and not any(known for _, known, *_ in self._indexer.model_counts()):
            return "give the schema of this system: it knows none of the models in this backup"
        if 301 in codes:
            return f"name backups that hold the missing records with --keys, or {remedy}"
        return remedy


def _temporary_folder() -> bytes:
    import tempfile

    return os.fsencode(tempfile.gettempdir())


def _plain_id(pk: str) -> str:
    """A pk as findings show it: of a string its content, else the JSON text."""
    return str(msgspec.json.decode(pk)) if pk.startswith('"') else pk


CoreFinding = tuple[int, int, int, str, str | None, str | None, str | None]
