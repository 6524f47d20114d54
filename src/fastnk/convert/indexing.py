"""Pass 1: every byte is checked, and it is noted what will change."""

from __future__ import annotations

import contextlib

import msgspec

from fastnk._core import DEFAULT_MAX_RECORD, Indexer, Splicer
from fastnk.audit import Audit
from fastnk.convert.policies import Findings
from fastnk.convert.report import Clock, ConversionReport, ModelCounts
from fastnk.convert.settings import Settings
from fastnk.errors import BackupSyntaxError, FindingList, Place
from fastnk.lanes import PIECE_SIZE, Cutter, IndexLane, Piece, SlotLog, in_order, lanes_for
from fastnk.source import Source


class Indexing:
    """Pass 1 over a backup, then over those that supply keys."""

    def __init__(
        self, settings: Settings, source: Source, findings: Findings, report: ConversionReport
    ) -> None:
        self._settings = settings
        self._source = source
        self._findings = findings
        self._report = report
        self.drops = "drop" in findings.policies.values()
        """Whether a record may be left out, so that what stands before has to be known."""
        self._planned = settings.plans.lean
        self.indexer = self._make_indexer(None)
        self.log = SlotLog()
        self.keys = Audit()
        self._pks = Audit()

    def close(self) -> None:
        for part in (self.log, self.keys, self._pks):
            part.close()

    def run(self, clock: Clock) -> None:
        self._report.note_damage(self._source)
        self._index_all(clock)
        if Splicer(self.indexer).lacks_rows():
            self._planned = self._settings.plans.full
            self._start_over()
            self._index_all(clock)
        if self._planned.key_tables:
            self._call_methods()
            clock.end("methods")
        self._report.read_as = self._source.notes

    def _index_all(self, clock: Clock) -> None:
        self._index(0 if self.drops else self._settings.jobs)
        if repeated := self._pks.repeated():
            self._index_again(repeated)
        clock.end("index")
        self._index_keys()
        clock.end("keys")

    def _make_indexer(self, before: Indexer | None, is_piece: bool = False) -> Indexer:
        return Indexer(
            self._planned.plan,
            name=self._source.name,
            policies=self._findings.policies,
            django_style=self._settings.style == "django",
            after=before,
            is_piece=is_piece,
            memory_limit=0 if is_piece else self._settings.memory_limit,
            spill_folder=self._settings.spill_folder,
        )

    def _start_over(self) -> None:
        self.indexer = self._make_indexer(self.indexer)
        for part in (self.log, self._pks, self.keys):
            part.close()
        self.log, self._pks, self.keys = SlotLog(), Audit(), Audit()
        self._findings.found = FindingList()

    def _index_again(self, repeated: bytes) -> None:
        """Now that it is known which pks occur twice, their places can be told."""
        self._start_over()
        self.indexer.expect(repeated)
        self._index(0)
        if self._findings.policies["on_duplicate_pk"] == "drop":
            earlier = self.indexer.take_superseded()
            self._start_over()
            self.indexer.supersede(earlier)
            self._index(0)

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
        indexer, report = self.indexer, self._report
        report.records = indexer.records
        report.models = {
            label: ModelCounts(records, with_pk, with_key)
            for label, _, records, with_pk, with_key in indexer.model_counts()
        }
        report.pks_lost = self._lost_pks()
        report.ids_left = [] if self._settings.embedded else self._ids_inside()

    def _index_whole(self) -> None:
        self._report.bytes_read = 0
        for block in self._source.watched("index", self._settings.progress):
            self._report.bytes_read += len(block)
            self.indexer.feed(block)
            # Not up to `consumed`: a record that is dropped takes the separator in front with it.
            if self.log.is_full(self.indexer.records_end):
                self._close_segment(self.indexer.records_end)
            elif self.indexer.consumed == self._report.bytes_read:
                self._close_segment_in_space(self.indexer.consumed)
        self.indexer.finish()
        self._close_segment(self._report.bytes_read)

    def _close_segment_in_space(self, end: int) -> None:
        """Cut between records where white space goes on, so that it need not be in memory."""
        length = end - self.indexer.records_end
        if not self.drops:
            if length > PIECE_SIZE and self.log.is_full(end):
                self._close_segment(end)
        elif length > DEFAULT_MAX_RECORD:
            raise BackupSyntaxError(
                f"more than {DEFAULT_MAX_RECORD:,} bytes of white space between two records",
                code="FNK208",
                place=Place(self._source.name, self.indexer.records_end, self.indexer.records),
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
        progress = self._settings.progress
        lanes = [
            IndexLane(
                self._source,
                size,
                self._make_indexer(self.indexer, is_piece=True),
                cutter.is_array,
            )
            for _ in lanes_for(jobs)
        ]
        for done in in_order(lanes, pieces, jobs):
            indexer = lanes[done.number].indexer
            if not (done.result and self.indexer.adopt(indexer)):
                self._start_over()
                return False
            self._end_piece(indexer, done.task)
            if progress is not None:
                progress("index", done.task.end, size)
        if cutter.gave_up or not self.indexer.settle():
            self._start_over()
            return False
        self.indexer.finish()
        self._report.bytes_read = size
        return True

    def _end_piece(self, indexer: Indexer, piece: Piece) -> None:
        self._take(indexer)
        self.indexer.cut_log()
        self._close_segment(piece.end)

    def _close_segment(self, end: int) -> None:
        self._take(self.indexer)
        self.log.close_segment(end, self.indexer.log_end, self.indexer.logged_record)

    def _lost_pks(self) -> list[str]:
        """Models met whose pk is no mere number, where Django's natural dump leaves it out."""
        if self._settings.style != "django":
            return []
        models = self._settings.schema.models
        return [
            label
            for label, counts in self._report.models.items()
            if counts.with_pk and (model := models.get(label)) and model.pk_says_something
        ]

    def _ids_inside(self) -> list[str]:
        """Fields of models met that may hold ids of records whose pks become natural keys."""
        met, models = self._report.models, self._settings.schema.models
        known = {label: models[label] for label in met if label in models}
        become_keys = {
            label for label, model in known.items() if model.has_natural_key and met[label].with_pk
        }
        return [
            f"{label}.{path}"
            for label, model in known.items()
            for path, embedded in model.embedded.items()
            if embedded.to in become_keys
        ]

    def _take(self, indexer: Indexer) -> None:
        """Move what an indexer has found since the last time out of the core."""
        self.log.append(indexer.take_log())
        pks, keys = indexer.take_prints()
        self._pks.add(pks)
        self.keys.add(keys)
        self._findings.take(indexer.take_findings(), self._findings.found)

    def _index_keys(self) -> None:
        for number, backup in enumerate(self._settings.keys, start=1):
            with self._settings.open_keys(backup) as source:
                name = source.name = source.name or f"keys {number}"
                if self._planned is self._settings.plans.lean:  # else it has been noted
                    self._report.note_damage(source)
                self.indexer.start_keys(name)
                try:
                    self._feed_keys(source)
                except BackupSyntaxError as error:
                    if not source.recover(error):
                        raise source.explained(error) from None
                    # Records that are met again only say again what they said.
                    self.indexer.start_keys(name)
                    self._feed_keys(source)
                found = self.indexer.take_findings()
                self._findings.take(found, self._findings.found, name, source)

    def _feed_keys(self, source: Source) -> None:
        for block in source.watched("keys", self._settings.progress):
            self.indexer.feed(block)
        self.indexer.finish()

    def _call_methods(self) -> None:
        """Have the project's methods make the keys that no fields can tell."""
        tables = self._planned.key_tables
        if not self._settings.keys and not any(label in self._report.models for label, _ in tables):
            return
        from fastnk.django.calling import called_keys

        self.indexer.start_keys("natural keys from methods")
        with contextlib.ExitStack() as stack:
            backups = [self._source]
            for keys in self._settings.keys:
                backups.append(stack.enter_context(self._settings.open_keys(keys)))
            for made in called_keys(self._settings.schema, backups):
                table = tables.get((made.label, made.method))
                if table is None:
                    continue
                if made.key is None:
                    self._findings.unmade[made.label, _plain_id(made.pk)] = made.reason or ""
                    continue
                record = f'{{"model": "{table}", "pk": {made.pk}, "fields": {{"key": {made.key}}}}}'
                self.indexer.feed(record.encode())
                self._report.keys_called += 1
        if self._report.keys_called:
            self.indexer.finish()


def _plain_id(pk: str) -> str:
    """A pk as findings show it: of a string its content, else the JSON text."""
    return str(msgspec.json.decode(pk)) if pk.startswith('"') else pk
