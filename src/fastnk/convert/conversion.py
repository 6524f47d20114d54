"""One backup under conversion: pass 1 is made once, pass 2 as often as its output is wanted."""

from __future__ import annotations

import contextlib
import itertools
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from typing import Self

from fastnk._core import Splicer
from fastnk.convert.indexing import Indexing
from fastnk.convert.policies import Findings
from fastnk.convert.report import Clock, ConversionReport
from fastnk.convert.settings import Settings
from fastnk.errors import FindingList, OutputError
from fastnk.lanes import SpliceLane, in_order, lanes_for, loaded
from fastnk.output import NoSink, Sink
from fastnk.policies import Policies
from fastnk.source import Source


class Conversion:
    """One backup under conversion, from a `with` statement: pass 1 has been made, and pass 2 can be
    made as often as its output is wanted."""

    def __init__(self, settings: Settings, source: Source, policies: Policies) -> None:
        self._settings = settings
        self._source = source
        self.report = ConversionReport(backup=source.name, output=None, style=settings.style)
        self._clock = Clock(self.report.seconds)
        self._findings = Findings(source, policies, self.report)
        self._pass1 = Indexing(settings, source, self._findings, self.report)
        self._is_audited = False
        """Whether it is known which keys occur twice."""
        self._is_in_turns = self._pass1.drops
        """Whether a record depends on what became of another, so that one thread must do all."""
        self._leaves_out = False
        """Whether the last pass found records to leave out, so that another was needed."""
        self._is_settled = False
        """Whether all passes to come give the output of the last one."""
        self._dropped = array("Q")
        """The numbers of the records that are left out, ascending."""

    def __enter__(self) -> Self:
        try:
            with _keeping():
                self._pass1.run(self._clock)
        except BaseException:
            self._pass1.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._pass1.close()

    def write(self, sink: Sink) -> ConversionReport:
        """Give the output to `sink`, again from the start whenever it turns out to be another.

        Raises `FindingsError`, `SourceError` and `OutputError`.
        """
        envelope = self._source.envelope
        before, *between, behind = envelope.written if envelope else (b"", b"")
        self._clock.start()
        with _keeping():
            while not self._is_settled:
                sink.restart()
                spliced = self._spliced("splice", self._source.joint)
                records = self._in_arrays(spliced, between)
                for data in self._counted(itertools.chain([before], records, [behind])):
                    self._clock.end("splice")
                    sink.write(data)
                    self._clock.end("write")
        self._clock.end("splice")
        self._findings.refuse(self._pass1.indexer)
        return self.report

    def _in_arrays(
        self, blocks: Iterator[bytes | memoryview], between: list[bytes]
    ) -> Iterator[bytes | memoryview]:
        """The records; where they stand in several arrays, with what is between those."""
        if not between:
            yield from blocks
            return
        from fastnk.source.envelope import Joints

        joints = Joints(self._source.joint, between)
        for data in blocks:
            yield from joints.put(data)
        if not self._findings.found:
            yield joints.finish()

    def blocks(self, phase: str, jobs: int | None = None) -> Iterator[bytes | memoryview]:
        """The records of the output, each time from the start; a block is valid until the next.

        `jobs` is how many threads work at once, instead of what the converter was given.
        The first time `FindingsError` may come at its end. Raises `SourceError` and `OutputError`.
        """
        if not self._is_settled and (self._findings.found or self._may_change()):
            self.write(NoSink())
        with _keeping():
            yield from self._timed(self._counted(self._spliced(phase, jobs=jobs)))
        if not self._is_settled:  # there are findings, whose places are still to be told
            self.write(NoSink())
        self._findings.refuse(self._pass1.indexer)

    def number_in_backup(self, number: int) -> int:
        """The number of the record in the backup that has this one in the output."""
        dropped = self._dropped
        written_before = range(len(dropped))
        return number + bisect_right(
            written_before, number - 1, key=lambda at: dropped[at] - at - 1
        )

    def _may_change(self) -> bool:
        """Whether a pass may show that the next one gives another output, or only findings."""
        return set(self._findings.policies.values()) != {"error"}

    def _counted(self, blocks: Iterator[bytes | memoryview]) -> Iterator[bytes | memoryview]:
        written = 0
        for block in blocks:
            written += len(block)
            yield block
        self.report.bytes_written = written

    def _timed(self, blocks: Iterator[bytes | memoryview]) -> Iterator[bytes | memoryview]:
        while True:
            self._clock.start()
            block = next(blocks, None)
            self._clock.end("splice")
            if block is None:
                return
            yield block

    def _spliced(
        self, phase: str, joint: bytes = b"", jobs: int | None = None
    ) -> Iterator[bytes | memoryview]:
        """One pass over the backup; behind it is known whether it was the last that was needed.
        Each `joint` stays, also where all records of an array are left out."""
        progress = self._settings.progress
        is_alone = self._is_in_turns or len(self._pass1.log) == 1
        jobs = 1 if is_alone else jobs or self._settings.jobs
        lanes = [SpliceLane(self._source, self._pass1.indexer, joint) for _ in lanes_for(jobs)]
        found = FindingList()
        for done in in_order(lanes, loaded(self._source, self._pass1.log), jobs):
            if not self._findings.found:
                yield done.result
            splicer = lanes[done.number].splicer
            self._findings.take(splicer.take_findings(), found)
            prints = splicer.take_prints()
            if not self._is_audited:
                self._pass1.keys.add(prints)
            if progress is not None:
                progress(phase, done.task.end, self.report.bytes_read)
        if not self._is_settled:
            self._settle([lane.splicer for lane in lanes], found)

    def _settle(self, splicers: list[Splicer], found: FindingList) -> None:
        """Whether another pass is needed: when a record is dropped or a model keeps its pks,
        because what was written before may refer to it, and when keys turn out to occur twice.
        First it is found which models keep their pks, then what is dropped."""
        for splicer in splicers:
            splicer.finish()
        again = any(splicer.again for splicer in splicers)
        keeps_more = any(splicer.keeps_more for splicer in splicers)
        if not self._is_audited and (repeated := self._pass1.keys.repeated()):
            self._pass1.indexer.expect(repeated)
            again = keeps_more = True
        if not keeps_more:
            # Where references lead back, as most do, one pass finds all that are left out.
            self._pass1.indexer.traces_needs = again and self._leaves_out
            self._leaves_out = again
            self._pass1.indexer.drops_wait = False
        self._is_audited = True
        self._is_in_turns |= again
        if not again:
            self._is_settled = True
            self._pass1.keys.close()
            self._findings.found.extend(found)
            self._report_on(splicers)

    def _report_on(self, splicers: list[Splicer]) -> None:
        self._findings.count_allowed(self._pass1.indexer.policy_counts())
        report = self.report
        for splicer in splicers:
            self._findings.count_allowed(splicer.policy_counts())
            report.keys_written += splicer.keys_written
            report.references_written += splicer.references_written
            report.generic_kept += splicer.generic_kept
            report.key_map_spilled_seconds += splicer.spilled_nanoseconds / 1e9
        report.key_map_bytes = self._pass1.indexer.key_map_bytes
        report.key_map_spilled_bytes = self._pass1.indexer.spilled_bytes
        self._dropped = array("Q", self._pass1.indexer.dropped_records)
        report.records_dropped = len(self._dropped)
        report.models_keeping_pks = self._pass1.indexer.models_with_pks()
        if report.records_dropped or report.models_keeping_pks:
            report.complete = False


@contextlib.contextmanager
def _keeping() -> Iterator[None]:
    """Say what it was that could not be kept in temporary files."""
    try:
        yield
    except OSError as error:
        # Sources and sinks have errors of their own.
        raise OutputError(
            f"cannot keep what does not fit into memory in temporary files: {error}",
            remedy="set TMPDIR to a folder on a disk with room",
        ) from error
