"""The table and the page that benchmarks end up in; they themselves take minutes, and run on request."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def report(tmp_path: Path) -> ModuleType:
    pytest.importorskip("rich")
    spec = importlib.util.spec_from_file_location("_report", BENCHMARKS / "_report.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.SAVED = tmp_path / "build" / "benchmarks.jsonl"
    return module


def row(script: str, rawkit: float) -> dict[str, object]:
    return {
        "script": script, "bench": script, "case": "a case", "rawkit": rawkit, "peer": 2_000_000,
        "unit": "ns", "peer_name": "other", "ratio": 12.345,
    }  # fmt: skip


def test_results_replace_earlier_ones_of_the_same_script(report: ModuleType) -> None:
    assert report.load() == []
    report.save([row("send", 1), row("send", 2)], "send")
    report.save([row("build", 2)], "build")
    report.save([row("send", 3)], "send")
    assert report.load() == [row("build", 2), row("send", 3)]


def test_a_page_has_a_section_for_each_script_and_names_who_is_missing(report: ModuleType) -> None:
    missing = {"script": "checksum", "bench": "checksum", "peer_name": "dpkt", "missing": "no module"}
    text = report.page([row("checksum", 0.02134), missing, row("send", 5)])
    assert "## How long does one Internet checksum take" in text
    assert "| a case | 0.0213 | 2,000,000 | ns | 12.3 | other |" in text
    assert "Missing here: dpkt (no module)." in text
    assert "Prints one JSON object" not in text
    assert text.count("\n## ") == 2
    assert "Linux" in text


def test_lines_that_are_no_results(report: ModuleType) -> None:
    assert report.parse("build ...") is None
    assert report.parse("[1]") is None
    assert report.parse(json.dumps({"bench": "x"})) == {"bench": "x"}


@pytest.mark.parametrize(
    "script",
    [path for path in BENCHMARKS.glob("*.py") if not path.name.startswith("_")],
    ids=lambda p: p.stem,
)
def test_every_script_asks_a_question(report: ModuleType, script: Path) -> None:
    question, detail = report.explained(script.stem)
    assert question.endswith("?")
    assert detail
