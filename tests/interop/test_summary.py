"""One line about application data: what is recognised, and that nothing ever raises."""

from __future__ import annotations

import functools
import ssl
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire.packets import packets

from rawkit.interop.dpkt import application_summary
from rawkit.wire import TCP, UDP, ICMPUnreachable, IPv4, Packet
from rawkit.wire.fragment import fragment

IP = IPv4(src="192.0.2.1", dst="192.0.2.2")


def over_udp(payload: bytes, port: int) -> Packet:
    return Packet.parse(bytes(IP / UDP(sport=40000, dport=port) / payload), first=IPv4)


def over_tcp(payload: bytes, port: int = 40001) -> Packet:
    return Packet.parse(bytes(IP / TCP(sport=40000, dport=port, flags="PA") / payload), first=IPv4)


def client_hello(name: str | None) -> bytes:
    """What Python's ssl module sends first."""
    context = ssl.create_default_context()
    context.check_hostname = name is not None
    out = ssl.MemoryBIO()
    session = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        session.do_handshake()
    return out.read()


def dns(**fields: Any) -> bytes:
    from scapy.layers.dns import DNS

    return bytes(DNS(**fields))


def test_dns() -> None:
    from scapy.layers.dns import DNSQR, DNSRR

    question = DNSQR(qname="www.example.org", qtype="AAAA")
    query = dns(id=0x1A2B, qd=[question])
    assert application_summary(over_udp(query, 53)) == "DNS query 0x1a2b AAAA www.example.org"
    framed = len(query).to_bytes(2, "big") + query
    assert application_summary(over_tcp(framed, 53)) == "DNS query 0x1a2b AAAA www.example.org"
    records = [
        DNSRR(rrname="www.example.org", type="CNAME", rdata="example.org"),
        DNSRR(rrname="example.org", type="AAAA", rdata="2001:db8::1"),
        DNSRR(rrname="example.org", type="A", rdata="192.0.2.80"),
    ]
    answer = dns(id=0x1A2B, qr=1, qd=[question], an=records)
    expected = "DNS response 0x1a2b AAAA www.example.org -> CNAME example.org, AAAA 2001:db8::1, A 192.0.2.80"
    assert application_summary(over_udp(answer, 5353)) == expected
    missing = dns(id=1, qr=1, rcode=3, qd=[question])
    assert application_summary(over_udp(missing, 53)) == "DNS response 0x0001 AAAA www.example.org NXDOMAIN"


def test_dns_with_records_that_dpkt_does_not_know() -> None:
    from scapy.layers.dns import DNSQR, DNSRR

    question = DNSQR(qname="example.org", qtype=65)
    octets = dns(id=2, qr=1, qd=[question], an=[DNSRR(rrname="example.org", type=65, rdata=b"\0\1\0")])
    assert application_summary(over_udp(octets, 53)) == "DNS response 0x0002 HTTPS example.org"


def test_dhcp() -> None:
    from scapy.layers.dhcp import BOOTP, DHCP

    mac = bytes.fromhex("00005e005301")
    options = [("message-type", "request"), ("hostname", b"laptop"), ("requested_addr", "192.0.2.50"), "end"]
    octets = bytes(BOOTP(chaddr=mac, xid=0x01020304) / DHCP(options=options))
    expected = "DHCP request xid 0x01020304 client 00:00:5e:00:53:01 (laptop) asks for 192.0.2.50"
    assert application_summary(over_udp(octets, 67)) == expected
    answer = DHCP(options=[("message-type", 5), "end"])
    octets = bytes(BOOTP(op=2, chaddr=mac, xid=1, yiaddr="192.0.2.50") / answer)
    expected = "DHCP ack xid 0x00000001 client 00:00:5e:00:53:01 gets 192.0.2.50"
    assert application_summary(over_udp(octets, 68)) == expected


def test_ntp() -> None:
    assert application_summary(over_udp(bytes([0x23]) + bytes(47), 123)) == "NTP v4 client"
    assert application_summary(over_udp(bytes([0x24, 2]) + bytes(46), 123)) == "NTP v4 server stratum 2"


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b"GET /a?b=c HTTP/1.1\r\nHost: example.org\r\n\r\n", "HTTP GET /a?b=c host example.org"),
        (b"POST /form HTTP/1.0\r\nContent-Length: 900\r\n\r\nfirst part", "HTTP POST /form"),
        (b"GET / HTTP/1.1\r\nUser-Agent: cut in the mid", "HTTP GET /"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>", "HTTP 200 OK, text/html"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "HTTP 404 Not Found"),
        (b"GET /\x1b[31m\xff HTTP/1.1\r\n\r\n", "HTTP GET /.[31m\ufffd"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", None),
        (b"get / HTTP/1.1\r\n\r\n", None),
    ],
)
def test_http(payload: bytes, expected: str | None) -> None:
    assert application_summary(over_tcp(payload)) == expected


def test_tls() -> None:
    hello = client_hello("www.example.org")
    assert application_summary(over_tcp(hello)) == "TLS ClientHello SNI www.example.org"
    assert application_summary(over_tcp(hello[:100])) == "TLS ClientHello (continued in the next segment)"
    assert application_summary(over_tcp(b"\x16\x03\x01\x00\x05\x04abcd")) is None


def test_text_is_bounded_and_printable() -> None:
    text = application_summary(over_tcp(b"GET /" + b"x" * 1000 + b" HTTP/1.1\r\n\r\n"))
    assert text is not None
    assert len(text) == 240
    assert text.endswith("...")


def test_fragments_and_quoted_packets_are_passed_over() -> None:
    query = b"GET / HTTP/1.1\r\n\r\n".ljust(200)
    packet = over_tcp(query)
    assert application_summary(packet) == "HTTP GET /"
    assert [application_summary(piece) for piece in fragment(packet, 100)] == [None] * 3
    quoting = IPv4(src="192.0.2.2", dst="192.0.2.1") / ICMPUnreachable() / bytes(packet)
    assert application_summary(Packet.parse(bytes(quoting), first=IPv4)) is None
    assert application_summary(IP / TCP() / b"") is None


PORTS = [53, 5353, 67, 68, 123, 80, 443, 40000]
STARTS = [
    b"",
    b"GET / HTTP/1.1\r\n",
    b"HTTP/1.1 ",
    b"\x16\x03\x01\x00\x50\x01",
    b"\x16\x03\x01\x00\x30\x02\0\0\x2c\3\3",
]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(STARTS), st.binary(max_size=300), st.sampled_from(PORTS), st.booleans())
def test_any_octets_give_a_line_or_none(start: bytes, rest: bytes, port: int, tcp: bool) -> None:
    check((over_tcp if tcp else over_udp)(start + rest, port))


def check(packet: Packet) -> None:
    text = application_summary(packet)
    assert text is None or (text.isprintable() and 0 < len(text) <= 240)


@settings(max_examples=100, deadline=None)
@given(data=st.data(), changes=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=5))
def test_damaged_messages_give_a_line_or_none(data: st.DataObject, changes: list[tuple[int, int]]) -> None:
    payload, port = data.draw(st.sampled_from(_messages()))
    octets = bytearray(payload)
    for at, value in changes:
        octets[at % len(octets)] = value
    octets = octets[: data.draw(st.integers(1, len(octets)))]
    check(over_udp(bytes(octets), port) if port != 443 else over_tcp(bytes(octets)))


@functools.cache
def _messages() -> list[tuple[bytes, int]]:
    """Messages of each kind and the ports that they are recognised by."""
    from scapy.layers.dhcp import BOOTP, DHCP
    from scapy.layers.dns import DNSQR, DNSRR

    kinds = ("CNAME", "NS", "PTR")
    records = [DNSRR(rrname="a.example.org", type=kind, rdata="b.example.org") for kind in kinds]
    discover = BOOTP() / DHCP(options=[("message-type", 1), ("hostname", b"x"), "end"])
    return [
        (dns(qr=1, qd=[DNSQR(qname="a.example.org")], an=records), 53),
        (bytes(discover), 67),
        (client_hello("example.org"), 443),
    ]


@settings(max_examples=50, deadline=None)
@given(packet=packets(whole=False))
def test_any_packet_gives_a_line_or_none(packet: Packet) -> None:
    check(packet)


def test_dns_names_of_thousands_of_pointers_take_no_time() -> None:
    """3,000 records, each with a name by way of a chain of 8,000 pointers, keep dpkt alone busy for long."""
    base = 23  # after the header, and the root's name, type, class, time to live and length
    chain = b"\0\0" + b"".join((0xC000 | at).to_bytes(2, "big") for at in range(base, 16000, 2))
    carrier = b"\0\0\x0a\0\1" + bytes(4) + len(chain).to_bytes(2, "big") + chain  # of type NULL
    record = (0xC000 | base + len(chain) - 2).to_bytes(2, "big") + b"\0\1\0\1" + bytes(4) + b"\0\4" + bytes(4)
    octets = b"\0\1\x80\0\0\0" + (3001).to_bytes(2, "big") + bytes(4) + carrier + record * 3000
    start = time.process_time()
    text = application_summary(over_udp(octets[:65000], 53))
    assert time.process_time() - start < 3
    assert text is not None
    assert text.startswith("DNS response 0x0001 -> type 10, A 0.0.0.0, A 0.0.0.0")


def test_long_dns_answers_are_cut() -> None:
    from scapy.layers.dns import DNSQR, DNSRR

    records = [DNSRR(rrname="a.example", type="A", rdata=f"192.0.2.{n}") for n in range(14)]
    text = application_summary(over_udp(dns(qr=1, qd=[DNSQR(qname="a.example")], an=records), 53))
    assert text is not None
    assert text.endswith("A 192.0.2.10, A 192.0.2.11, ...")
