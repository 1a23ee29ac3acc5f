"""Pictures: formats, the same octets each time, what is drawn in them, and what to install."""

from __future__ import annotations

import io
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from importlib.util import find_spec
from pathlib import Path

import pytest

from rawkit.report import needs
from rawkit.report.draw import COLOURS, draw
from rawkit.report.figures import panels
from rawkit.report.run import Run
from rawkit.sim import Schedule, Transfer
from rawkit.transport.protocols.go_back_n import GoBackN

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def run() -> Run:
    return Run.of(Transfer(GoBackN, octets=40_000, schedule=Schedule.parse("drop 9")).run())


def test_an_svg_has_titles_units_names_and_colours_and_is_the_same_each_time(run: Run) -> None:
    file, again = io.BytesIO(), [io.BytesIO() for _ in range(2)]
    for each in again:
        draw(panels(run)[2:3], each, format="svg")
    assert again[0].getvalue() == again[1].getvalue()
    draw(panels(run), file, format="svg", title="Go back")
    text = file.getvalue().decode()
    words = {
        "".join(element.itertext()).strip() for element in ElementTree.fromstring(text).iter(f"{SVG}text")
    }
    assert {
        "Go back",
        "Time sequence: numbers that a sent",
        "sent again",
        "lost on the way",
        "time (s)",
    } <= words
    assert {
        "sequence number (packets)",
        "octets",
        "ms",
        "Mbit/s",
        "packets",
        "rate of the link (IP octets)",
    } <= words
    assert COLOURS["light"]["again"] in text
    assert len(text) < 200_000


@pytest.mark.parametrize(("name", "magic"), [("x.png", b"\x89PNG"), ("x.pdf", b"%PDF"), ("x.svg", b"<?xml")])
def test_the_name_of_the_file_says_what_it_is(run: Run, tmp_path: Path, name: str, magic: bytes) -> None:
    draw(panels(run)[:1], tmp_path / name, theme="dark")
    assert (tmp_path / name).read_bytes().startswith(magic)


def test_nothing_to_draw_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is nothing to draw"):
        draw([], tmp_path / "x.svg")


def test_what_is_missing_is_said_with_how_to_get_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needs, "find_spec", lambda name: None if name == "matplotlib" else find_spec(name))
    with pytest.raises(needs.MissingLibrary, match="plots need matplotlib: pip install 'rawkit\\[plots\\]'"):
        draw(panels(run), io.BytesIO(), format="svg")


def test_numbers_need_no_library(tmp_path: Path) -> None:
    script = "import sys, rawkit.report.figures, rawkit.report.page, rawkit.report.draw; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert not {"matplotlib", "plotly", "numpy"} & set(loaded.split())
