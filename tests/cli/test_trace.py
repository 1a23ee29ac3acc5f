"""`rawkit trace`: its lines, tables, JSON, pictures, exit statuses and signals."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from jsonlines import strict
from oracles import oracle

from rawkit.cli.names import Names
from rawkit.cli.trace import hop_lines
from rawkit.lab import Lab, RoutedLab
from rawkit.tools.trace import TraceHop, TraceNode
from rawkit.tools.traceresult import TraceInterface, TraceLabel

MS = r"\d+\.\d{3} ms"


@pytest.fixture(scope="module")
def chain() -> Iterator[RoutedLab]:
    """a, r1, r2 (silent), r3, b."""
    with Lab.chain(3) as lab:
        lab.routers[1].keep_silent()
        yield lab


def rawkit(lab: RoutedLab, *args: str, **options: Any) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "rawkit", "trace", *args]
    return lab.a.run(argv, capture_output=True, text=True, timeout=60, **options)


@pytest.mark.net
@pytest.mark.parametrize(
    ("target", "size", "hops"),
    [("10.77.0.2", 60, ["10.77.1.1", "10.77.1.3"]), ("fd77::2", 80, ["fd77:1::1", "fd77:1::3"])],
)
def test_lines(chain: RoutedLab, target: str, size: int, hops: list[str]) -> None:
    done = rawkit(chain, "-w", "0.5", "-q", "2", target)
    assert (done.returncode, done.stderr) == (0, "")
    source = target[:-1] + "1"
    first, last = map(re.escape, hops)
    assert re.fullmatch(
        rf"trace to {target} from {source}, UDP port 33434, 30 hops max, {size} octet packets\n"
        rf" 1  {first}  {MS}  {MS}\n"
        r" 2  \* \*\n"
        rf" 3  {last}  {MS}  {MS}\n"
        rf" 4  {re.escape(target)}  {MS}  {MS}\n",
        done.stdout,
    ), done.stdout


@pytest.mark.net
def test_json(chain: RoutedLab) -> None:
    done = rawkit(chain, "-w", "0.5", "-q", "2", "--flows", "2", "--json", "10.77.0.2")
    assert (done.returncode, done.stderr) == (0, "")
    records = strict(done.stdout)
    assert records[0] == {"type": "header", "schema": "rawkit.trace/1"}
    assert records[1]["type"] == "session"
    assert records[1]["sockets"] == "raw"
    kinds = [record["type"] for record in records]
    assert kinds[-7:] == ["hop"] * 4 + ["path"] * 2 + ["summary"]
    assert set(kinds[2:-7]) == {"answer", "timeout"}
    assert [record["address"] for record in records if record.get("kind") == "target"] == ["10.77.0.2"] * 4
    for path in records[-3:-1]:
        assert path["addresses"] == ["10.77.1.1", None, "10.77.1.3", "10.77.0.2"]
    summary = records[-1]
    assert (summary["reached"], summary["hops"], summary["paths"]) == (True, 4, 1)


@pytest.mark.net
def test_report_and_pictures(chain: RoutedLab, tmp_path: Path) -> None:
    svg, dot = tmp_path / "paths.svg", tmp_path / "paths.dot"
    done = rawkit(
        *(
            chain,
            "-r",
            "-q",
            "2",
            "-i",
            "10ms",
            "-w",
            "0.5",
            "--svg",
            str(svg),
            "--dot",
            str(dot),
            "10.77.0.2",
        )
    )
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line.split() for line in done.stdout.splitlines()[1:]]
    assert rows[0] == ["HOP", "ADDRESS", "LOSS", "SENT", "LAST", "AVG", "BEST", "WORST", "STDEV"]
    assert [row[:4] for row in rows[1:]] == [
        ["1", "10.77.1.1", "0.0%", "2"],
        ["2", "*", "100.0%", "2"],
        ["3", "10.77.1.3", "0.0%", "2"],
        ["4", "10.77.0.2", "0.0%", "2"],
    ]
    assert len(ElementTree.parse(svg).getroot().findall(".//{*}rect")) == 5
    assert dot.read_text().startswith("digraph trace {")
    oracle_dot = Path("/usr/bin/dot")
    if oracle_dot.exists():
        subprocess.run([oracle("dot"), "-Tsvg", str(dot)], check=True, capture_output=True)


@pytest.mark.net
def test_live_on_a_terminal(chain: RoutedLab) -> None:
    controller, terminal = pty.openpty()
    argv = [sys.executable, "-m", "rawkit", "trace", "--live", "-i", "50ms", "-w", "0.5", "10.77.0.2"]
    process = chain.a.spawn(
        argv,
        stdin=terminal,
        stdout=terminal,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "30"},
        # However the tests were started (a shell's background job ignores it): here Ctrl-C counts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    os.close(terminal)
    shown = b""
    try:
        while b"10.77.0.2 " not in shown.partition(b"HOP")[2]:
            shown += os.read(controller, 65536)
        process.send_signal(signal.SIGINT)
        while True:
            try:
                more = os.read(controller, 65536)
            except OSError:  # the terminal's other end is closed
                break
            if not more:
                break
            shown += more
        assert process.wait(timeout=20) == 0
    finally:
        process.kill()
        os.close(controller)
    table = shown.decode().rpartition("HOP")[2]
    assert re.search(r"1 +10\.77\.1\.1 +0\.0%", table)
    assert re.search(r"4 +10\.77\.0\.2 +0\.0%", table)


@pytest.mark.net
def test_names(chain: RoutedLab) -> None:
    if "localhost" not in Path("/etc/hosts").read_text():
        pytest.skip("/etc/hosts has no localhost")
    for args in (["-q", "1"], ["-r", "-q", "1"]):
        assert "localhost (127.0.0.1)" in rawkit(chain, "--names", *args, "127.0.0.1").stdout
        assert "localhost" not in rawkit(chain, "-n", *args, "127.0.0.1").stdout


def test_names_are_looked_up_once_and_not_waited_for_too_long() -> None:
    asked = []
    go = threading.Event()

    def look_up(address: str) -> str:
        asked.append(address)
        go.wait(30)
        return {"192.0.2.1": "a.example"}.get(address, "")

    names = Names(look_up)
    assert names.label("192.0.2.1") == "192.0.2.1"
    assert names.label("192.0.2.1") == "192.0.2.1"
    go.set()
    end_ns = time.monotonic_ns() + 30 * 10**9
    assert names.label("192.0.2.1", end_ns) == "a.example (192.0.2.1)"
    assert names.label("192.0.2.2", end_ns) == "192.0.2.2"
    assert asked == ["192.0.2.1", "192.0.2.2"]


@pytest.mark.net
def test_live_without_a_terminal(chain: RoutedLab) -> None:
    done = rawkit(chain, "--live", "10.77.0.2")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--live needs a terminal; --report does without" in done.stderr


@pytest.mark.net
def test_a_target_that_is_not_reached(chain: RoutedLab) -> None:
    done = rawkit(chain, "-w", "0.2", "-q", "1", "-m", "3", "10.77.0.2")
    assert (done.returncode, done.stderr) == (1, "")
    assert [line.split()[:2] for line in done.stdout.splitlines()[1:]] == [
        ["1", "10.77.1.1"],
        ["2", "*"],
        ["3", "10.77.1.3"],
    ]


@pytest.mark.net
def test_interrupt_prints_what_is_known(chain: RoutedLab) -> None:
    argv = [sys.executable, "-m", "rawkit", "trace", "-w", "50", "10.77.0.2"]
    process = chain.a.spawn(
        argv,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    lines = [process.stdout.readline() for _ in range(2)]
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, "")
    assert lines[1].startswith(" 1  10.77.1.1")
    assert out.splitlines()[0] == " 2  *"


def node(address: str, flows: tuple[int, ...], **more: Any) -> TraceNode:
    figures = {"last_ns": 1_000_000, "min_ns": 1_000_000, "avg_ns": 2_000_000, "max_ns": 3_000_000}
    rest = {"mdev_ns": 0, "jitter_ns": 0, "ttl": 64, "mtu": None, "mpls": (), "interfaces": ()}
    return TraceNode(
        **{"address": address, "flows": flows, "kind": "hop", "text": "time exceeded", "received": 1}  # type: ignore[arg-type]
        | figures
        | rest
        | more
    )


def test_lines_of_a_hop_where_flows_part() -> None:
    one = node("192.0.2.1", (1, 2, 4), received=9)
    other = node(
        *("192.0.2.2", (3,)),
        mpls=(TraceLabel(100, 5, True, 1),),
        interfaces=(TraceInterface("incoming", 3, None, "eth\x1b0", 9000),),
        mtu=1400,
    )
    hop = TraceHop(3, 14, 10, 4, 4 / 14, (one, other))
    assert hop_lines(hop, [("192.0.2.2", 1_500_000)], lambda address, _: address) == [
        " 3  192.0.2.1  1.000/2.000/3.000 ms min/avg/max of 9  * * * (4 lost)  [flows 1-2, 4]",
        "    192.0.2.2  1.500 ms  [mtu 1400]  [MPLS label 100 tc 5 ttl 1 S]  [incoming eth\x1b0 #3 mtu 9000]"
        "  [flow 3]",
    ]
    assert hop_lines(TraceHop(2, 0, 0, 0, 0.0, ()), [], lambda address, _: address) == [" 2  *"]
