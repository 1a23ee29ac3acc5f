"""dpkt: packets both ways, and one line about what a packet carries above its transport header."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from rawkit.addr import MAC
from rawkit.wire import ARP, ICMP, TCP, UDP, Ether, Header, ICMPv6, IPv4, IPv6, Packet

_SUMMARY_MAX = 240
_DNS_MAX = 12
"""Questions and answers of a DNS message that are looked at."""


@cache
def _classes() -> list[tuple[type[Header], Any]]:
    """Which class of dpkt stands for which header."""
    import dpkt

    return [
        (Ether, dpkt.ethernet.Ethernet),
        (ARP, dpkt.arp.ARP),
        (IPv4, dpkt.ip.IP),
        (IPv6, dpkt.ip6.IP6),
        (ICMP, dpkt.icmp.ICMP),
        (ICMPv6, dpkt.icmp6.ICMP6),
        (TCP, dpkt.tcp.TCP),
        (UDP, dpkt.udp.UDP),
    ]


@cache
def _raw() -> Any:
    import dpkt

    class Octets(dpkt.Packet):  # type: ignore[misc]
        """Octets that dpkt cannot hold in a class of its own without changing them; they are in `data`."""

        __hdr__ = ()

    return Octets


def to_dpkt(packet: Packet | Header) -> Any:
    """The packet as dpkt's class for its first header, with the same octets.

    dpkt fills checksums and lengths that are 0 whenever it builds, and leaves out octets that it does not
    know: a layer to which that would happen has the octets after its header as plain `bytes` in `data`. When
    that is not enough, or dpkt has no such header, the object is a `dpkt.Packet` without fields that has all
    octets in `data`.
    """
    octets = bytes(packet)
    layers = Packet([packet]).layers if isinstance(packet, Header) else packet.layers
    theirs = next((cls for ours, cls in _classes() if layers and isinstance(layers[0], ours)), None)
    if theirs is not None:
        # dpkt raises many kinds of exceptions on octets it does not expect, and not its own alone.
        try:
            found = theirs(octets)
            if bytes(found) == octets:
                return found
            found.data = octets[len(bytes(layers[0])) :]
            if bytes(found) == octets:
                return found
        except Exception:
            pass
    return _raw()(octets)


def from_dpkt(packet: Any) -> Packet:
    """A rawkit packet with the octets that dpkt builds.

    Of an object whose class rawkit has no header for, the octets are payload.
    """
    first = next((ours for ours, cls in _classes() if isinstance(packet, cls)), None)
    return Packet.parse(bytes(packet), first=first)


# ---- summaries -------------------------------------------------------------------------------------


def application_summary(packet: Packet) -> str | None:
    """One line about what the packet carries above TCP or UDP, None when nothing is recognised.

    By port DNS (53, mDNS 5353, LLMNR 5355), DHCP (67, 68) and NTP (123); by their first octets HTTP and TLS
    hellos. One segment is looked at alone. The text is printable and of 240 characters at most.

    Never raises, whatever the octets.
    """
    # A parse that lies below an ICMP error is of a packet quoted there.
    layers = packet.layers
    if any(header.quotes or header.is_fragment for header in layers):
        return None
    transport = next((header for header in layers if isinstance(header, (TCP, UDP))), None)
    payload = packet.payload
    if transport is None or not payload:
        return None
    recognise = _tcp if isinstance(transport, TCP) else _udp
    try:
        text = recognise({transport.sport, transport.dport}, payload)
    except Exception:  # of any kind: dpkt is handed octets from anyone
        return None
    if text is None:
        return None
    shown = "".join(c if c.isprintable() else "." for c in text)
    return shown if len(shown) <= _SUMMARY_MAX else shown[: _SUMMARY_MAX - 3] + "..."


def _udp(ports: set[int], payload: bytes) -> str | None:
    for numbers, recognise in _UDP.items():
        if not ports.isdisjoint(numbers):
            return recognise(payload)
    return None


def _tcp(ports: set[int], payload: bytes) -> str | None:
    if 53 in ports and len(payload) > 2:
        return _dns(payload[2 : 2 + int.from_bytes(payload[:2], "big")])  # RFC 1035 section 4.2.2
    if payload[0] == 22:
        return _tls(payload)
    return _http(payload)


def _dns(payload: bytes) -> str:
    import dpkt

    questions, answers_n = int.from_bytes(payload[4:6], "big"), int.from_bytes(payload[6:8], "big")

    def parse(records: int) -> Any:
        # Names can be chains of thousands of pointers, so that thousands of names would take minutes.
        counts = min(questions, _DNS_MAX).to_bytes(2, "big") + records.to_bytes(2, "big") + bytes(4)
        return dpkt.dns.DNS(payload[:4] + counts + payload[12:])

    try:
        message = parse(min(answers_n, _DNS_MAX))
    except dpkt.UnpackError:
        # A record of a kind that dpkt does not know, or that was cut off: the questions alone.
        message = parse(0)
    parts = ["DNS", "response" if message.qr else "query", f"{message.id:#06x}"]
    parts += [f"{_dns_type(question.type)} {question.name}" for question in message.qd]
    if message.qr and message.rcode:
        parts.append(_RCODES.get(message.rcode, f"rcode {message.rcode}"))
    answers = [_dns_record(record) for record in message.an]
    if answers and answers_n > _DNS_MAX:
        answers.append("...")
    return " ".join(parts) + (f" -> {', '.join(answers)}" if answers else "")


def _dns_type(number: int) -> str:
    return _RECORDS.get(number, f"type {number}")


def _dns_record(record: Any) -> str:
    kind = _dns_type(record.type)
    if record.type == 1:
        return f"{kind} {IPv4Address(record.ip)}"
    if record.type == 28:
        return f"{kind} {IPv6Address(record.ip6)}"
    name = next((value for field in _RECORD_NAMES if (value := getattr(record, field, None))), "")
    return f"{kind} {name}" if name else kind


# RFC 1035 section 3.2.2 and later ones.
_RECORDS = {
    1: "A", 2: "NS", 5: "CNAME", 6: "SOA", 12: "PTR", 15: "MX", 16: "TXT", 28: "AAAA", 33: "SRV", 43: "DS",
    46: "RRSIG", 48: "DNSKEY", 65: "HTTPS", 255: "ANY",
}  # fmt: skip
_RECORD_NAMES = ("cname", "nsname", "ptrname", "mname", "mxname", "srvname")
_RCODES = {1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}


def _dhcp(payload: bytes) -> str | None:
    from dpkt import dhcp

    message = dhcp.DHCP(payload)
    if message.magic != dhcp.DHCP_MAGIC:
        return None
    options = dict(message.opts)
    kind = options.get(dhcp.DHCP_OPT_MSGTYPE, b"")
    name = _DHCP_TYPES.get(kind[0], f"type {kind[0]}") if kind else "BOOTP"
    text = f"DHCP {name} xid {message.xid:#010x}"
    if message.hrd == 1 and message.hln == 6:
        text += f" client {MAC(message.chaddr)}"
    if hostname := options.get(dhcp.DHCP_OPT_HOSTNAME):
        text += f" ({hostname.decode('ascii', 'replace')})"
    if requested := options.get(dhcp.DHCP_OPT_REQ_IP):
        text += f" asks for {IPv4Address(requested)}"
    if message.yiaddr:
        text += f" gets {IPv4Address(message.yiaddr)}"
    return text


# RFC 2132 section 9.6
_DHCP_TYPES = {
    1: "discover", 2: "offer", 3: "request", 4: "decline", 5: "ack", 6: "nak", 7: "release", 8: "inform",
}  # fmt: skip


def _ntp(payload: bytes) -> str:
    from dpkt import ntp

    message = ntp.NTP(payload)
    modes = {
        ntp.SYMMETRIC_ACTIVE: "symmetric active",
        ntp.SYMMETRIC_PASSIVE: "symmetric passive",
        ntp.CLIENT: "client",
        ntp.SERVER: "server",
        ntp.BROADCAST: "broadcast",
    }
    text = f"NTP v{message.v} {modes.get(message.mode, f'mode {message.mode}')}"
    return f"{text} stratum {message.stratum}" if message.mode == ntp.SERVER else text


_UDP: dict[tuple[int, ...], Callable[[bytes], str | None]] = {
    (53, 5353, 5355): _dns,
    (67, 68): _dhcp,
    (123,): _ntp,
}


def _http(payload: bytes) -> str | None:
    from dpkt import http

    line, _, rest = payload.partition(b"\r\n")
    words = line.split(b" ", 2)
    # The body does not matter, and may well be in another segment; so may the rest of the headers.
    head = rest.partition(b"\r\n\r\n")[0]
    if len(words) == 3 and words[2].startswith(b"HTTP/1.") and words[0].isalpha() and words[0].isupper():
        host = http.parse_headers(io.BytesIO(head)).get("host", "")
        return f"HTTP {_text(words[0])} {_text(words[1])}" + (f" host {host}" if host else "")
    if words[0].startswith(b"HTTP/1.") and len(words) > 1 and words[1].isdigit():
        kind = http.parse_headers(io.BytesIO(head)).get("content-type", "")
        return f"HTTP {_text(b' '.join(words[1:]))}" + (f", {kind}" if kind else "")
    return None


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "replace")


def _tls(payload: bytes) -> str | None:
    from dpkt import ssl

    if payload[1:2] != b"\x03" or len(payload) < 6 or payload[5] not in (1, 2):
        return None
    name = "TLS ClientHello" if payload[5] == 1 else "TLS ServerHello"
    records, _ = ssl.tls_multi_factory(payload)
    if not records:
        return f"{name} (continued in the next segment)"
    hello = ssl.TLSHandshake(records[0].data).data
    if payload[5] == 2:
        return f"{name} {getattr(hello.ciphersuite, 'name', '')}".rstrip()
    # RFC 6066 section 3: a list of names, each with a type (0: host name) and a length.
    for number, data in getattr(hello, "extensions", []):
        if number == 0 and len(data) > 5 and data[2] == 0:
            return f"{name} SNI {_text(data[5 : 5 + int.from_bytes(data[3:5], 'big')])}"
    return name
