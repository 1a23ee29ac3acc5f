"""The captures in pcaps/: they show what their README says, and read as their texts and tshark say."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from oracles import oracle

from rawkit.cli.main import main
from rawkit.pcap import create_pcap, open_pcap
from rawkit.wire import ARP, ICMP, SACK, TCP, UDP, ICMPv6, IPv4
from rawkit.wire.frame import Frame
from rawkit.wire.header import Header
from rawkit.wire.udplite import UDPLite

PCAPS = Path(__file__).parents[1] / "pcaps"
NAMES = sorted(path.stem for path in PCAPS.glob("*.pcapng"))
RECORDED = ["dns", "http", "offload", "ping", "retransmission", "udp"]
"""Those of real programs, whose times and interfaces are not made up."""


@cache
def frames_of(name: str) -> list[Frame]:
    with open_pcap(PCAPS / f"{name}.pcapng") as reader:
        return list(reader)


def tshark(path: Path, *args: str) -> str:
    """What tshark says of a file; it must not complain."""
    done = subprocess.run(
        [oracle("tshark"), "-n", "-r", path, *args], capture_output=True, text=True, timeout=60
    )
    complaints = [line for line in done.stderr.splitlines() if not line.startswith("Running as user")]
    assert (done.returncode, complaints) == (0, [])
    return done.stdout


def test_each_capture_is_in_the_readme_and_has_its_text() -> None:
    listed = re.findall(r"^\| `([\w-]+)\.pcapng` \|", (PCAPS / "README.md").read_text(), re.MULTILINE)
    assert sorted(listed) == NAMES == sorted(path.stem for path in PCAPS.glob("*.txt"))
    assert len(NAMES) >= 18


@pytest.mark.parametrize("name", NAMES)
def test_read_prints_its_text(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["read", "-t", "relative", str(PCAPS / f"{name}.pcapng")], standalone_mode=False) == 0
    assert capsys.readouterr().out == (PCAPS / f"{name}.txt").read_text()


def test_the_families_are_made_again_octet_by_octet(tmp_path: Path) -> None:
    subprocess.run([sys.executable, PCAPS / "families.py", tmp_path], check=True, timeout=60)
    made = sorted(tmp_path.iterdir())
    assert len(made) == 24
    for path in made:
        assert path.read_bytes() == (PCAPS / path.name).read_bytes(), path.name


@pytest.mark.parametrize("name", NAMES)
def test_captures_stay_small(name: str) -> None:
    assert (PCAPS / f"{name}.pcapng").stat().st_size < 100_000


# ---- what the README says they show ---------------------------------------------------------------


def test_http_shows_a_whole_connection() -> None:
    segments = [frame.packet()[TCP] for frame in frames_of("http")]
    assert [segment.flags for segment in segments[:3]] == [TCP.SYN, TCP.SYN | TCP.ACK, TCP.ACK]
    assert sum(bool(segment.flags & TCP.FIN) for segment in segments) == 2
    payloads = b"".join(frame.packet().payload for frame in frames_of("http"))
    assert payloads.startswith(b"GET / HTTP/1.1\r\n")
    assert b"HTTP/1.1 200 OK\r\n" in payloads


def test_offload_shows_what_was_left_to_hardware() -> None:
    frames = frames_of("offload")
    assert max(len(frame.data) for frame in frames) > 1514 * 4
    assert {frame.checksum for frame in frames} == {"not ready"}
    verdicts = Counter((v.layer, v.state) for frame in frames for v in frame.checksums())
    assert verdicts == {(IPv4, "good"): len(frames), (TCP, "not filled in"): len(frames)}


def test_dns_shows_both_families_and_a_name_that_is_not_there() -> None:
    answers = tshark(
        PCAPS / "dns.pcapng", "-Y", "dns.flags.response == 1", "-T", "fields", "-E", "occurrence=f",
        "-e", "ip.src", "-e", "ipv6.src", "-e", "dns.qry.name", "-e", "dns.qry.type",
        "-e", "dns.flags.rcode", "-e", "dns.a", "-e", "dns.aaaa",
    )  # fmt: skip
    assert [line.split("\t") for line in answers.splitlines()] == [
        ["10.77.0.2", "", "www.example.test", "1", "0", "192.0.2.80", ""],
        ["", "fd77::2", "www.example.test", "28", "0", "", "2001:db8::80"],
        ["10.77.0.2", "", "nowhere.test", "1", "3", "", ""],
    ]


def test_ping_shows_resolution_and_three_echoes_of_each_family() -> None:
    packets = [frame.packet() for frame in frames_of("ping")]
    assert [packet[ARP].op for packet in packets if ARP in packet] == [1, 2]
    types = [packet[ICMP].type for packet in packets if ICMP in packet]
    assert types == [8, 0] * 3
    types = [packet[ICMPv6].type for packet in packets if ICMPv6 in packet]
    assert types == [135, 136] + [128, 129] * 3


def test_udp_shows_echoes_and_a_closed_port() -> None:
    packets = [frame.packet() for frame in frames_of("udp")]
    echoed = [
        packet.payload
        for packet in packets
        if UDP in packet and packet[UDP].sport == 7 and ICMP not in packet
    ]
    assert echoed == [b"one\n", b"two\n", b"three\n"]
    error = packets[-1]
    assert (error[ICMP].type, error[ICMP].code) == (3, 3)
    quoted = error.get(IPv4, 1)
    assert quoted is not None
    assert (str(quoted.dst), error[UDP].dport) == ("10.77.0.2", 9)


def test_retransmission_shows_losses_and_what_repairs_them() -> None:
    packets = [frame.packet() for frame in frames_of("retransmission")]
    sent = Counter((packet[TCP].sport, packet[TCP].seq) for packet in packets if packet.payload)
    assert max(sent.values()) > 1
    assert any(isinstance(option, SACK) for packet in packets for option in packet[TCP].options)
    acknowledged = Counter(
        packet[TCP].ack for packet in packets if packet[TCP].dport == 80 and not packet.payload
    )
    assert max(acknowledged.values()) > 3  # duplicate acknowledgements (RFC 5681 section 3.2)
    analysis = tshark(PCAPS / "retransmission.pcapng", "-Y", "tcp.analysis.retransmission")
    assert analysis


# ---- packet by packet, with tshark ----------------------------------------------------------------

DATAGRAMS = (UDP, UDPLite)
"""tshark shows both under the same names."""

STATUS: dict[str, type[Header] | tuple[type[Header], ...]] = {
    "ip.checksum.status": IPv4,
    "tcp.checksum.status": TCP,
    "udp.checksum.status": DATAGRAMS,
    "icmp.checksum.status": ICMP,
    "icmpv6.checksum.status": ICMPv6,
}
TEXTS = ["_ws.expert.message", "_ws.col.Info"]
BAD, GOOD = "0", "1"


@cache
def dissected(path: Path) -> list[dict[str, list[str]]]:
    """tshark's lengths, times and verdicts of each packet; `wire.test_tshark` compares the fields."""
    names = ["frame.number", "frame.len", "frame.time_relative", *STATUS, *TEXTS]
    output = tshark(
        path, "-T", "fields", "-E", "occurrence=a", "-E", "aggregator=;",
        "-o", "udplite.check_checksum:TRUE",
        *(word for protocol in ("ip", "tcp", "udp") for word in ("-o", f"{protocol}.check_checksum:TRUE")),
        *(word for field in names for word in ("-e", field)),
    )  # fmt: skip
    return [
        {field: text.split(";") if text else [] for field, text in zip(names, line.split("\t"), strict=True)}
        for line in output.splitlines()
    ]


@pytest.mark.parametrize("name", NAMES)
def test_every_checksum_verdict_is_tsharks(name: str) -> None:
    """Where tshark says Bad of a checksum that was left to hardware, we know that it was left.

    A segment or datagram that an ICMP error quotes may have been changed and cut on its way: tshark judges
    it all the same, we do not.
    """
    for row, frame in zip(dissected(PCAPS / f"{name}.pcapng"), frames_of(name), strict=True):
        verdicts = frame.checksums()
        expected = [
            int(text, 16) for text in re.findall(r"should be (0x\w+)", " ".join(row["_ws.expert.message"]))
        ]
        assert [v.expected for v in verdicts if v.state not in ("good", "unknown")] == expected
        quoting = any(header.quotes for header in frame.packet().layers)
        for field, layer in STATUS.items():
            states = [v.state for v in verdicts if issubclass(v.layer, layer)]
            if quoting and layer in (TCP, DATAGRAMS):
                assert set(states) <= {"unknown"}
                continue
            translated = {"good": GOOD, "bad": BAD, "not filled in": BAD}
            assert [translated[state] for state in states] == row[field], row["frame.number"]


@pytest.mark.parametrize("name", NAMES)
def test_lengths_and_times_are_tsharks(name: str) -> None:
    frames = frames_of(name)
    for row, frame in zip(dissected(PCAPS / f"{name}.pcapng"), frames, strict=True):
        seconds, nanoseconds = divmod(frame.time_ns - frames[0].time_ns, 10**9)
        assert row["frame.time_relative"] == [f"{seconds}.{nanoseconds:09d}"]
        assert row["frame.len"] == [str(frame.wire_len)]


@pytest.mark.parametrize("suffix", ["pcap", "pcapng"])
@pytest.mark.parametrize("name", RECORDED)
def test_tshark_reads_what_is_written_anew(name: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"copy.{suffix}"
    with create_pcap(path, linktype=1) as writer:
        for frame in frames_of(name):
            writer.write(frame)
    assert dissected(path) == dissected(PCAPS / f"{name}.pcapng")
