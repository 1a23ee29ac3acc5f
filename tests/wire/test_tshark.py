"""tshark finds in what rawkit builds and writes the values that rawkit finds: every field that both have.

A capture file per protocol (`wire.stacks`), a third of its packets with a wrong checksum. A field of ours is
compared under its name in `wire.wireshark`, or as `COUNTED` says; `NOT_SHOWN` lists those that tshark has no
field for. `DIFFERENCES` are the cases in which the two disagree, each with the sentence that decides.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import pytest
from oracles import oracle
from wire import transports
from wire.packets import ABSTRACT, subclasses
from wire.stacks import PROTOCOLS, generated
from wire.tsharkfields import COUNTED, DIFFERENCES, NOT_SHOWN, WITHOUT_PACKETS, parts

from rawkit.addr import MAC
from rawkit.pcap import create_pcap, open_pcap
from rawkit.wire import (
    DCCP,
    EIGRP,
    GRE,
    ICMP,
    IGMP,
    SCTP,
    TCP,
    UDP,
    Header,
    ICMPv6,
    IPv4,
    Packet,
    UDPLite,
)  # fmt: skip
from rawkit.wire.frame import Frame
from rawkit.wire.layout import Layout
from rawkit.wire.option import Option, OptionList
from rawkit.wire.record import Record, Records
from rawkit.wire.wireshark import names_of

PCAPS = Path(__file__).parents[2] / "pcaps"

FEW, MANY = 500, 20_000
"""Packets of all protocols together: in every run, and in the run of slow tests."""

STATUS: dict[type[Header], str] = {
    IPv4: "ip", TCP: "tcp", UDP: "udp", UDPLite: "udp", ICMP: "icmp", ICMPv6: "icmpv6", IGMP: "igmp",
    SCTP: "sctp", DCCP: "dccp", EIGRP: "eigrp", GRE: "gre",
}  # fmt: skip
"""What tshark calls `<name>.checksum.status`. OSPF has none."""

UNCHECKED = "3"
VERDICTS = {"good": "1", "bad": "0", "unknown": "2"}
"""Of sums left to hardware tshark only says that they are bad."""


@cache
def types() -> dict[str, str]:
    """The type of each of tshark's fields."""
    done = subprocess.run([oracle("tshark"), "-G", "fields"], capture_output=True, text=True, check=True)
    rows = (line.split("\t") for line in done.stdout.splitlines())
    return {row[2]: row[3] for row in rows if row[0] == "F"}


@cache
def drawn(protocol: str, packets_n: int) -> list[Packet]:
    """The protocol's share of so many packets, and at least four of each class."""
    case = PROTOCOLS[protocol]
    found = generated(case, max(-(-packets_n // len(PROTOCOLS)), 4 * len(case.members)))
    assert len(found) >= packets_n // len(PROTOCOLS)
    return found


def theirs(name: str, text: str) -> object:
    """One of tshark's values: a number, an address, or text (octets in hexadecimal)."""
    kind = types()[name]
    if kind == "FT_BYTES":
        return text.replace(":", "")
    if kind == "FT_BOOLEAN":
        return int(text in ("1", "True"))
    if kind.startswith(("FT_UINT", "FT_INT")):
        return int(text, 0)
    if kind in ("FT_IPv4", "FT_IPv6"):
        return (IPv4Address if kind == "FT_IPv4" else IPv6Address)(text)
    return text


def ours(name: str, value: Any, width: int) -> list[object]:
    """Values of a field of ours in the form that tshark's field of that name takes; lists spread out."""
    if value is None or value == b"":
        return []
    if isinstance(value, (tuple, list)):
        return [item for part in value for item in ours(name, part, width)]
    kind = types()[name]
    if kind == "FT_BYTES":
        return [
            f"{value:0{width // 4}x}"
            if isinstance(value, int)
            else bytes(getattr(value, "packed", value)).hex()
        ]
    if isinstance(value, bytes) and kind.startswith("FT_UINT"):
        return [*value] if kind == "FT_UINT8" else [int.from_bytes(value, "big")]
    if kind == "FT_ETHER":
        return [str(MAC(value))]
    if kind.startswith("FT_STRING"):
        return [str(value)]
    if kind in ("FT_IPv4", "FT_IPv6"):
        return [(IPv4Address if kind == "FT_IPv4" else IPv6Address)(value)]
    return [int(value)]


def compared(cls: type[Layout]) -> Iterator[tuple[str, int, Callable[[Any], Any]]]:
    """Which of tshark's fields have the values of a class's fields: name, bits, and how to get the value."""
    hidden = {name for base in cls.__mro__ for name in NOT_SHOWN.get(base.__name__, "").split()}
    names = names_of(cls)
    counted = {
        key: way for base in reversed(cls.__mro__) for key, way in COUNTED.get(base.__name__, {}).items()
    }
    for name, way in counted.pop("", ()):
        yield name, 0, way
    for row in cls.fields:
        if row.name in counted:
            for name, way in counted[row.name]:
                yield name, row.width, way
        elif row.name in names and row.name not in hidden:
            yield names[row.name], row.width, lambda item, field=row.name: getattr(item, field)


def expected(packet: Packet) -> dict[str, list[object]]:
    found: dict[str, list[object]] = {}
    for item in parts(packet):
        for name, width, way in compared(type(item)):
            found.setdefault(name, []).extend(ours(name, way(item), width))
    return found


def is_rawkits(cls: type[Layout]) -> bool:
    return cls.__module__.startswith("rawkit.wire.")


def own_verdicts(packet: Packet) -> dict[str, list[str]]:
    """Those not on packets quoted in ICMP errors: tshark judges some of them, rawkit none."""
    found: dict[str, list[str]] = {}
    own = next((i for i, header in enumerate(packet.layers, 1) if header.quotes), len(packet.layers))
    sums = sum(hasattr(header, "checksum") and header.checksum is not None for header in packet.layers[:own])
    for verdict in packet.checksums()[:sums]:
        for cls, name in STATUS.items():
            if issubclass(verdict.layer, cls):
                found.setdefault(f"{name}.checksum.status", []).append(
                    VERDICTS.get(verdict.state, UNCHECKED if verdict.found == 0 else VERDICTS["bad"])
                )
    return found


def with_wrong_sum(packet: Packet, number: int) -> Packet:
    """Every third packet with a wrong checksum in the last header that has one."""
    layers = [*packet.layers]
    liar = next((i for i in range(len(layers) - 1, -1, -1) if hasattr(layers[i], "checksum")), None)
    if number % 3 or liar is None or layers[liar].checksum is None:
        return packet
    wrong = 0x5000 + number  # small numbers may be the sum of a pseudo-header, 0 says "none" in UDP
    return packet.replace(type(layers[liar]), checksum=wrong) if layers.count(layers[liar]) == 1 else packet


def dissected(path: Path, names: list[str], preferences: tuple[str, ...]) -> Iterator[dict[str, list[str]]]:
    command = [oracle("tshark"), "-r", str(path), "-n", "-T", "fields"]
    command += ["-E", "occurrence=a", "-E", "separator=/t", "-E", "aggregator=|"]
    for preference in ("ip.check_checksum:TRUE", "udp.check_checksum:TRUE", *preferences):
        command += ["-o", preference]
    for name in names:
        command += ["-e", name]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    for line in run.stdout.splitlines():
        values = line.split("\t")
        assert len(values) == len(names), line
        # Fields of no octets are "<MISSING>".
        lists = [
            [item for item in value.split("|") if item not in ("", "<MISSING>", "<none>")] for value in values
        ]
        yield dict(zip(names, lists))


@pytest.mark.parametrize("packets_n", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_tshark_agrees(protocol: str, packets_n: int, tmp_path: Path) -> None:
    case = PROTOCOLS[protocol]
    sent = [bytes(with_wrong_sum(packet, number)) for number, packet in enumerate(drawn(protocol, packets_n))]
    path = tmp_path / f"{protocol}.pcapng"
    with create_pcap(path, linktype=case.linktype) as writer:
        for octets in sent:
            writer.write(Frame(octets, linktype=case.linktype))
    compare(protocol, path, [Packet.parse(octets, first=case.first) for octets in sent], case.settings)


@pytest.mark.parametrize("name", sorted(path.stem for path in PCAPS.glob("*.pcapng")))
def test_tshark_agrees_on_the_captures(name: str) -> None:
    settings = tuple(dict.fromkeys(text for case in PROTOCOLS.values() for text in case.settings))
    path = PCAPS / f"{name}.pcapng"
    with open_pcap(path) as reader:
        compare(name, path, [frame.packet() for frame in reader], settings)


def compare(protocol: str, path: Path, packets: list[Packet], settings: tuple[str, ...]) -> None:
    """Whether tshark finds in a file what we find, field by field and verdict by verdict."""
    names = sorted(
        {name for packet in packets for item in parts(packet) for name, _, _ in compared(type(item))}
    )
    states = sorted({f"{name}.checksum.status" for name in STATUS.values()})
    rows = list(dissected(path, [*names, *states], settings))
    assert len(rows) == len(packets) > 0
    excused = 0
    for number, (packet, row) in enumerate(zip(packets, rows), 1):
        wanted = expected(packet)
        excuses = [difference for difference in DIFFERENCES if difference.applies(protocol, packet)]
        read_otherwise = tuple(name for difference in excuses for name in difference.names)
        excused += any(name.startswith(read_otherwise) for name in names)
        for name in names:
            if not name.startswith(read_otherwise):
                found = [theirs(name, text) for text in row[name]]
                assert found == wanted.get(name, []), (number, name, packet)
        for name, values in own_verdicts(packet).items():
            if not name.startswith(read_otherwise):
                assert row[name][: len(values)] == values, (number, name, packet)
    assert excused * 2 <= len(packets)


def known_classes() -> list[type[Layout]]:
    found = [cls for base in (Header, Option, Record) for cls in subclasses(base) if is_rawkits(cls)]
    abstract = (*ABSTRACT, *transports.ABSTRACT)
    return [cls for cls in found if cls not in abstract and cls.__name__ not in WITHOUT_PACKETS]


def test_each_field_has_a_counterpart_or_is_known_to_have_none() -> None:
    assert len(known_classes()) > 250
    for cls in known_classes():
        known = {name for base in cls.__mro__ for name in COUNTED.get(base.__name__, {})} | names_of(
            cls
        ).keys()
        known |= {name for base in cls.__mro__ for name in NOT_SHOWN.get(base.__name__, "").split()}
        for row in cls.fields:  # of lists, what is in them is compared
            is_list = isinstance(row.kind, (OptionList, Records))
            assert is_list or row.name in known, f"{cls.__name__}.{row.name}: how does tshark call it?"


@pytest.mark.slow
def test_each_field_is_in_some_packet() -> None:
    met: set[tuple[type[Layout], str]] = set()
    for protocol, case in PROTOCOLS.items():
        for packet in drawn(protocol, MANY // 2):
            for part in parts(Packet.parse(bytes(packet), first=case.first)):
                met.update(
                    (type(part), row.name) for row in part.fields if getattr(part, row.name) is not None
                )
    assert {(cls, row.name) for cls in known_classes() for row in cls.fields} <= met
