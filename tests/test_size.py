"""Backups of many gigabytes, records of one, a million models: made as they are read, stored
nowhere.

`FASTNK_VAST=1` runs what takes minutes: the same with 100 GB.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

import fastnk
from fastnk import Policies, lanes
from fastnk._core import DEFAULT_MAX_RECORD, Indexer, Splitter
from fastnk.check import check
from fastnk.convert import LegacyBackupConverter
from fastnk.detect import BackupFormatDetector
from fastnk.errors import BackupSyntaxError, FindingsError
from fastnk.infer import infer
from fastnk.lanes import Cutter
from fastnk.planning import Plans
from fastnk.records import RecordReader
from fastnk.schema import Model, Schema
from fastnk.source import Source, split_records

SCHEMA = Schema.loads(
    b"""{"version": 1, "models": {"zoo.keeper": {
        "natural_key": ["name"], "relations": {"mentor": {"to": "zoo.keeper"}}}}}"""
)
VAST = bool(os.environ.get("FASTNK_VAST"))
GAP = 100 * 10**9 if VAST else (1 << 32) + 12_345


def keeper(pk: int, mentor: int | None = None) -> bytes:
    fields = {"name": f"n{pk}", "mentor": mentor}
    return json.dumps({"model": "zoo.keeper", "pk": pk, "fields": fields}).encode()


class Vast(io.RawIOBase):
    """A file of texts and of gaps, as so many bytes of white space."""

    def __init__(self, *parts: bytes | int) -> None:
        self._parts = parts
        self._position = 0
        self._blank = b" " * (1 << 17)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset + (0, self._position, len(self))[whence]
        return self._position

    def __len__(self) -> int:
        return sum(part if isinstance(part, int) else len(part) for part in self._parts)

    def readinto(self, buffer: Any) -> int:
        at = self._position
        for part in self._parts:
            length = part if isinstance(part, int) else len(part)
            if at < length:
                most = min(length - at, len(buffer), len(self._blank))
                text = self._blank[:most] if isinstance(part, int) else part[at : at + most]
                buffer[: len(text)] = text
                self._position += len(text)
                return len(text)
            at -= length
        return 0


class Ends:
    """Takes an output and keeps its length, and both ends of it."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self.length = 0
        self.head = self.tail = b""

    def write(self, data: bytes | memoryview) -> None:
        self.length += len(data)
        if len(self.head) < 1000:
            self.head += bytes(data[:1000])
        self.tail = (self.tail + bytes(data[-1000:]))[-1000:]

    def commit(self) -> None:
        pass

    def discard(self) -> None:
        pass


BEFORE, BEHIND = b"[" + keeper(1) + b",", keeper(2, 1) + b"," + keeper(3, 77) + b"]"


def test_slots_beyond_4_gib() -> None:
    converter = LegacyBackupConverter(SCHEMA, policies=Policies(on_unresolved="keep"))
    out = Ends()
    with Source(Vast(BEFORE, GAP, BEHIND)) as source:
        report = converter._convert(source, out)
    first = b'[{"model": "zoo.keeper", "natural_key": ["n1"], "fields": %s,'
    first %= b'{"name": "n1", "mentor": null}}'
    assert out.head.startswith(first + b" ")
    before, last = out.tail.split(b"  ", 1)[0], out.tail.rsplit(b"  ", 1)[1]
    assert not before
    assert [one["fields"]["mentor"] for one in json.loads(b"[" + last)] == [["n1"], 77]
    assert out.length == report.bytes_written == len(first) + GAP + len(last)


def test_findings_beyond_4_gib() -> None:
    indexer = Indexer(Plans(SCHEMA).full.plan)
    start = (1 << 32) + 5
    blank = b" " * (1 << 22)
    indexer.feed(BEFORE)
    for _ in range(start >> 22):
        indexer.feed(blank)
    indexer.feed(BEHIND.replace(b'"mentor": 77', b'"mentor": 77, "mentor": 78'))
    indexer.finish()
    (finding,) = indexer.take_findings()
    assert finding[0] == 306
    assert finding[1] == len(BEFORE) + (start >> 22 << 22) + BEHIND.index(keeper(3, 77))


def test_salvage_of_a_file_with_a_hole_beyond_4_gib(tmp_path: Path) -> None:
    """As a system leaves one where it crashed: nothing but NULs, which take no room."""
    backup = tmp_path / "backup.json"
    with backup.open("wb") as file:
        file.write(BEFORE)
        file.seek(GAP if VAST else 3 << 28, os.SEEK_CUR)
        file.write(BEHIND)
        length = file.tell()
    with Source(backup, salvage=True) as source:
        (loss,) = source.damage.losses()  # type: ignore[union-attr]
        assert (loss.start, loss.end) == (len(BEFORE), length - len(BEHIND))
        records = list(split_records(source))
    assert records == [keeper(1), keeper(2, 1), keeper(3, 77)]


def test_backup_in_which_no_cut_is_found_is_not_read_at_once() -> None:
    """Its records begin in two ways, so that where one begins cannot be guessed."""
    odd = b'{"pk": %d, "model": "zoo.keeper", "fields": {"name": "n%d", "mentor": null}}'
    records = (odd % (pk, pk) for pk in range(10, 250_000))
    data = BEFORE + b",".join([*records, keeper(2, 1)]) + b"]"
    with Source(data) as source:
        cutter = Cutter(source, len(data))
        assert list(cutter.pieces() or ()) == []
        assert cutter.gave_up
    one, two = (LegacyBackupConverter(SCHEMA, jobs=jobs).convert_bytes(data) for jobs in (1, 2))
    assert one == two
    assert one.endswith(b'"mentor": ["n1"]}}]')


@pytest.mark.skipif(not VAST, reason="takes minutes")
def test_findings_of_100_gb() -> None:
    with pytest.raises(FindingsError) as caught, Source(Vast(BEFORE, GAP, BEHIND)) as source:
        LegacyBackupConverter(SCHEMA)._convert(source, Ends())
    (finding,) = caught.value.findings
    assert finding.place.offset == len(BEFORE) + GAP + BEHIND.index(b"77")
    assert finding.place.record == 3


@pytest.mark.skipif(not VAST, reason="takes gigabytes of memory")
@pytest.mark.parametrize("size", [1000 << 20, 1100 << 20])
def test_record_of_a_gigabyte(size: int) -> None:
    backup = Vast(BEFORE, keeper(2)[:-2], size, b"}},", keeper(3, 1), b"]")
    out = Ends()
    converter = LegacyBackupConverter(SCHEMA)
    with Source(backup) as source:
        if size < DEFAULT_MAX_RECORD:
            assert converter._convert(source, out).records == 3
            return
        with pytest.raises(BackupSyntaxError, match=r"FNK208 .* 1,073,741,824 bytes"):
            converter._convert(source, out)


def test_record_that_is_larger_than_the_limit_is_refused_with_the_limit() -> None:
    splitter = Splitter(max_record=1000)
    with pytest.raises(BackupSyntaxError, match=r"FNK208 .* 1,000 bytes"):
        splitter.feed(b'[{"model": "a.b", "fields": {"x": "' + b"y" * 2000)


def test_record_that_is_larger_than_the_limit_is_refused_by_detection() -> None:
    reader = RecordReader("b.json", max_record=1000)
    record = b'{"model": "a.b", "pk": 1, "fields": {"x": "%s"}}' % (b"y" * 900)
    chunks = [
        b"[" + record + b",",
        *[b" " * 200] * 20,
        record,
        b',{"model": "a.b", "fields": {"x": "',
    ]
    with pytest.raises(BackupSyntaxError, match=r"FNK208 .* 1,000 bytes") as caught:
        list(reader.records([*chunks, *[b"z" * 500] * 100_000]))
    assert reader.count == 2
    assert caught.value.offset == len(b"".join(chunks[:-1]) + b",")


def test_white_space_between_records_is_passed_by_detection_at_once() -> None:
    """Gigabytes of it: what is parsed of that takes minutes."""
    gap = GAP if VAST else GAP >> 6
    detector = BackupFormatDetector(full=True)
    report = detector.detect_format(Vast(BEFORE, gap, BEHIND))
    assert (report.records, report.complete) == (3, True)
    wrong = BEHIND.replace(b"77", b"x")
    with pytest.raises(BackupSyntaxError, match="FNK200") as caught:
        detector.detect_format(Vast(BEFORE, gap, wrong))
    assert caught.value.offset == len(BEFORE) + gap + wrong.index(b"x")


def many_models(count: int) -> Iterator[bytes]:
    yield b"["
    for number in range(count):
        comma = b"," if number else b""
        yield b'%s{"model": "app.m%d", "pk": 1, "fields": {}}' % (comma, number)
    yield b"]"


def many_fields(count: int, per_record: int) -> Iterator[bytes]:
    for start in range(0, count, per_record):
        fields = {f"f{number}": 1 for number in range(start, start + per_record)}
        yield json.dumps({"model": "app.m", "pk": start, "fields": fields}).encode() + b"\n"


@pytest.mark.parametrize("per_record", [25_500, 127_500])
def test_very_many_fields_are_refused(per_record: int) -> None:
    backup = b"".join(many_fields(127_500, per_record))
    refused = pytest.raises(BackupSyntaxError, match="FNK209 more than 100,000 different fields")
    with refused:
        fastnk.detect(backup, full=True)
    with refused:
        infer(backup)
    assert fastnk.detect(backup, SCHEMA, full=True).models["app.m"].records


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("size") / "models.json"
    path.write_bytes(b"".join(many_models(1_000_000 if VAST else 20_000)))
    return path


@pytest.mark.parametrize(
    "verb",
    [
        lambda backup, out: fastnk.detect(backup, full=True),
        lambda backup, out: fastnk.detect(backup, SCHEMA, full=True),
        lambda backup, out: infer(backup),
        lambda backup, out: check(SCHEMA, backup),
        lambda backup, out: fastnk.convert(
            backup, out, SCHEMA, policies=Policies(on_unknown_model="keep")
        ),
        lambda backup, out: fastnk.convert(backup, out, SCHEMA, salvage=True),
        lambda backup, out: fastnk.verify(backup, backup, SCHEMA),
    ],
    ids=["detect", "detect by a schema", "infer", "check", "convert", "salvage", "verify"],
)
def test_a_million_models_are_refused(models: Path, verb: Any, tmp_path: Path) -> None:
    with pytest.raises(BackupSyntaxError, match=r"FNK209 more than 10,000 different models"):
        verb(models, tmp_path / "out.json")
    assert not (tmp_path / "out.json").exists()


def alone(pks: Iterable[int]) -> bytes:
    """Records of a model that nothing refers to, of one length."""
    return b"".join(b'{"model": "zoo.visit", "pk": %7d, "fields": {}}\n' % pk for pk in pks)


def duplicates(backup: Path, jobs: int) -> list[tuple[str, int | None]]:
    schema = Schema.of({"zoo.visit": Model()})
    with pytest.raises(FindingsError) as refused:
        fastnk.convert(backup, backup.with_suffix(".out"), schema, jobs=jobs)
    return [(one.code, one.place.record) for one in refused.value.findings]


@pytest.mark.parametrize("jobs", [1, 2])
def test_pks_with_gaps_everywhere_do_not_stay_in_memory(jobs: int, tmp_path: Path) -> None:
    pks = range(1_000_000, 1_600_000, 3)
    backup = tmp_path / "gaps.jsonl"
    backup.write_bytes(alone(pks))
    schema = Schema.of({"zoo.visit": Model()})
    report = fastnk.convert(backup, tmp_path / "out.jsonl", schema, jobs=jobs)
    assert report.key_map_bytes <= 1 << 20
    # One of those that are kept, and two of the others; what lies between is no duplicate.
    again = [pks[10], pks[-1] + 1, pks[-10], pks[-1]]
    backup.write_bytes(alone([*pks, *again]))
    numbers = [len(pks) + 1, len(pks) + 3, len(pks) + 4]
    assert duplicates(backup, jobs) == [("FNK303", number) for number in numbers]


def test_pk_behind_gaps_everywhere_in_one_piece_is_found_in_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = [*range(5_000_000, 5_080_000)]
    gaps = [*range(1_000_000, 1_200_000, 2)]
    gaps[75_000] = 9_000_000
    backup = tmp_path / "gaps.jsonl"
    backup.write_bytes(alone([*first, *gaps, 9_000_000]))
    monkeypatch.setattr(lanes, "PIECE_SIZE", len(alone(first)))
    assert duplicates(backup, 2) == [("FNK303", 180_001)]
