"""JSON lines and text for terminals."""

from __future__ import annotations

import io
import json
import unicodedata
from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawkit.addr import MAC
from rawkit.cli.output import JsonLines, console, emit, escape, status


class Colour(Enum):
    RED = "red"


@dataclass
class Pair:
    first: bytes
    second: object


def strict(line: str) -> object:
    """The object of a line, by a reader that takes no NaN and no key twice."""

    def pairs(items: list[tuple[str, object]]) -> dict[str, object]:
        assert len(dict(items)) == len(items)
        return dict(items)

    def constant(name: str) -> object:
        raise AssertionError(name)

    return json.loads(line, object_pairs_hook=pairs, parse_constant=constant)


def test_the_first_line_names_the_schema_and_every_value_has_a_json_form() -> None:
    stream = io.StringIO()
    out = JsonLines("ping", 2, stream)
    out.write(
        "reply",
        address=ip_address("192.0.2.1"),
        mac=MAC("00:00:5e:00:53:01"),
        octets=b"\x00\xff",
        path=Path("a/b"),
        rtt=0.5,
        nothing=None,
        never=float("inf"),
        no=float("nan"),
        flag=True,
        colour=Colour.RED,
        pair=Pair(b"\x01", [Pair(b"", {1: {3, 2}})]),
        text="\x1b[31m\N{LATIN SMALL LETTER E WITH ACUTE}",
    )
    assert stream.getvalue().isascii()
    assert "\x1b" not in stream.getvalue()
    assert [strict(line) for line in stream.getvalue().splitlines()] == [
        {"type": "header", "schema": "rawkit.ping/2"},
        {
            "type": "reply",
            "address": "192.0.2.1",
            "mac": "00:00:5e:00:53:01",
            "octets": "00ff",
            "path": "a/b",
            "rtt": 0.5,
            "nothing": None,
            "never": None,
            "no": None,
            "flag": True,
            "colour": "red",
            "pair": {"first": "01", "second": [{"first": "", "second": {"1": [2, 3]}}]},
            "text": "\x1b[31m\N{LATIN SMALL LETTER E WITH ACUTE}",
        },
    ]


def test_data_and_status_go_different_ways(capsys: pytest.CaptureFixture[str]) -> None:
    emit("data")
    emit()
    status("working")
    JsonLines("read")
    assert capsys.readouterr() == ('data\n\n{"type": "header", "schema": "rawkit.read/1"}\n', "working\n")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\x9b31m\x7f", "\\x9b31m\\x7f"),
        ("a\u202eb", "a\\u202eb"),
        ("\ud800", "\\ud800"),
        ("tab\tline\n", "tab\\x09line\\x0a"),
        ("gr\N{LATIN SMALL LETTER U WITH DIAERESIS}n", "gr\N{LATIN SMALL LETTER U WITH DIAERESIS}n"),
    ],
)
def test_what_could_steer_a_terminal_is_shown_instead(text: str, shown: str) -> None:
    assert escape(text) == shown


@given(st.text(st.characters(max_codepoint=0x2100)))
def test_no_control_character_gets_through(text: str) -> None:
    assert not [
        c
        for c in escape(text)
        if unicodedata.category(c) in ("Cc", "Cs")
        or unicodedata.bidirectional(c) in ("RLO", "LRO", "RLE", "LRE", "PDF", "LRI", "RLI", "FSI", "PDI")
    ]
    assert set(escape(text, lines=True)) - set(escape(text)) <= {"\n"}


def test_the_console_prints_text_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    console().print("[red]not markup[/red] :smile: 192.0.2.1")
    assert capsys.readouterr().out == "[red]not markup[/red] :smile: 192.0.2.1\n"
