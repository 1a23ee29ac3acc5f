"""`rawkit scan` as a process: what it prints, and its exit status."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from oracles import calm, oracle

import rawkit
from rawkit.engine import PacketSocket
from rawkit.lab import Lab
from rawkit.pcap import open_pcap
from rawkit.wire import TCP

pytestmark = pytest.mark.net

SCAN = [sys.executable, "-m", "rawkit", "scan"]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Host b listens on ports 22, 80 and 8080, with IPv4 and IPv6."""
    with Lab() as lab, ExitStack() as stack:
        with lab.b:
            for port in (22, 80, 8080):
                listener = stack.enter_context(socket.socket(socket.AF_INET6))
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
                listener.bind(("::", port))
                listener.listen()
        yield lab


def run(lab: Lab, *args: str, prefix: list[str] | None = None) -> subprocess.CompletedProcess[str]:
    # No name server answers here: once is enough to find out.
    env = os.environ | {"RES_OPTIONS": "timeout:1 attempts:1"}
    return lab.a.run([*(prefix or []), *SCAN, *args], capture_output=True, text=True, timeout=60, env=env)


def records(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_table_of_ports(lab: Lab) -> None:
    done = run(lab, "10.77.0.2", "-p", "22,78-80")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "10.77.0.2",
        "PORT    STATE   SERVICE  REASON   TTL",
        "22/tcp  open    ssh      syn-ack   64",
        "78/tcp  closed           rst       64",
        "79/tcp  closed  finger   rst       64",
        "80/tcp  open    http     syn-ack   64",
        "",
    ]
    assert done.stderr.startswith("syn scan of 1 address, 4 ports each, in 0.")
    assert done.stderr.endswith(" s: 2 open, 2 closed, 0 filtered; 4 probes\n")


def test_many_closed_ports_are_only_counted(lab: Lab) -> None:
    done = run(lab, "10.77.0.2", "-p-")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines[2:5]] == ["22/tcp", "80/tcp", "8080/tcp"]
    assert lines[5] == "not shown: 65532 closed ports (rst)"


def test_only_open_ports_of_hosts_that_have_any(lab: Lab) -> None:
    done = run(lab, "10.77.0.1-2", "fd77::2", "-p", "79,80", "--open")
    assert done.returncode == 0
    assert "closed  " not in done.stdout
    assert [line.split()[0] for line in done.stdout.splitlines() if line] == [
        "10.77.0.2", "PORT", "80/tcp", "fd77::2", "PORT", "80/tcp", "1",
    ]  # fmt: skip
    assert done.stdout.endswith("1 host without an open port\n")


def test_hosts_that_say_nothing_are_counted(lab: Lab) -> None:
    done = run(lab, "10.77.0.2", "10.77.0.50-52", "-p", "80", "--timeout", "100ms", "--retries", "0")
    assert done.returncode == 0
    assert done.stdout.startswith("10.77.0.2\n")
    assert done.stdout.endswith("\n3 hosts without any answer\n")


@pytest.mark.parametrize(("option", "address"), [("-4", "127.0.0.1"), ("-6", "::1")])
def test_a_host_name(option: str, address: str, lab: Lab) -> None:
    localhost = {info[4][0] for info in socket.getaddrinfo("localhost", None)}
    if address not in localhost:
        pytest.skip(f"localhost is not {address} here")
    done = run(lab, "localhost", option, "-p", "80")
    assert done.stdout.splitlines()[0] == f"{address} (localhost)"


@pytest.mark.parametrize("kind", ["syn", "connect"])
def test_json_lines(kind: str, lab: Lab) -> None:
    done = run(lab, "fd77::2", "-p", "1-100", "--json", "--type", kind)
    assert done.returncode == 0
    header, about, *ports, summary = records(done.stdout)
    assert header == {"type": "header", "schema": "rawkit.scan/1"}
    assert datetime.now(UTC) - datetime.fromisoformat(about.pop("started")) < timedelta(minutes=5)
    assert about.pop("command").endswith(f"scan fd77::2 -p 1-100 --json --type {kind}")
    assert (about.pop("seed") is None) == (kind == "connect")
    (origin,) = about.pop("origin") or ["the kernel's"]
    assert re.fullmatch(r"fd77::1 port \d+", origin) if kind == "syn" else origin == "the kernel's"
    assert about == {
        "type": "scan",
        "kind": kind,
        "fallback": None,
        "targets": 1,
        "ports": 100,
        "rate": None,
        "retries": 2,
        "timeout_ns": 1_000_000_000,
        "version": rawkit.__version__,
        "excluded": None,
        "shard": "1/1",
        "contact": None,
    }
    assert {record["type"] for record in ports} == {"port"}
    assert Counter(record["state"] for record in ports) == {"open": 2, "closed": 98}
    (http,) = (record for record in ports if record["port"] == 80)
    rtt_ns = http.pop("rtt_ns")
    assert 0 <= rtt_ns < 1e9
    assert http == {
        "type": "port",
        "address": "fd77::2",
        "name": None,
        "protocol": "tcp",
        "port": 80,
        "state": "open",
        "reason": "syn-ack" if kind == "syn" else "connected",
        "service": "http",
        "ttl": 64 if kind == "syn" else None,
        "reporter": "fd77::2",
        "probes": 1,
        "answers": 1,
    }
    assert (summary["type"], summary["complete"], summary["open"], summary["closed"]) == (
        "summary",
        True,
        2,
        98,
    )
    assert summary["probes"] == 100


def test_a_terminal_sees_how_far_a_long_scan_is(lab: Lab) -> None:
    near, far = os.openpty()
    """And the open ports as they are found."""
    argv = [*SCAN, "10.77.0.2", "-p", "22,79-81", "--rate", "1", "--open"]
    with lab.a:
        process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=far)
    os.close(far)
    try:
        shown = b""
        port = rb"10.77.0.2  (22|80)/tcp +syn-ack\r\n"
        line = rb"\d+% of 4 ports known, [12] open; \d probes; about \d s left"
        while not re.search(port + line, shown):
            assert process.poll() is None, shown
            shown += os.read(near, 4096)
    finally:
        process.kill()
        process.wait()
        os.close(near)


def test_targets_and_exclusions_from_files(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("# ours\n10.77.0.1, 10.77.0.2 # both\nfd77::2\n")
    (tmp_path / "out").write_text("\nfd77::/64\n")
    files = ("-iL", str(tmp_path / "in"), "--exclude-file", str(tmp_path / "out"))
    done = run(lab, *files, "--top", "3", "--services", "own", "--json")
    found = {(r["address"], r["port"]) for r in records(done.stdout) if r["type"] == "port"}
    assert found == {(address, port) for address in ("10.77.0.1", "10.77.0.2") for port in (22, 80, 443)}


def test_a_huge_scan_begins_at_once_in_little_memory(lab: Lab, tmp_path: Path) -> None:
    """1.6 * 10**9 probes; the first is seen within half a second where the machine has nothing else to do.

    Once out of six is enough: something else may have run.
    """
    lab.a.run(["ip", "route", "add", "10.0.0.0/8", "via", str(lab.b.ipv4)], check=True)
    for attempt in range(6):
        took, peak = first_probe(lab, tmp_path / f"probes{attempt}.pcap")
        assert peak < 150 << 20
        if took < 0.5:
            break
    assert took < (0.5 if calm() else 5)


def first_probe(lab: Lab, path: Path) -> tuple[float, int]:
    """Seconds until a dry run's first probe is there, and octets of memory that it takes for 95,000."""
    os.mkfifo(path)
    argv = [sys.executable, "-P", "-m", "rawkit", "scan", "10.0.0.0/8", "--top", "100", "--yes", "--dry-run"]
    start = time.monotonic()
    with lab.a:
        process = subprocess.Popen([*argv, str(path)])
    try:
        with path.open("rb") as file:
            assert len(file.read(24 + 16 + 44)) == 84
            took = time.monotonic() - start
            file.read(4 << 20)
            status = Path(f"/proc/{process.pid}/status").read_text()
    finally:
        process.kill()
        process.wait()
    (peak_kib,) = re.findall(r"VmHWM:\s*(\d+) kB", status)
    return took, int(peak_kib) * 1024


def test_json_of_open_ports_only(lab: Lab) -> None:
    done = run(lab, "10.77.0.2", "-p", "1-100", "--json", "--open")
    assert sorted(r["port"] for r in records(done.stdout) if r["type"] == "port") == [22, 80]


@pytest.mark.parametrize(("option", "kind"), [("-sS", "syn"), ("-sT", "connect")])
def test_options_of_nmap(option: str, kind: str, lab: Lab) -> None:
    words = "-Pn -n --reason --max-retries 1 --max-rate 500 -e veth0 -p80 10.77.0.2 --json"
    done = run(lab, option, *words.split())
    assert (done.returncode, records(done.stdout)[1]["kind"]) == (0, kind)


def test_dry_run(lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "probes.pcapng"
    done = run(lab, "10.77.0.2", "-p", "1-10", "--dry-run", str(path))
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"10 probes written to {path}, none sent\n"
    with open_pcap(path) as file:
        assert sorted(frame.packet()[TCP].dport for frame in file) == list(range(1, 11))


def test_without_permission(lab: Lab) -> None:
    prefix = [oracle("setpriv"), "--bounding-set", "-all", "--inh-caps", "-all", "--"]
    done = run(lab, "10.77.0.2", "-p", "79,80", prefix=prefix)
    assert done.returncode == 0
    first, last = done.stderr.splitlines()
    assert first.startswith("connect scan instead of SYN scan: open packet socket")
    assert "needs CAP_NET_RAW" in first
    assert last.startswith("connect scan of 1 address")
    assert "80/tcp  open    http     connected" in done.stdout

    done = run(lab, "10.77.0.2", "-p", "79,80", "--type", "syn", prefix=prefix)
    assert (done.returncode, done.stdout) == (77, "")
    assert "needs CAP_NET_RAW" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["10.77.0.300"], 2, "bad target '10.77.0.300': '300' is outside 0..255"),
        (["10.77.0.2-1"], 2, "bad target"),
        (["no such name"], 2, "cannot resolve"),
        (["10.77.0.2", "-p", "65536"], 2, "bad port '65536': ports are 0..65535"),
        (["10.77.0.2", "-p", "9-1"], 2, "bad port range '9-1': it ends before it begins"),
        (["10.77.0.2", "-p", "nosuchservice"], 2, "bad port 'nosuchservice'"),
        (["10.77.0.2", "-I", "nope0"], 2, "there is no interface with name 'nope0'"),
        (["10.77.0.2", "--timeout", "soon"], 2, "bad duration 'soon'"),
        (["10.77.0.2", "--timeout", "0"], 2, "timeout of 0 s"),
        (["10.77.0.2", "--rate", "0"], 2, "--rate"),
        (["10.77.0.2", "--retries", "-1"], 2, "--retries"),
        (["10.77.0.2", "--type", "idle"], 2, "--type: kind 'idle': there are auto, syn, "),
        (["10.77.0.2", "-sT", "-g", "1000"], 2, "source_port is for SYN scans"),
        (["10.77.0.2", "-sT", "--dry-run", "x.pcapng"], 2, "--dry-run is for SYN scans"),
        (["10.77.0.2", "-p", "80", "--dry-run", "/nonexistent/x.pcapng"], 2, "/nonexistent/x.pcapng"),
        (["10.77.0.2", "--exclude", "10.77.0.0/24"], 2, "no targets are left"),
        (["192.0.2.1"], 2, "no route to 192.0.2.1"),
        (["224.0.0.1"], 2, "bad target 224.0.0.1: multicast addresses are not scanned"),
        (["10.77.0.255"], 2, "bad target 10.77.0.255: a broadcast address of 10.77.0.0/24"),
        (["11.0.0.0/15"], 2, "131072 addresses outside private ranges: add --yes"),
        ([], 2, "no targets"),
    ],
)
def test_bad_input_is_one_line(args: list[str], code: int, message: str, lab: Lab) -> None:
    done = run(lab, *args)
    assert (done.returncode, done.stdout) == (code, "")
    assert message in done.stderr
    assert done.stderr.startswith("rawkit scan: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("as_json", [False, True])
def test_interrupted_it_prints_what_is_known(as_json: bool, lab: Lab) -> None:
    args = ["10.77.0.2", "-p-", "--rate", "200", *(["--json"] if as_json else [])]
    with (
        PacketSocket("veth0", filter="tcp[tcpflags] & tcp-syn != 0", namespace=lab.b.namespace) as probes,
        lab.a.spawn(
            [*SCAN, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
        ) as process,
    ):
        for _, _ in zip(range(50), probes.frames(timeout=20)):
            if as_json:  # results come while it goes on
                process.stdout.readline()
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=20)
    assert process.returncode == 130
    assert stderr.startswith("interrupted: syn scan of 1 address, 65535 ports each")
    assert "Traceback" not in stderr
    if as_json:
        *_, summary = records(stdout)
        assert (summary["type"], summary["complete"]) == ("summary", False)
        assert 0 < summary["probes"] < 65535
    else:
        assert stdout.startswith("10.77.0.2: ")
        assert " of 65535 ports\n" in stdout


def test_a_reader_that_leaves_early_is_no_error(lab: Lab) -> None:
    with lab.a.spawn(
        [*SCAN, "10.77.0.2", "-p-", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert json.loads(process.stdout.readline())["type"] == "header"
        process.stdout.close()
        assert process.wait(timeout=20) == 0
        assert process.stderr.read() == ""
