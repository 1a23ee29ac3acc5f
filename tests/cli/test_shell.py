"""`rawkit shell`: a session at a terminal, one through a pipe, and what TAB finds."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from rawkit import TCP, UDP, IPv4
from rawkit.cli.shell import field_matches, namespace, shown


class Session:
    """A shell on a terminal of its own."""

    def __init__(self) -> None:
        self.fd, other = pty.openpty()
        environment = os.environ | {"TERM": "dumb", "INPUTRC": "/dev/null"}
        command = [sys.executable, "-m", "rawkit", "shell", "--plain"]
        self.process = subprocess.Popen(
            command, stdin=other, stdout=other, stderr=other, env=environment, start_new_session=True
        )
        os.close(other)

    def send(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def until(self, wanted: str, seconds: float = 20) -> str:
        """What appears up to the pattern."""
        seen = ""
        deadline = time.monotonic() + seconds
        while not re.search(wanted, seen):
            ready, _, _ = select.select([self.fd], [], [], max(deadline - time.monotonic(), 0))
            assert ready, f"no {wanted!r} in {seen!r}"
            assert time.monotonic() < deadline, f"no {wanted!r} in {seen[:2000]!r}"
            try:
                seen += os.read(self.fd, 4096).decode(errors="replace").replace("\r\n", "\n")
            except OSError:
                break  # the other side was closed
        return seen

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.fd)


@pytest.fixture
def session() -> Iterator[Session]:
    session = Session()
    yield session
    session.close()


def test_a_session_at_a_terminal(session: Session) -> None:
    banner = session.until(">>> $")
    assert "rawkit" in banner
    assert "TAB" in banner
    session.send('p = IPv4(dst="192.0.2.1") / TCP(dport=80)\n')
    session.until(">>> $")
    session.send("p\n")
    tree = session.until(">>> $")
    assert "IPv4\n  version" in tree
    assert "dport        80" in tree
    session.send("1/0\n")
    assert "ZeroDivisionError" in session.until(">>> $")
    session.send("exit(3)\n")
    assert session.process.wait(10) == 3


@pytest.mark.skipif(find_spec("readline") is None, reason="this Python has no readline")
@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("TCP(dpo\t80).dport\n", "80"),
        ("p[TCP].dpo\t\n", "81"),
        ("p['tcp.dpo\t]\n", "81"),  # readline closes the string
        ("IPv4.__na\t\n", "'IPv4'"),
    ],
)
def test_tab_completes_fields(session: Session, typed: str, completed: str) -> None:
    session.until(">>> $")
    session.send("p = IPv4() / TCP(dport=81)\n")
    session.until(">>> $")
    session.send(typed)
    assert session.until(r"\n>>> $").split("\n")[-2] == completed


def test_statements_through_a_pipe() -> None:
    loop = "for _ in range(2):\n    print(p['udp.dport'])\n\n"
    lines = f"p = IPv4(src='192.0.2.2', dst='192.0.2.1')/UDP(dport=53)\n{loop}[p, p]\nexit(4)"
    command = [sys.executable, "-m", "rawkit", "shell"]
    done = subprocess.run(command, input=lines, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (4, "")
    line = "IP 192.0.2.2.0 > 192.0.2.1.53: UDP, length 0"
    assert done.stdout.splitlines() == ["53", "53", f"   0  {line}", f"   1  {line}"]


def test_names_that_are_there() -> None:
    names = namespace()
    assert {"TCP", "MSS", "ICMPTimeExceeded", "open_pcap", "ping", "rawkit"} <= names.keys()


def test_terminal_is_not_steered() -> None:
    assert "\x1b" not in (shown(IPv4() / UDP() / b"\x1b[2J") or "")
    assert shown(5) is None


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("TCP(dp", ["dport="]),
        ("TCP(dport=1, s", ["sport=", "seq="]),
        ("TCP(sport=1, sp", []),
        ("p[TCP].dp", [".dport"]),
        ('p["tcp.dp', ["tcp.dport"]),
        ('p["nothing.dp', []),
        ("q[TCP].dp", []),
        ("print(dp", []),
        ("nothing(dp", []),
    ],
)
def test_what_tab_finds(line: str, found: list[str]) -> None:
    names = {"TCP": TCP, "p": IPv4() / TCP(), "print": print}
    assert field_matches(line, names) == found
