"""`rawkit ping --plot` and `--live`: what is drawn, and on a terminal only."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawkit.cli.pingplot import LOST, columns, histogram
from rawkit.lab import Lab

MS = 1_000_000


def test_columns() -> None:
    assert columns([4 * MS, 2 * MS, None, 1 * MS], 20, 4) == [
        "   4.00 ┤█   ",
        "        │█   ",
        "   2.00 ┤██  ",
        "        │██x█",
    ]
    assert [line.strip() for line in columns([], 20, 2)] == ["0.000 ┤", "0.000 ┤"]
    assert columns([1, 2, 3], 11, 1) == ["  0.000 ┤▅█"]  # the last two


def test_histogram() -> None:
    assert histogram([1 * MS, 1 * MS, 8 * MS, None], 40, 3) == [
        "   1.00 -   2.00 │████████████ 2",
        "   2.00 -   4.00 │",
        "   4.00 -   8.00 │██████ 1",
    ]
    assert histogram([None], 40) == []
    assert histogram([5 * MS] * 3, 40) == ["   5.00 -   5.00 │████████████ 3"]


@given(st.lists(st.none() | st.integers(0, 10**12), max_size=80), st.integers(12, 200), st.integers(1, 20))
def test_any_values_keep_to_the_size(values: list[int | None], width: int, height: int) -> None:
    drawn = columns(values, width, height)
    assert len(drawn) == height
    assert all(len(line) <= width for line in drawn)
    assert drawn[-1].count(LOST) == values[-(width - 9) :].count(None)
    counts = [
        int(line.rsplit(" ", 1)[1]) for line in histogram(values, width) if line[-1].isdigit() and "│" in line
    ]
    assert sum(counts) == sum(value is not None for value in values)


@pytest.mark.net
@pytest.mark.parametrize("option", ["--plot", "--live"])
def test_on_a_terminal(option: str) -> None:
    with Lab() as lab:
        ours, theirs = pty.openpty()
        argv = [sys.executable, "-m", "rawkit", "ping", "-c3", "-i", "10ms", option, str(lab.b.ipv4)]
        environment = os.environ | {"TERM": "xterm", "COLUMNS": "80", "LINES": "30"}
        process = lab.a.spawn(argv, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
        os.close(theirs)
        octets = b""
        try:
            while chunk := os.read(ours, 65536):
                octets += chunk
        except OSError:  # nobody has the other end any more
            pass
        finally:
            os.close(ours)
            assert process.wait(timeout=30) == 0
    text = octets.decode()
    assert "10.77.0.2: 3/3 packets, 0% loss" in text
    assert "3 packets transmitted, 3 received" in text
    assert ("milliseconds, last 3" in text and "█" in text) == (option == "--plot")


@pytest.mark.net
def test_nowhere_else() -> None:
    argv = [sys.executable, "-m", "rawkit", "ping", "-c1", "--plot", "127.0.0.1"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert re.search("--plot needs a terminal", done.stderr)
