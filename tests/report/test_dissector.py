"""Generated dissectors under tshark: fields as rawkit decodes them, verdicts as the run itself knows them."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import oracles
import pytest
from report.tshark import columns

from rawkit.pcap import create_pcap
from rawkit.report.analysis import Analysis, Roles, numbering
from rawkit.report.capture import write_pcapng
from rawkit.report.dissector import dissector, protocol_name
from rawkit.sim import Bernoulli, Corrupt, Duplicate, LinkSpec, Reorder, Transfer
from rawkit.tools.scaffold import scaffold
from rawkit.transport import Endpoint
from rawkit.transport.endpoint import Context
from rawkit.transport.protocols.go_back_n import GoBackN, GoBackNHeader
from rawkit.transport.protocols.selective_repeat import SelectiveRepeat, SelectiveRepeatHeader
from rawkit.transport.protocols.stop_and_wait import StopAndWait, StopAndWaitHeader
from rawkit.transport.scoreboard import Segment
from rawkit.transport.trace import Trace, TraceEvent
from rawkit.wire import UDP, Ether, Header, ICMPUnreachable, IPv4, IPv6
from rawkit.wire.field import auto, crc32c, field, flags8, inet_checksum, u8, u16, u24, u32
from rawkit.wire.frame import Frame

SENT_AGAIN: Counter[str] = Counter()
"""How often each protocol's own code sent something again, by the protocol's name."""


class CountedStopAndWait(StopAndWait, header=StopAndWaitHeader):
    def transmit(self, cx: Context) -> None:
        SENT_AGAIN[type(self).__name__] += bool(self.units and self.tried)
        super().transmit(cx)


class CountedGoBackN(GoBackN, header=GoBackNHeader):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.sent_numbers: set[int] = set()

    def send(self, cx: Context, flags: int, payload: bytes = b"", number: int = 0) -> None:
        if flags != 4:
            SENT_AGAIN[type(self).__name__] += number in self.sent_numbers
            self.sent_numbers.add(number)
        super().send(cx, flags, payload, number)


class CountedSelectiveRepeat(SelectiveRepeat, header=SelectiveRepeatHeader):
    def output(self, cx: Context, segment: Segment) -> None:
        SENT_AGAIN[type(self).__name__] += segment.transmissions > 0
        super().output(cx, segment)


FAULTS = (Bernoulli(0.04), Corrupt(0.02), Duplicate(0.02))
IN_ORDER = LinkSpec("10Mbit/s", "20ms", models=FAULTS)
LINK = LinkSpec("10Mbit/s", "20ms", models=(*FAULTS, Reorder(0.03, by_packets=2)))
RUNS: list[Transfer] = [
    Transfer(CountedStopAndWait, octets=40_000, back=6_000, link=IN_ORDER),
    Transfer(CountedStopAndWait, {"numbers": 256}, octets=40_000, link=LINK),
    Transfer(CountedGoBackN, octets=90_000, back=9_000, link=LINK),
    Transfer(CountedGoBackN, {"bits": 3, "window": 7}, octets=60_000, link=IN_ORDER),
    Transfer(CountedSelectiveRepeat, octets=200_000, back=9_000, link=LINK),
    Transfer(CountedSelectiveRepeat, {"mode": "messages", "bits": 8, "window": 64, "first": 250},
             octets=90_000, chunk=700, link=LINK),
]  # fmt: skip


def shown(trace: Trace) -> list[TraceEvent]:
    """The events that `write_pcapng` makes frames of."""
    return list(trace.of("send", "arrive", "drop"))


def expected(header: type[Header], octets: bytes, name: str) -> dict[str, list[int]]:
    """The integer fields, flags and rows of a header, by the names they have in the dissector."""
    parsed = header.parse(octets)
    found: dict[str, list[int]] = {}
    for row in header.fields:
        value = getattr(parsed, row.name)
        if row.width:
            found[f"{name}.{row.name}"] = [value]
        elif row.name == "sacks":
            found[f"{name}.sacks.first"] = [first for first, _ in value]
            found[f"{name}.sacks.second"] = [second for _, second in value]
        for i, flag in enumerate(getattr(row.kind, "names", ())):
            found[f"{name}.{row.name}.{flag.lower()}"] = [value >> i & 1]
    return found


@pytest.mark.parametrize("transfer", RUNS, ids=lambda t: f"{t.protocol.__name__[7:]}-{t.options}")
def test_reference_protocols_field_by_field_and_verdict_by_verdict(
    transfer: Transfer, tmp_path: Path
) -> None:
    SENT_AGAIN.clear()
    result = transfer.run()
    assert result.complete
    header, told = transfer.protocol.header, numbering(result.client.endpoint)
    compare(result.trace, header, told, tmp_path, SENT_AGAIN.total())


def compare(trace: Trace, header: type[Header], told: Any, folder: Path, sent_again: int) -> None:
    capture, script = folder / "run.pcapng", folder / "x.lua"
    write_pcapng(trace, capture)
    script.write_text(dissector(header, **told))
    events, name = shown(trace), protocol_name(header)
    fields = list(expected(header, bytes(header()), name))
    verdicts = [f"{name}.analysis.{word}" for word in ("retransmission", "dup_ack", "rtt", "bytes_in_flight")]
    more = [
        "frame.interface_name",
        "data.data",
        f"{name}.expert.bad_checksum",
        f"{name}.expert.malformed",
        "ip.src",
        "_ws.expert",
    ]
    rows = columns(capture, [script], [*fields, *verdicts, *more])
    assert len(rows) == len(events)
    roles, hosts = Roles(header, **told), {"a": "10.0.0.1", "b": "10.0.0.2"}
    analyses = {host: Analysis(roles) for host in hosts}
    counted = 0
    for event, row in zip(events, rows, strict=True):
        assert row["frame.interface_name"] == [
            event.where if event.where in hosts else f"{event.where}:dropped"
        ]
        if row[f"{name}.expert.malformed"]:
            assert roles.read(event.octets, event.src, event.dst) is None
            continue
        wanted = expected(header, event.octets, name)
        assert {field: [int(value, 0) for value in row[field]] for field in fields} == wanted
        payload = event.octets[header._parse(event.octets, 0, len(event.octets))[1] :]
        assert "".join(row["data.data"]) == payload.hex()
        reading = roles.read(event.octets, event.src, event.dst)
        assert bool(row[f"{name}.expert.bad_checksum"]) == (reading is None)
        facts = None
        if event.where in hosts:
            facts = analyses[event.where].see(event.time_ns, event.src, event.dst, event.octets)
        found = [row[field] for field in verdicts]
        if facts is None:
            assert found == [[]] * 4
            continue
        nanoseconds = [round(float(seconds) * 1e9) for seconds in found[2]]
        assert [bool(found[0]), [int(n) for n in found[1]], nanoseconds, [int(n) for n in found[3]]] == [
            facts.retransmission,
            [facts.dup_ack] if facts.dup_ack else [],
            [] if facts.rtt_ns is None else [facts.rtt_ns],
            [] if facts.in_flight is None else [facts.in_flight],
        ]
        counted += facts.retransmission and hosts[event.where] == event.src
    assert counted == sent_again > 0
    assert not any("Lua" in text for row in rows for text in row["_ws.expert"])


def test_the_protocol_that_a_newcomer_starts_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "newcomer.py").write_text(scaffold("newcomer"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "newcomer", raising=False)
    import newcomer  # type: ignore[import-not-found]

    class Counted(newcomer.Newcomer, header=newcomer.NewcomerHeader):  # type: ignore[misc]
        def on_timer(self, cx: Context, name: str, path: Any) -> None:
            SENT_AGAIN["newcomer"] += name == "again"
            super().on_timer(cx, name, path)

    SENT_AGAIN.clear()
    protocol: type[Endpoint] = Counted
    result = Transfer(protocol, octets=50_000, link=LINK, seed=3).run()
    compare(result.trace, newcomer.NewcomerHeader, {}, tmp_path, SENT_AGAIN["newcomer"])


@pytest.fixture(scope="module")
def sealed() -> Iterator[type[Header]]:
    """A header whose checksum covers the addresses, registered over IP and UDP."""

    class Sealed(Header, over={IPv4: 254, IPv6: 254, UDP: 4321}):
        kind: u8 = field(0, names={1: 'a "quoted" name'})
        flags: flags8 = field(0, bits="SYN ACK")
        checksum: u16 = auto(inet_checksum, pseudo_header=True)

    yield Sealed
    for lower, number in ((IPv4, 254), (IPv6, 254), (UDP, 4321)):  # other tests know no such protocol
        del lower.uppers[number], lower.numbers[Sealed]


def test_checksums_over_addresses_names_of_values_and_ports(sealed: type[Header], tmp_path: Path) -> None:
    v4, v6 = IPv4(src="192.0.2.1", dst="192.0.2.2"), IPv6(src="2001:db8::1", dst="2001:db8::2")
    packets = [Ether() / ip / sealed(kind=1, flags="SYN") / b"odd" for ip in (v4, v6)]
    packets += [Ether() / ip / sealed(kind=1, checksum=0x1234) / b"odd" for ip in (v4, v6)]
    packets.append(Ether() / v4 / UDP(sport=1, dport=4321) / sealed(kind=7))
    quoted = bytes(v4 / sealed(kind=1) / b"quoted")
    packets.append(Ether() / v4 / ICMPUnreachable(code=2) / quoted)
    with create_pcap(tmp_path / "sealed.pcap") as file:
        for packet in packets:
            file.write(Frame(bytes(packet)))
        file.write(Frame(bytes(packets[0])[:35]))  # a snapshot length in the middle of the header
    script = tmp_path / "sealed.lua"
    script.write_text(dissector(sealed))
    names = [
        "sealed.kind",
        "sealed.expert.bad_checksum",
        "sealed.expert.malformed",
        "_ws.col.Info",
        "_ws.expert",
    ]
    rows = columns(tmp_path / "sealed.pcap", [script], names)
    assert [row["sealed.kind"] for row in rows] == [["1"], ["1"], ["1"], ["1"], ["7"], ["1"], []]
    assert [bool(row["sealed.expert.bad_checksum"]) for row in rows] == [
        False,
        False,
        True,
        True,
        False,
        False,
        False,
    ]
    assert [bool(row["sealed.expert.malformed"]) for row in rows] == [False] * 6 + [True]
    assert rows[0]["_ws.col.Info"] == ["SYN len=3"]
    command = [
        oracles.oracle("tshark"),
        "-r",
        str(tmp_path / "sealed.pcap"),
        "-X",
        f"lua_script:{script}",
        "-V",
    ]
    text = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert 'kind: a "quoted" name (1)' in text
    assert "Lua Error" not in text


def test_crc32c_is_verified(tmp_path: Path) -> None:
    class Crc(Header):
        kind: u8 = 0
        pad: u24 = 0
        crc: u32 = auto(crc32c)

    octets = [bytes(Crc(kind=9)._pack(data, None, None)) + data for data in (b"", b"some octets")]
    packets = [
        bytes(Ether() / IPv4(src="192.0.2.1", dst="192.0.2.2", protocol=254) / each) for each in octets
    ]
    damaged = packets[1][:-1] + b"!"
    with create_pcap(tmp_path / "crc.pcap") as file:
        for packet in (*packets, damaged):
            file.write(Frame(packet))
    script = tmp_path / "crc.lua"
    script.write_text(dissector(Crc, ip_proto=254))
    rows = columns(tmp_path / "crc.pcap", [script], ["crc.kind", "crc.expert.bad_checksum", "_ws.expert"])
    assert [row["crc.kind"] for row in rows] == [["9"]] * 3
    assert [bool(row["crc.expert.bad_checksum"]) for row in rows] == [False, False, True]


def test_names_that_wireshark_does_not_take_are_refused() -> None:
    with pytest.raises(ValueError, match="begins no names of Wireshark's"):
        dissector(GoBackNHeader, name="Go Back")
    with pytest.raises(ValueError, match="is a word of Wireshark's filter language"):
        dissector(GoBackNHeader, name="any")
