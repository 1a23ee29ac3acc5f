"""`rawkit ping`: its lines, JSON, exit statuses and signals."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from jsonlines import strict

from rawkit.cli.ping import event_line, milliseconds, statistics_text
from rawkit.lab import Lab
from rawkit.tools.ping import PingError, PingReply, PingSummary, PingTimeout

if TYPE_CHECKING:
    from conftest import VethPair

RTT = r"\d+\.\d{3}"


def rawkit(*args: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rawkit", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, **options)


@pytest.mark.net
@pytest.mark.parametrize(
    ("address", "first"),
    [
        ("127.0.0.1", r"PING 127\.0\.0\.1 \(127\.0\.0\.1\) 56\(84\) bytes of data\."),
        ("::1", r"PING ::1 \(::1\) 56 data bytes"),
    ],
)
def test_lines(address: str, first: str) -> None:
    done = rawkit("ping", "-c", "2", "-i", "10ms", address)
    assert (done.returncode, done.stderr) == (0, "")
    where = re.escape(address)
    assert re.fullmatch(
        rf"{first}\n"
        rf"64 bytes from {where}: icmp_seq=1 ttl=64 time=[\d.]+ ms\n"
        rf"64 bytes from {where}: icmp_seq=2 ttl=64 time=[\d.]+ ms\n"
        "\n"
        rf"--- {where} ping statistics ---\n"
        r"2 packets transmitted, 2 received, 0% packet loss, time \d+ms\n"
        rf"rtt min/avg/max/mdev = {RTT}/{RTT}/{RTT}/{RTT} ms\n"
        rf"rtt median/p90/p95/p99/jitter = {RTT}/{RTT}/{RTT}/{RTT}/{RTT} ms\n",
        done.stdout,
    ), done.stdout


@pytest.mark.net
def test_options_reach_the_wire(veth: VethPair) -> None:
    done = rawkit("ping", "-c1", "-s", "100", "-t", "9", "-I", veth.near, "-q", veth.far_ipv4)
    assert done.returncode == 0
    assert done.stdout.startswith(f"PING {veth.far_ipv4} ({veth.far_ipv4}) 100(128) bytes of data.\n\n---")


@pytest.mark.net
def test_json_and_a_target_that_does_not_answer(veth: VethPair) -> None:
    done = rawkit(
        *("ping", "--json", "-c", "2", "-i", "0.02", "-W", "100ms"),
        *(veth.far_ipv4, veth.far_ipv6, "10.77.0.99", "198.51.100.1"),
    )
    assert done.returncode == 1  # one has not answered
    records = strict(done.stdout)
    assert records[0] == {"type": "header", "schema": "rawkit.ping/1"}
    assert records[1]["type"] == "session"
    assert records[1]["sockets"] == {"4": "raw", "6": "raw"}
    kinds = [record["type"] for record in records[2:]]
    assert kinds.count("reply") == 4
    assert kinds.count("timeout") == 2
    assert kinds.count("error") == 2
    assert kinds[-4:] == ["summary"] * 4
    reply = next(record for record in records if record["type"] == "reply")
    assert reply["rx_stamp"] == "kernel"
    assert 0 < reply["rtt_ns"] < 10**9
    dead = next(r for r in records if r["type"] == "summary" and r["address"] == "10.77.0.99")
    assert (dead["sent"], dead["received"], dead["loss"], dead["min_ns"]) == (2, 0, 1.0, None)


@pytest.mark.net
@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["127.0.0.1"], 0),
        (["127.0.0.1", "::1"], 0),
        (["198.51.100.1"], 1),
        (["127.0.0.1", "198.51.100.1"], 1),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_exit_status(args: list[str], code: int) -> None:
    assert rawkit("ping", "-c1", "-W", "0.2", "-q", *args).returncode == code


@pytest.mark.net
@pytest.mark.parametrize(
    ("args", "reason"),
    [
        ([], "Missing argument"),
        (["127.0.0.300"], "outside 0..255"),
        (["no.such.host.invalid"], "cannot resolve 'no.such.host.invalid'"),
        (["-c", "0", "::1"], "-c"),
        (["-c", "x", "::1"], "-c"),
        (["-i", "x", "::1"], "bad duration 'x'"),
        (["-i", "0", "::1"], "interval"),
        (["-i", "-1", "::1"], "duration"),
        (["-W", "0", "::1"], "timeout"),
        (["-s", "65528", "::1"], "-s"),
        (["-s", "65508", "127.0.0.1"], "do not fit IPv4"),
        (["-t", "0", "::1"], "-t"),
        (["-t", "256", "::1"], "-t"),
        (["-4", "::1"], "IPv4 is wanted"),
        (["-6", "127.0.0.1"], "IPv6 is wanted"),
        (["-4", "-6", "::1"], "exclude"),
        (["-I", "nope", "::1"], "nope"),
        (["224.0.0.1"], "many hosts"),
        (["10.0.0.0/8"], "too many targets"),
        (["fe80::1%nope"], "nope"),
        (["--frobnicate", "::1"], "--frobnicate"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line(args: list[str], reason: str) -> None:
    done = rawkit("ping", "-c1", *args)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("rawkit ping: ")
    assert reason in done.stderr


def start(*args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "rawkit", "ping", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.net
@pytest.mark.parametrize(("address", "code"), [("127.0.0.1", 0), ("10.77.0.99", 1)])
def test_interrupt_prints_the_statistics(veth: VethPair, address: str, code: int) -> None:
    with start("-i", "50ms", address) as process:
        assert process.stdout is not None
        process.stdout.readline()
        if code == 0:
            process.stdout.readline()  # of an answer; the other address gives none for the next second
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
    assert (process.returncode, err) == (code, "")
    assert f"--- {address} ping statistics ---" in out
    assert "packets transmitted" in out


@pytest.mark.net
def test_quit_prints_a_line_and_goes_on() -> None:
    with start("-i", "20ms", "-c", "40", "127.0.0.1") as process:
        assert process.stdout is not None
        for _ in range(5):
            process.stdout.readline()
        process.send_signal(signal.SIGQUIT)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert re.fullmatch(
        rf"127\.0\.0\.1: \d+/\d+ packets, \S+% loss, min/avg/max = {RTT}/{RTT}/{RTT} ms\n", err
    )
    assert "40 packets transmitted, 40 received" in out


@pytest.mark.net
def test_reader_that_goes_away_ends_it_quietly() -> None:
    with start("-i", "10ms", "127.0.0.1") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=10) == 0
        assert process.stderr.read() == ""


@pytest.mark.net
def test_ordinary_user(ordinary: list[str]) -> None:
    def run(*args: str) -> subprocess.CompletedProcess[str]:
        argv = [*ordinary, "-m", "rawkit", "ping", *args]
        return subprocess.run(argv, capture_output=True, text=True, timeout=30)

    done = run("-c1", "127.0.0.1")  # a new network namespace opens ICMP datagram sockets to nobody (icmp(7))
    assert (done.returncode, done.stdout) == (77, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(
        "rawkit ping: open ICMP datagram socket on IPv4 protocol 1: Permission denied;"
    )
    for remedy in (
        "sudo sysctl -w net.ipv4.ping_group_range=",
        "a raw socket, which needs CAP_NET_RAW: run as root",
    ):
        assert remedy in done.stderr
    with Lab() as lab, lab.a:  # the lab opens them to everybody
        assert run("-c2", "-i", "2ms", str(lab.b.ipv4)).returncode == 0
        done = run("-c2", "-i", "1ms", str(lab.b.ipv4))
    assert done.returncode == 2
    assert "need CAP_NET_RAW" in done.stderr


@pytest.mark.net
def test_starts_quickly() -> None:
    # Processor time, which is what it takes on a machine that has nothing else to do.
    used = []
    for _ in range(3):
        before = os.times()
        assert rawkit("ping", "-q", "-c1", "127.0.0.1").returncode == 0
        after = os.times()
        used.append(
            after.children_user + after.children_system - before.children_user - before.children_system
        )
    assert min(used) < 0.35


# ---- formatting -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("time_ns", "text"),
    [
        (0, "0.000"),
        (43_210, "0.043"),
        (999_499, "0.999"),
        (999_600, "1.00"),
        (1_234_567, "1.23"),
        (12_345_678, "12.3"),
        (99_960_000, "100"),
        (123_456_789, "123"),
    ],
)
def test_milliseconds(time_ns: int, text: str) -> None:
    assert milliseconds(time_ns) == text


def test_event_lines() -> None:
    reply = PingReply("www.example", "192.0.2.1", 3, 43_000, 61, 64, 0, "kernel", late=True, corrupted=True)
    assert event_line(reply) == (
        "64 bytes from www.example (192.0.2.1): icmp_seq=3 ttl=61 time=0.043 ms (late) (CORRUPTED)"
    )
    assert event_line(PingReply("192.0.2.1", "192.0.2.1", 3, 1, 1, 8, 0, "user", duplicate=True)) == (
        "8 bytes from 192.0.2.1: icmp_seq=3 ttl=1 time=0.000 ms (DUP!)"
    )
    assert event_line(PingTimeout("192.0.2.1", "192.0.2.1", 4, 500_000_000, 0)) == (
        "no reply from 192.0.2.1: icmp_seq=4 within 500 ms"
    )
    assert event_line(PingError("a", "192.0.2.1", 5, "198.51.100.1", 3, 1, "host unreachable", 0)) == (
        "From 198.51.100.1: icmp_seq=5 to 192.0.2.1: host unreachable"
    )


def test_statistics_name_what_went_wrong() -> None:
    summary = PingSummary("a", "192.0.2.1", 8, 3, 1, 2, 1, 4, 1, 3, 0.625, 7_000_000_000)
    assert statistics_text(summary) == (
        "--- a ping statistics ---\n"
        "8 packets transmitted, 3 received, +1 duplicates, +2 corrupted, 1 late, 1 reordered, +4 errors, "
        "62.5% packet loss, 3 in a row, time 7000ms"
    )


@pytest.mark.net
@pytest.mark.parametrize(
    ("line", "types"),
    [
        ("-c2 -i10ms {v4} {v6}", {"reply", "summary"}),
        ("-c1 -W 50ms {absent}", {"timeout", "summary"}),
        ("-c1 -b ff02::1%veth0 -W 100ms", {"reply", "summary"}),
        ("-c20 -A {v4} -q", {"summary"}),
        ("-c1 --tcp 9 {v4} {v6}", {"reply", "summary"}),
        ("-c1 --udp 9 {v4} {v6}", {"reply", "summary"}),
        ("-c1 --arp {v4} {v6}", {"reply", "summary"}),
        ("--pmtu {v4} {v6}", {"step", "pmtu"}),
    ],
)
def test_json_of_each_mode(line: str, types: set[str]) -> None:
    with Lab() as lab:
        names = {"v4": str(lab.b.ipv4), "v6": str(lab.b.ipv6), "absent": "10.77.0.99"}
        argv = [sys.executable, "-m", "rawkit", "ping", "--json", *line.format(**names).split()]
        done = lab.a.run(argv, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == ("absent" in line, "")
    header, *rows = strict(done.stdout)
    assert header == {"type": "header", "schema": "rawkit.ping/1"}
    if "--pmtu" not in line:
        assert rows.pop(0)["type"] == "session"
    assert {row["type"] for row in rows} == types


@pytest.mark.net
def test_lines_of_ports_links_and_the_path() -> None:
    with Lab() as lab:

        def lines(*args: str) -> str:
            argv = [sys.executable, "-m", "rawkit", "ping", *args, str(lab.b.ipv4)]
            text: str = lab.a.run(argv, capture_output=True, text=True, timeout=30).stdout
            return text

        assert re.match(
            r"PING 10\.77\.0\.2 \(10\.77\.0\.2\) by tcp port 9\.\n"
            r"40 bytes from 10\.77\.0\.2: port 9 closed seq=1 ttl=64 time=[\d.]+ ms\n",
            lines("-c1", "--tcp", "9"),
        )
        assert "from 10.77.0.2: is at 00:00:5e:00:53:02 seq=1 time=" in lines("-c1", "--arp")
        assert lines("--pmtu").endswith("10.77.0.2: path MTU 1500 (first link 1500)\n")
        assert re.search(r"^\[\d+\.\d{6}\] 64 bytes from", lines("-c1", "-D"), re.MULTILINE)
