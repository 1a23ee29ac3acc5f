"""`rawkit ping -g`, `-f`: who is alive, in lines and in JSON, and exit statuses."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonlines import strict

from rawkit.lab import Lab

pytestmark = pytest.mark.net


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        lab.b.run(["ip", "route", "add", "local", "10.78.0.0/28", "dev", "lo"], check=True)
        lab.b.run(["ip", "route", "add", "blackhole", "10.78.0.16/28"], check=True)
        lab.a.run(["ip", "route", "add", "10.78.0.0/27", "via", str(lab.b.ipv4)], check=True)
        yield lab


def run(lab: Lab, line: str, **options: Any) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "rawkit", "ping", *line.split()]
    options = {"input": "", "timeout": 60} | options
    return lab.a.run(argv, capture_output=True, text=True, **options)


def test_lines(lab: Lab) -> None:
    done = run(lab, "-g 10.78.0.14 10.78.0.17 -W 100ms")
    assert done.returncode == 1, done.stderr
    assert re.fullmatch(
        r"10\.78\.0\.14 is alive \([\d.]+ ms\)\n"
        r"10\.78\.0\.15 is alive \([\d.]+ ms\)\n"
        r"10\.78\.0\.16 is unreachable: no answer\n"
        r"10\.78\.0\.17 is unreachable: no answer\n"
        r"\n4 targets, 2 alive, 2 not\n"
        r"6 packets transmitted, 2 received, 50% loss, time \d+ms \([\d,]+ targets/s\)\n"
        r"rtt min/avg/max/mdev = [\d./]+ ms\n"
        r"rtt median/p90/p99 = [\d./]+ ms\n",
        done.stdout,
    ), done.stdout


def test_what_was_not_sent_is_told_apart(lab: Lab) -> None:
    assert ", 0 received, 2 not sent, time" in run(lab, "-q -g -W 50ms -r 0 10.77.0.77-78").stdout
    done = run(lab, "-q -a -W 50ms -r 0 10.78.0.1 10.77.0.77")
    assert "\n1 packets transmitted, 1 received, 1 not sent, 0% loss, time" in done.stdout


@pytest.mark.parametrize(
    ("line", "status", "alive", "unreachable"),
    [
        ("10.78.0.0/28 -a", 0, 16, 0),
        ("10.78.0.0/27 -a -W 50ms -r 0", 1, 16, 0),
        ("10.78.0.0/27 -u -W 50ms -r 0", 1, 0, 16),
        ("10.78.0.0/27 -u -a -W 50ms -r 0 -x 16", 0, 16, 16),
        ("10.78.0.0/27 -g -W 50ms -r 0 -x 17", 1, 16, 16),
        ("10.78.0.0/28 -g -q", 0, 0, 0),
        ("10.78.0.0/30 -g -c 2 -i 0", 0, 8, 0),
        ("10.78.0.0/30 -g --rate 10000", 0, 4, 0),
    ],
)
def test_json(lab: Lab, line: str, status: int, alive: int, unreachable: int) -> None:
    done = run(lab, f"{line} --json")
    assert (done.returncode, done.stderr) == (status, "")
    header, session, *results, summary = strict(done.stdout)
    assert (header["type"], header["schema"]) == ("header", "rawkit.ping/1")
    assert session["type"] == "session"
    assert session["sockets"] == {"4": "raw"}
    assert {result["type"] for result in results} <= {"result"}
    assert sum(result["alive"] for result in results) == alive
    assert sum(not result["alive"] for result in results) == unreachable
    assert (summary["type"], summary["complete"]) == ("summary", True)
    assert summary["received"] == summary["alive"] * summary["rounds"]


def test_files_and_standard_input(lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text("# three of them\n10.78.0.1\n\n  10.78.0.2-3 # and two more\n")
    done = run(lab, f"-f {path} -q")
    assert done.stdout.startswith("3 targets, 3 alive, 0 not\n")
    done = run(lab, "-f - 10.78.0.9 -q", input="10.78.0.1\n10.78.0.4/30\n")
    assert done.stdout.startswith("6 targets, 6 alive, 0 not\n")
    done = run(lab, "-a - -q", input="10.78.0.1\n")
    assert done.stdout.startswith("1 targets, 1 alive, 0 not\n")


def test_names_are_kept(lab: Lab) -> None:
    done = run(lab, "-4 -g localhost")
    assert done.stdout.startswith("localhost (127.0.0.1) is alive")


def test_signals(lab: Lab) -> None:
    """SIGQUIT prints a line and goes on; SIGINT ends with what is known so far, which is 130."""
    argv = [sys.executable, "-m", "rawkit", "ping", "-g", "10.78.0.1", "10.78.0.16", "-W", "600", "--json"]
    process = lab.a.spawn(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        lines = [process.stdout.readline() for _ in range(2 + 15)]
        process.send_signal(signal.SIGQUIT)
        assert process.stderr.readline() == "15/16 answered, 16 packets transmitted\n"
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=30)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 130
    summary = strict("".join(lines) + rest)[-1]
    assert (summary["type"], summary["complete"], summary["received"]) == ("summary", False, 15)
