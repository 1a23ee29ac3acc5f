"""Rawkit's own probes: SCTP INIT (RFC 9260), and IP protocols (RFC 1122 section 3.2.2.1)."""

from __future__ import annotations

from collections.abc import Sequence

from rawkit.tools.scan.config import CLOSED, FILTERED, OPEN
from rawkit.tools.scan.icmp import icmp_reason
from rawkit.tools.scan.probe import Probe, ProbeTarget
from rawkit.wire.header import Header
from rawkit.wire.icmp import ICMPEcho
from rawkit.wire.icmpv6 import ICMPv6Echo
from rawkit.wire.ipv4 import IPv4
from rawkit.wire.ipv6 import IPv6
from rawkit.wire.packet import Packet
from rawkit.wire.sctp import SCTP, SCTPAbort, SCTPInit, SCTPInitAck
from rawkit.wire.tcp import TCP
from rawkit.wire.udp import UDP

_ICMP, _TCP, _UDP, _ICMPV6, _SCTP = 1, 6, 17, 58, 132
_NOT_SPOKEN = {4: (3, 2), 6: (4, 1)}  # protocol unreachable; unrecognized next header
_PORT_UNREACHABLE = {4: (3, 3), 6: (1, 4)}
_PARAMETER_PROBLEM = {4: 12, 6: 4}


class SCTPProbe(Probe):
    """INIT: who listens sends INIT ACK, others ABORT; both bear the tag that the INIT chose (RFC 9260
    section 8.4), 32 bits of the token. The association is never opened, and the cookie never sent back.
    """

    name = protocol = "sctp"
    # Signalling (RFC 4166), Diameter (RFC 6733), mobile networks (3GPP TS 36.412, 38.412 and others), and
    # what else is registered for SCTP.
    ports = (
        7, 9, 20, 21, 22, 80, 179, 443, 1021, 1022, 1167, 1720, 1812, 1813, 2049, 2225, 2427, 2904, 2905,
        2944, 2945, 3097, 3565, 3863, 3864, 3868, 4195, 4333, 4502, 4711, 4739, 4740, 5060, 5061, 5090, 5091,
        5215, 5672, 5868, 5910, 5911, 5912, 5913, 6704, 6705, 6706, 7626, 8471, 9082, 9084, 9899, 9900, 9901,
        9902, 14001, 20049, 25471, 29118, 29168, 29169, 30100, 36412, 36422, 36423, 36424, 36443, 36444,
        36462, 37472, 38412, 38422, 38462, 38472,
    )  # fmt: skip
    silent = FILTERED
    exact = True
    filter = "sctp dst port {port}"

    def request(self, to: ProbeTarget) -> Packet:
        tag = to.token & 0xFFFFFFFF or 1  # never 0 (section 3.3.2)
        init = SCTPInit(tag=tag, tsn=to.token >> 32, outgoing=10, incoming=65535)
        return to.ip() / SCTP(sport=to.source_port, dport=to.port, chunks=[init])

    def verdict(self, packet: Packet) -> tuple[str, str]:
        first = packet[SCTP].chunks[0]
        if isinstance(first, SCTPInitAck):
            return OPEN, "init-ack"
        return CLOSED if isinstance(first, SCTPAbort) else FILTERED, first.name.lower().replace(" ", "-")

    def verdict_of_error(self, version: int, type: int, code: int, by_target: bool) -> tuple[str, str]:
        # Who speaks SCTP says in SCTP that nobody listens: what comes by ICMP is somebody else's word.
        return FILTERED, icmp_reason(version, type, code)


class ProtocolProbe(Probe):
    """A packet of an IP protocol: the "ports" are protocol numbers. Who does not speak it says so in an ICMP
    error; whatever else comes back shows that it does.
    """

    name = "protocol"
    protocol = "ip"
    ports = tuple(range(256))
    exact = True  # a host that is heard to speak a protocol does
    filter = "{ip}"

    def request(self, to: ProbeTarget) -> Packet:
        ip, number, source, token = to.ip(to.port), to.port, to.source_port, to.token & 0xFFFFFFFF
        upper: Header | None = None
        if number == _ICMP and to.address.version == 4:
            upper = ICMPEcho(id=source, seq=token & 0xFFFF)
        elif number == _ICMPV6 and to.address.version == 6:
            upper = ICMPv6Echo(id=source, seq=token & 0xFFFF)
        elif number == _TCP:  # acknowledges nothing: ports that are open and closed send a RST
            upper = TCP(sport=source, dport=source, ack=token, flags="A", window=1024)
        elif number == _UDP:
            upper = UDP(sport=source, dport=source)
        elif number == _SCTP:
            upper = SCTP(sport=source, dport=source, chunks=[SCTPInit(tag=token or 1, tsn=token)])
        return Packet([ip]) if upper is None else ip / upper

    def port_of(self, layers: Sequence[Header], payload: bytes, quoted: bool) -> int | None:
        ip = layers[0]
        if isinstance(ip, IPv4):
            return ip.protocol
        if not isinstance(ip, IPv6):
            return None
        extensions = (layer for layer in layers[1:] if hasattr(layer, "next_header"))
        return int(next((layer.next_header for layer in reversed(list(extensions))), ip.next_header))

    def is_answer(self, packet: Packet, request: Packet) -> bool:
        return True

    def verdict(self, packet: Packet) -> tuple[str, str]:
        return OPEN, "proto-response"

    def verdict_of_error(self, version: int, type: int, code: int, by_target: bool) -> tuple[str, str]:
        state = FILTERED
        if by_target and (type, code) == _NOT_SPOKEN[version]:
            state = CLOSED
        elif by_target and (
            (type, code) == _PORT_UNREACHABLE[version] or type == _PARAMETER_PROBLEM[version]
        ):
            state = OPEN  # who looks for a port, or finds a mistake, understands the header
        return state, icmp_reason(version, type, code)


PROBES: dict[str, type[Probe]] = {kind.name: kind for kind in (SCTPProbe, ProtocolProbe)}
