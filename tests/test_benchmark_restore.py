"""The page on restores: every figure in it is a measured one."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median

import pytest

from benchmarks import restore_report

RESULTS = Path(restore_report.__file__).with_name("restore.json")


def test_page_is_made_of_the_results() -> None:
    results = json.loads(RESULTS.read_text())
    assert RESULTS.with_suffix(".md").read_text() == restore_report.page(results)
    for one in results["engines"]:
        ours = one["records"] / median(one["fastnk"])
        loaddata = one["loaddata"]["records"] / median(one["loaddata"]["seconds"])
        assert one["of_raw"] < 1
        assert one["times_loaddata"] == pytest.approx(ours / loaddata, abs=0.05)
