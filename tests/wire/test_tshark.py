"""tshark reads what rawkit builds, and gives the same verdict on every checksum, wrong ones included."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from oracles import oracle
from wire.packets import packets

from rawkit.wire import ARP, ICMP, TCP, UDP, Dot1Q, Ether, Header, ICMPv6, IPv4, IPv6, Packet
from rawkit.wire.icmpinfo import ICMPSecurityFailure
from rawkit.wire.ipv4 import SourceRoute
from rawkit.wire.packet import ChecksumVerdict

PACKETS_N, MANY = 400, 8000
"""Packets in every run, and in the run of slow tests."""

# tshark's name: the layer it belongs to and what rawkit says.  Values are compared as integers or text.
FIELDS: dict[str, tuple[type[Header], str]] = {
    "eth.dst": (Ether, "dst"),
    "eth.src": (Ether, "src"),
    "vlan.id": (Dot1Q, "vid"),
    "vlan.priority": (Dot1Q, "pcp"),
    "arp.opcode": (ARP, "op"),
    "arp.src.hw_mac": (ARP, "sender_mac"),
    "arp.src.proto_ipv4": (ARP, "sender_ip"),
    "arp.dst.hw_mac": (ARP, "target_mac"),
    "arp.dst.proto_ipv4": (ARP, "target_ip"),
    "ip.src": (IPv4, "src"),
    "ip.dst": (IPv4, "dst"),
    "ip.len": (IPv4, "total_length"),
    "ip.id": (IPv4, "id"),
    "ip.ttl": (IPv4, "ttl"),
    "ip.proto": (IPv4, "protocol"),
    "ip.dsfield.dscp": (IPv4, "dscp"),
    "ip.dsfield.ecn": (IPv4, "ecn"),
    "ip.checksum": (IPv4, "checksum"),
    "ipv6.src": (IPv6, "src"),
    "ipv6.dst": (IPv6, "dst"),
    "ipv6.plen": (IPv6, "payload_length"),
    "ipv6.nxt": (IPv6, "next_header"),
    "ipv6.hlim": (IPv6, "hop_limit"),
    "ipv6.flow": (IPv6, "flow_label"),
    "ipv6.tclass": (IPv6, "traffic_class"),
    "tcp.srcport": (TCP, "sport"),
    "tcp.dstport": (TCP, "dport"),
    "tcp.seq": (TCP, "seq"),
    "tcp.ack": (TCP, "ack"),
    "tcp.window_size_value": (TCP, "window"),
    "tcp.urgent_pointer": (TCP, "urgent"),
    "tcp.checksum": (TCP, "checksum"),
    "udp.srcport": (UDP, "sport"),
    "udp.dstport": (UDP, "dport"),
    "udp.length": (UDP, "length"),
    "udp.checksum": (UDP, "checksum"),
    "icmp.type": (ICMP, "type"),
    "icmp.code": (ICMP, "code"),
    "icmp.checksum": (ICMP, "checksum"),
    "icmpv6.type": (ICMPv6, "type"),
    "icmpv6.code": (ICMPv6, "code"),
    "icmpv6.checksum": (ICMPv6, "checksum"),
}
STATUS = {"ip": IPv4, "tcp": TCP, "udp": UDP, "icmp": ICMP, "icmpv6": ICMPv6}
VERDICTS = {"good": "1", "bad": "0", "not filled in": "3", "unknown": "2"}
"""Of sums left to hardware tshark only says that they are bad: none are sent here, but UDP without one is."""


def generated(packets_n: int) -> list[Packet]:
    """Packets of all kinds under Ethernet, about a third of them with one wrong checksum."""
    found: list[Packet] = []

    @settings(
        max_examples=packets_n,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(packet=packets(), lie=st.none() | st.none() | st.integers(0, 0xFFFF))
    def collect(packet: Packet, lie: int | None) -> None:
        if packet.get(ICMPSecurityFailure) is not None:
            return  # tshark does not read the packet that it quotes
        routes = (option for layer in packet.layers if isinstance(layer, IPv4) for option in layer.options)
        if any(isinstance(option, SourceRoute) for option in routes):
            return  # its ip.dst is then the route's end, not the header's field
        layers = packet.layers if isinstance(packet.layers[0], Ether) else (Ether(), *packet.layers)
        if lie is not None:
            liar = next((layer for layer in layers[::-1] if hasattr(layer, "checksum")), None)
            over_ipv6 = any(isinstance(layer, IPv6) for layer in layers)
            if liar is not None:
                liar.checksum = lie or int(over_ipv6)  # 0 says "none" in UDP over IPv4 alone
        for layer in layers:
            for name in ("length", "unused"):
                if layer.quotes and hasattr(layer, name):
                    setattr(layer, name, 0)  # tshark ends the quoted packet there (RFC 4884), of any type
        found.append(Packet.parse(bytes(Packet(layers, packet.payload))))

    collect()
    return found


def dissected(tshark: str, path: Path, fields: list[str]) -> Iterator[dict[str, list[str]]]:
    command = [
        tshark,
        "-r",
        str(path),
        "-n",
        "-T",
        "fields",
        "-E",
        "occurrence=a",
        "-E",
        "separator=;",
        "-E",
        "aggregator=,",
    ]
    for option in (
        "ip.check_checksum:TRUE", "tcp.check_checksum:TRUE", "udp.check_checksum:TRUE",
        "tcp.relative_sequence_numbers:FALSE", "ip.defragment:FALSE", "ipv6.defragment:FALSE",
    ):  # fmt: skip
        command += ["-o", option]
    for field in fields:
        command += ["-e", field]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    for line in run.stdout.splitlines():
        values = line.split(";")
        assert len(values) == len(fields), line
        yield {field: value.split(",") if value else [] for field, value in zip(fields, values)}


def normal(text: str) -> object:
    """Numbers (tshark prints some in hexadecimal) and addresses as values, all else as it is."""
    for form in (lambda t: int(t, 0), IPv4Address, IPv6Address):
        try:
            return form(text)
        except ValueError:
            continue
    return text


def own_verdicts(packet: Packet) -> list[ChecksumVerdict]:
    """Those not on packets quoted in ICMP errors: tshark judges some of them, rawkit none."""
    own = 0
    for header in packet.layers:
        own += hasattr(header, "checksum")
        if header.quotes:
            break
    return packet.checksums()[:own]


@pytest.mark.parametrize("packets_n", [PACKETS_N, pytest.param(MANY, marks=pytest.mark.slow)])
def test_tshark_agrees(packets_n: int, tmp_path: Path) -> None:
    tshark = oracle("tshark")
    import dpkt

    sent = generated(packets_n)
    assert len(sent) >= packets_n * 3 // 4
    path = tmp_path / "generated.pcap"
    with path.open("wb") as file:
        writer = dpkt.pcap.Writer(file)
        for i, packet in enumerate(sent):
            writer.writepkt(bytes(packet), ts=i)
    names = [*FIELDS, "tcp.flags", *(f"{protocol}.checksum.status" for protocol in STATUS)]
    rows = list(dissected(tshark, path, names))
    assert len(rows) == len(sent)
    states = set()
    for number, (packet, row) in enumerate(zip(sent, rows), 1):
        for name, (layer, field) in FIELDS.items():
            ours = [str(getattr(header, field)) for header in packet.layers if isinstance(header, layer)]
            if layer is Dot1Q:  # its subclass has fields of its own in tshark
                ours = [str(getattr(header, field)) for header in packet.layers if type(header) is Dot1Q]
            # tshark may see further packets in a payload whose port means a tunnel to it.
            found = row[name][: len(ours)]
            assert list(map(normal, found)) == list(map(normal, ours)), (number, name, packet)
        flags = [header.flags for header in packet.layers if isinstance(header, TCP)]
        assert [int(text, 0) & 0x1FF for text in row["tcp.flags"][: len(flags)]] == flags, (number, packet)
        for protocol, layer in STATUS.items():
            ours = [
                VERDICTS[verdict.state]
                for verdict in own_verdicts(packet)
                if issubclass(verdict.layer, layer)
            ]
            assert row[f"{protocol}.checksum.status"][: len(ours)] == ours, (number, protocol, packet)
            states.update(ours)
    assert {"0", "1"} <= states
