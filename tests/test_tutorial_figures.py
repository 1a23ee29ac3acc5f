"""The tutorial's figures, which the commands in its pages still make, and what it says of seeing a run."""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from oracles import oracle

from rawkit.cli.main import main

DOCS = Path(__file__).parents[1] / "docs"
SVG = "{http://www.w3.org/2000/svg}"


def commands() -> list[tuple[Path, list[str]]]:
    spec = importlib.util.spec_from_file_location("figures_make", DOCS / "figures" / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return list(module.commands())


def words_of(path: Path) -> list[str]:
    return ["".join(element.itertext()).strip() for element in ElementTree.parse(path).iter(f"{SVG}text")]


@pytest.mark.parametrize(("figure", "words"), commands(), ids=lambda value: getattr(value, "name", ""))
def test_a_figure_is_what_its_command_makes(figure: Path, words: list[str], tmp_path: Path) -> None:
    made = tmp_path / figure.name
    words[words.index("-o") + 1] = str(made)
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    assert words_of(made) == words_of(
        figure
    )  # titles, units, names, ticks; another matplotlib may draw otherwise
    assert figure.stat().st_size < 150_000


def test_every_figure_is_on_a_page_and_has_its_command() -> None:
    shown = {
        target
        for page in DOCS.glob("*.md")
        for target in re.findall(r"\]\(figures/([^)]+)\)", page.read_text())
    }
    assert (
        shown
        == {figure.name for figure, _ in commands()}
        == {path.name for path in DOCS.glob("figures/*.svg")}
    )


@pytest.mark.net
def test_a_run_is_seen_as_the_transport_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    oracle("tshark")
    page = (DOCS / "tutorial-transport.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\$ (.*)$", page[page.index("## See it") :], re.MULTILINE)
    assert len(lines) == 7
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "courier", raising=False)
    for line in ["rawkit transport new courier", *lines]:
        words = shlex.split(line)
        if "compare" in words:  # less of it, which is quicker
            words += ["--octets", "5000", "--kernel", "none", "--beside", "none"]
        if words[0] == "rawkit":
            told = CliRunner().invoke(main, words[1:])
            assert told.exit_code == 0, told.output
        else:
            done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
            assert all("[retransmission]" in row for row in done.stdout.splitlines())
    for name, title in (
        ("courier", "Time sequence"),
        ("captured", "Time sequence"),
        ("both", "kernel cubic"),
    ):
        assert title in (tmp_path / f"{name}.html").read_text()
