"""The inner functions, timed: `pytest --benchmark-enable`; without it they run once, as tests."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks import edms, generate, passes, small
from fastnk import _core
from fastnk._core import Plan, Walker
from fastnk.convert import LegacyBackupConverter
from fastnk.schema import Schema
from fastnk.source import BLOCK_SIZE

DOCUMENTS = 24
"""A megabyte of backup: it stays in the cache, as the blocks of a conversion do."""

every_layout = pytest.mark.parametrize("layout", generate.LAYOUTS)


@pytest.fixture(scope="module")
def schema() -> Schema:
    return Schema.loads(json.dumps(edms.SCHEMA).encode())


@pytest.fixture(scope="module")
def plan(schema: Schema) -> Plan:
    return passes.plan_of(schema)


@pytest.fixture(scope="module")
def backups() -> dict[str, bytes]:
    made = {}
    for layout, arrangement in generate.LAYOUTS.items():
        stream = io.BytesIO()
        generate.write(stream, edms.rows(DOCUMENTS, seed=1), arrangement)
        made[layout] = stream.getvalue()
    return made


@pytest.fixture
def variant(request: pytest.FixtureRequest) -> Iterator[str]:
    _core.force(request.param)
    yield request.param
    _core.force(None)


@every_layout
@pytest.mark.parametrize("variant", _core.variants(), indirect=True)
def test_scan(
    benchmark: BenchmarkFixture, backups: dict[str, bytes], layout: str, variant: str
) -> None:
    """Scan and grammar, without anything that is kept."""

    def scan() -> int:
        walker = Walker()
        passes.feed(walker, backups[layout])
        return walker.records

    assert benchmark(scan) > DOCUMENTS


@every_layout
def test_index(
    benchmark: BenchmarkFixture, backups: dict[str, bytes], plan: Plan, layout: str
) -> None:
    indexer = benchmark(lambda: passes.index(plan, backups[layout]))
    assert indexer.take_findings() == []
    assert indexer.key_map_bytes > 0


@every_layout
def test_splice(
    benchmark: BenchmarkFixture,
    backups: dict[str, bytes],
    plan: Plan,
    schema: Schema,
    layout: str,
) -> None:
    data = backups[layout]
    splice = passes.Splice(plan, data)
    assert benchmark(splice) == LegacyBackupConverter(schema).convert_bytes(data)


@pytest.mark.parametrize("variant", _core.variants(), indirect=True)
def test_checksums(benchmark: BenchmarkFixture, backups: dict[str, bytes], variant: str) -> None:
    block = memoryview(backups["compact"])[:BLOCK_SIZE]
    again = _core.checksums(bytes(block), BLOCK_SIZE)
    assert benchmark(lambda: _core.checksums(block, BLOCK_SIZE)) == again


def test_convert_small(benchmark: BenchmarkFixture) -> None:
    """Two kilobytes from bytes to bytes, with a prepared converter."""
    converter, data = small.converter(), small.backup()
    converted = benchmark(lambda: converter.convert_bytes(data))
    assert all("natural_key" in record for record in json.loads(converted))
