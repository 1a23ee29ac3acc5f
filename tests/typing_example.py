"""What a type checker says about header classes: checked by `mypy --strict` and pyright.

Each `type: ignore` stands where an error is expected; both complain about those that are not needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import assert_type

from rawkit.addr import MAC
from rawkit.testing import Pattern, Recording, assert_packets, ip, layer, udp
from rawkit.wire import MSS, TCP, UDP, Ether, Header, IPv4, IPv6, Packet
from rawkit.wire.field import auto, field, flags8, inet_checksum, ip4, octets, u16
from rawkit.wire.tcp import TCPOption


class Own(Header, over={UDP: 61002}):
    port: u16
    limit: u16 = 7
    flags: flags8 = field(0, bits="SYN ACK")
    checksum: u16 = auto(inet_checksum)
    where: ip4 = field("0.0.0.0")
    rest: octets = b""


own = Own(port=1, where="192.0.2.1", flags="S")
assert_type(own, Own)
assert_type(own.port, int)
assert_type(own.flags, int)
assert_type(own.where, IPv4Address)
assert_type(own.rest, bytes)
assert_type(own.replace(port=3), Own)
assert_type(Own.parse(b""), Own)
assert_type(Own.SYN, int)
assert_type(bytes(own), bytes)

tcp = TCP(dport=80, flags="SA", options=[MSS(1460)])
assert_type(tcp.dport, int)
assert_type(tcp.options, Sequence[TCPOption])
assert_type(Ether().dst, MAC)
assert_type(IPv6(dst="::1").dst, IPv6Address)

packet = IPv4(dst=IPv4Address("192.0.2.1")) / tcp / b"data"
assert_type(packet, Packet)
assert_type(packet[TCP], TCP)
assert_type(packet[TCP].window, int)
assert_type(packet.get(UDP), UDP | None)
assert_type(packet.layers, tuple[Header, ...])
assert_type(TCP in packet, bool)

IPv4(dst=b"\xc0\0\2\1", src=0xC0000201)
tcp.flags = "F"
tcp.flags = 1

pattern = ip(ttl=64) / udp(dport=range(9)) / b"data"
assert_type(pattern / layer(Own, port=1), Pattern)


def test_something(seen: Recording) -> None:
    assert_type(assert_packets(seen, [pattern, packet, b"octets"]), list[Packet])


Own()  # type: ignore[call-arg]  # port is required
Own(port=1, spot=2)  # type: ignore[call-arg]
Own(1)  # type: ignore[call-arg]  # by keyword only
Own(port="80")  # type: ignore[arg-type]
TCP(options=[5])  # type: ignore[list-item]
IPv4(dst=1.5)  # type: ignore[arg-type]
tcp.spot = 1  # type: ignore[attr-defined]
tcp.dport = "80"  # type: ignore[assignment]
packet.get(UDP).sport  # type: ignore[union-attr]  # noqa: B018  # may be None
_ = packet / 5  # type: ignore[operator]
