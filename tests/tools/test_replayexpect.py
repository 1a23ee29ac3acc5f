"""Replay of one side of a capture: the kernels and servers of a lab play the other."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from rawkit.lab import Lab, servers
from rawkit.pcap import create_pcap, open_pcap
from rawkit.tools.replayexpect import Expectation, ExpectReport
from rawkit.tools.replayplan import ReplayConfig
from rawkit.tools.rewrite import Rewrite, parse_prefix_map
from rawkit.wire import TCP, UDP, Ether, IPv4, IPv6
from rawkit.wire.frame import Frame

pytestmark = pytest.mark.net

HTTP = Path(__file__).parents[2] / "pcaps" / "http.pcapng"
NOBODY = parse_prefix_map("10.77.0.1=10.77.0.99"), parse_prefix_map("fd77::1=fd77::99")
MS = 1_000_000


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


@contextmanager
def http(lab: Lab) -> Iterator[None]:
    """The server that made the fixture, on host b."""
    with lab.b:
        listening = socket.create_server(("0.0.0.0", 80))

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                with connection:
                    servers.serve_http(connection)

    threading.Thread(target=serve, daemon=True).start()
    with listening:
        yield
        listening.shutdown(socket.SHUT_RDWR)


@contextmanager
def echo(lab: Lab, change: tuple[bytes, bytes] = (b"", b"")) -> Iterator[None]:
    """UDP port 7 of host b gives back what comes."""
    with lab.b:
        sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sock.bind(("::", 7))

    def serve() -> None:
        while (got := sock.recvfrom(65536))[0] != b"end":
            sock.sendto(got[0].replace(*change), got[1])

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with sock:
        try:
            yield
        finally:
            with lab.b:
                last = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
            with last:
                last.sendto(b"end", ("::1", 7))
            thread.join(timeout=60)


def expect(
    lab: Lab, frames: Iterable[Frame], *, wait: float = 10, ignore: tuple[str, ...] = (), **changes: object
) -> ExpectReport:
    rewrite = Rewrite(**({"dst_mac": lab.b.mac, "prefixes": NOBODY} | changes))  # type: ignore[arg-type]
    with lab.a:
        run = Expectation(frames, ReplayConfig("veth0", rewrite=rewrite), wait=wait, ignore=ignore)
        return run.run()


def asked(lab: Lab, *said: bytes, ipv6: bool = False) -> list[Frame]:
    """Datagrams from a to b's port 7 and back, and between them one that answers nothing."""
    frames = []
    addresses = (lab.a.ipv6, lab.b.ipv6) if ipv6 else (lab.a.ipv4, lab.b.ipv4)
    for octets in said:
        for ports, ends in (((5000, 7), addresses), ((7, 5000), addresses[::-1])):
            header = IPv6(src=ends[0], dst=ends[1]) if ipv6 else IPv4(src=ends[0], dst=ends[1], flags=IPv4.DF)
            packet = Ether() / header / UDP(sport=ports[0], dport=ports[1]) / octets
            frames.append(Frame(bytes(packet), len(frames) * MS))
    return frames


def test_a_tcp_connection_with_another_kernel(lab: Lab) -> None:
    """Sequence numbers and time stamps are others; who has the address is answered for the client."""
    with http(lab), open_pcap(HTTP) as reader:
        report = expect(lab, reader)
    assert report.mismatches == []
    assert report.good
    assert (report.sent, report.expected, report.matched) == (8, 5, 5)
    assert (report.failed, report.skipped, report.own_addresses) == ({}, {}, [])


@pytest.mark.parametrize(("at", "number"), [(200, 6), (2000, 8), (3900, 10)])
def test_a_changed_server_is_told_with_the_packet(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, at: int, number: int
) -> None:
    head = 3962 - len(servers.PAGE)
    page = bytearray(servers.PAGE)
    page[at - head] ^= 1
    monkeypatch.setitem(servers.CONTENT, b"/", bytes(page))
    with http(lab), open_pcap(HTTP) as reader:
        report = expect(lab, reader)
    (mismatch,) = report.mismatches
    assert (mismatch.number, mismatch.kind, report.matched) == (number, "differs", 4)
    (difference,) = mismatch.differences
    assert difference.startswith(f"payload at offset {66 + at % 1448}: ")
    assert not report.good


@pytest.mark.parametrize("ipv6", [False, True])
def test_datagrams(lab: Lab, ipv6: bool) -> None:
    frames = asked(lab, b"one", b"two", b"three", ipv6=ipv6)
    with echo(lab):
        report = expect(lab, frames)
    assert (report.mismatches, report.sent, report.matched) == ([], 3, 3)
    with echo(lab, (b"w", b"v")):
        report = expect(lab, frames)
    (mismatch,) = report.mismatches
    assert (mismatch.number, mismatch.kind, report.matched) == (4, "differs", 2)
    assert [line.split(":")[0] for line in mismatch.differences] == [
        f"payload at offset {63 if ipv6 else 43}"
    ]


def test_fields_that_need_not_be_the_same(lab: Lab) -> None:
    frames = asked(lab, b"one")
    with echo(lab):
        report = expect(lab, frames, ttl=9)
        assert [mismatch.differences for mismatch in report.mismatches] == [
            ["IPv4.ttl at offset 22: 9 -> 64"]
        ]
        assert expect(lab, frames, ttl=9, ignore=("ipv4.TTL",)).good


def test_answers_that_do_not_come_and_others_that_do(lab: Lab) -> None:
    frames = asked(lab, b"one", b"two")
    report = expect(lab, frames, wait=0.1)  # nobody listens there
    assert [(mismatch.number, mismatch.kind) for mismatch in report.mismatches] == [
        (2, "missing"),
        (4, "missing"),
    ]
    assert report.other > 0  # port unreachable
    syn = Ether() / IPv4(src=lab.a.ipv4, dst=lab.b.ipv4) / TCP(sport=5000, dport=80, flags=TCP.SYN)
    report = expect(lab, [Frame(bytes(syn), 1), frames[2], frames[3]], wait=0.1)
    assert [mismatch.kind for mismatch in report.mismatches] == ["missing", "unexpected"]
    assert "Flags [R.]" in report.mismatches[1].summary


def test_a_clients_address_that_is_this_hosts(lab: Lab) -> None:
    with http(lab), open_pcap(HTTP) as reader:
        report = expect(lab, reader, prefixes=(), wait=0.2)
    assert report.own_addresses == [str(lab.a.ipv4)]
    assert not report.good


def test_merged_answers_of_the_file_are_expected_in_segments(lab: Lab, tmp_path: Path) -> None:
    """Numbers of packets are those of the file, whatever was passed over before."""
    with open_pcap(HTTP) as reader:
        frames = list(reader)
    packet = frames[5].packet()
    merged = packet.replace(IPv4, total_length=52 + 3962) / b""
    data = bytes(merged)[:66] + b"".join(frames[i].packet().payload for i in (5, 7, 9))
    frames[5] = Frame(data, frames[5].time_ns, gso_len=1448)
    kept = [frame for i, frame in enumerate(frames) if i not in (7, 9)]
    with http(lab):
        report = expect(lab, kept, ignore=("TCP.flags",))
        assert (report.mismatches, report.matched) == ([], 5)


def test_the_command(lab: Lab, tmp_path: Path) -> None:
    path = tmp_path / "in.pcap"
    with create_pcap(path) as writer:
        for frame in asked(lab, b"one", b"two"):
            writer.write(frame)
    argv = [
        sys.executable, "-m", "rawkit", "replay", str(path), "-i", "veth0", "--expect",
        "--dst-mac", str(lab.b.mac), "--map", "10.77.0.1=10.77.0.99",
    ]  # fmt: skip
    with echo(lab):
        done = lab.a.run([*argv, "--wait", "10"], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "2 packets sent on veth0; 2 of 2 answers as in the capture\n"
    with echo(lab, (b"two", b"2")):
        done = lab.a.run([*argv, "--wait", "10"], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (1, "")
        lines = done.stdout.splitlines()
        assert lines[0].startswith("packet 4 differs: IP 10.77.0.2.7 > 10.77.0.99.5000: ")
        assert lines[-2].startswith("  payload at offset 42: 74 77 6f -> 32")
        assert lines[-1] == "2 packets sent on veth0; 1 of 2 answers as in the capture"
        done = lab.a.run([*argv, "--skip", "2", "--json"], capture_output=True, text=True)
    header, mismatch, report = map(json.loads, done.stdout.splitlines())
    assert header["schema"] == "rawkit.replay-expect/1"
    assert (mismatch["number"], mismatch["kind"]) == (4, "differs")
    assert (report["sent"], report["expected"], report["matched"], report["mismatched"]) == (1, 1, 0, 1)
    done = lab.a.run([*argv, "-l", "2"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "--expect goes by the answers: --loop does not go with it" in done.stderr
