"""What people see: the line, the tree, the hexdump, the diagram, plain values."""

from __future__ import annotations

import json

import pytest

from rawkit.wire import (
    ARP,
    MSS,
    SACK,
    TCP,
    UDP,
    Dot1Q,
    Ether,
    ICMPEcho,
    ICMPTimeExceeded,
    ICMPUnreachable,
    ICMPv6Echo,
    IPv4,
    IPv6,
    IPv6Fragment,
    NeighbourAdvertisement,
    NeighbourSolicitation,
    NoOperation,
    Packet,
    SACKPermitted,
    Timestamps,
    WindowScale,
)  # fmt: skip
from rawkit.wire.icmp import ICMPRedirect
from rawkit.wire.tcp import UnknownTCPOption

IP = IPv4(src="10.77.0.1", dst="10.77.0.2")
IP6 = IPv6(src="fd77::1", dst="fd77::2")
UDP_ = UDP(sport=40000, dport=33434)
OPTIONS = (MSS(1460), SACKPermitted(), Timestamps(1, 2), NoOperation(), WindowScale(7))
BACK = IPv4(src="10.77.0.9", dst="10.77.0.1")

LINES = {
    "IP 10.77.0.1.40000 > 10.77.0.2.80: Flags [S], seq 1, win 64240, "
    "options [mss 1460,sackOK,TS val 1 ecr 2,nop,wscale 7], length 0": (
        Ether() / IP / TCP(sport=40000, dport=80, seq=1, window=64240, options=OPTIONS)
    ),
    "IP 10.77.0.1.80 > 10.77.0.2.40000: Flags [P.], seq 7, ack 8, win 500, length 3": (
        IP / TCP(sport=80, dport=40000, flags="PA", seq=7, ack=8, window=500) / b"abc"
    ),
    "IP 10.77.0.1.1 > 10.77.0.2.2: Flags [none], seq 0, win 9, "
    "options [nop,nop,sack 1 {1:2},UnknownTCPOption(252, b'\\x1b[')], length 0": (
        IP
        / TCP(sport=1, dport=2, flags=0, window=9, options=[
            NoOperation(), NoOperation(), SACK([(1, 2)]), UnknownTCPOption(252, b"\x1b[")])
    ),
    "IP 10.77.0.1.1 > 10.77.0.2.2: Flags [FRUEWe.], seq 0, ack 0, win 9, urg 5, length 0": (
        IP / TCP(sport=1, dport=2, flags=0x1F5, window=9, urgent=5)
    ),
    "IP 10.77.0.1.40000 > 10.77.0.2.33434: UDP, length 5": Ether() / IP / UDP_ / b"hello",
    "vlan 5: IP 10.77.0.1.40000 > 10.77.0.2.33434: UDP, length 5": (
        Ether() / Dot1Q(vid=5) / IP / UDP_ / b"hello"
    ),
    "IP6 fd77::1.40000 > fd77::2.33434: UDP, length 5": IP6 / UDP_ / b"hello",
    "IP 10.77.0.1 > 10.77.0.2: ICMP echo request, id 1, seq 2, length 64": (
        IP / ICMPEcho(id=1, seq=2) / bytes(56)
    ),
    "IP6 fd77::1 > fd77::2: ICMP6, echo reply, id 1, seq 2, length 16": (
        IP6 / ICMPv6Echo(type=129, id=1, seq=2) / bytes(8)
    ),
    "IP6 fd77::1 > fd77::2: ICMP6, neighbour solicitation, who has fd77::3, length 24": (
        Packet([IP6, NeighbourSolicitation(target="fd77::3")])
    ),
    "IP6 fd77::1 > fd77::2: ICMP6, neighbour advertisement, tgt is fd77::3, length 24": (
        Packet([IP6, NeighbourAdvertisement(target="fd77::3")])
    ),
    "ARP, Request who-has 10.77.0.2 tell 10.77.0.1, length 28": (
        Packet([Ether(), ARP(sender_ip="10.77.0.1", target_ip="10.77.0.2")])
    ),
    "IP 10.77.0.9 > 10.77.0.1: ICMP time exceeded, length 41, for "
    "IP 10.77.0.1.40000 > 10.77.0.2.33434: UDP, length 5": BACK / ICMPTimeExceeded() / IP / UDP_ / b"hello",
    "IP 10.77.0.9 > 10.77.0.1: ICMP port unreachable, length 36, for "
    "IP 10.77.0.1 > 10.77.0.2: protocol 6 (TCP), length 8": (
        BACK / ICMPUnreachable(code=3) / IP.replace(protocol=6) / bytes(8)
    ),
    "IP 10.77.0.9 > 10.77.0.1: ICMP redirect to 10.77.0.8, length 8": (
        Packet([BACK, ICMPRedirect(gateway="10.77.0.8")])
    ),
    "IP 10.77.0.1 > 10.77.0.2: frag 9 offset 1480+: protocol 17 (UDP), length 50": (
        IP.replace(id=9, flags="MF", fragment_offset=185, protocol=17) / bytes(50)
    ),
    "IP6 fd77::1.40000 > fd77::2.33434: frag 7 offset 0+: UDP, length 5": (
        IP6 / IPv6Fragment(id=7, more=1) / UDP_ / b"hello"
    ),
    "IP 10.77.0.9 > 10.77.0.1: IP6 fd77::1.40000 > fd77::2.33434: UDP, length 5": (
        BACK / IP6 / UDP_ / b"hello"
    ),
    "IP 10.77.0.1 > 10.77.0.2: protocol 253 (experimental), length 4": IP.replace(protocol=253) / bytes(4),
    "Ether 00:00:00:00:00:00 > ff:ff:ff:ff:ff:ff: ethertype 0x1234, length 4": (
        Ether(ethertype=0x1234) / bytes(4)
    ),
}  # fmt: skip


@pytest.mark.parametrize(("line", "packet"), LINES.items())
def test_lines(line: str, packet: Packet) -> None:
    assert Packet.parse(bytes(packet), first=type(packet.layers[0]), strict=True).summary() == line
    assert packet.summary() == line


def test_the_line_says_what_is_wrong() -> None:
    octets = bytes(Ether() / IP / TCP())[:40]
    assert Packet.parse(octets).summary() == (
        "IP 10.77.0.1 > 10.77.0.2: protocol 6 (TCP), length 6 [TCP: need 20 octets at offset 34, have 6]"
    )
    assert (
        Packet.parse(b"abc").summary()
        == "no header known, length 3 [Ether: need 14 octets at offset 0, have 3]"
    )


def test_tree() -> None:
    packet = Packet.parse(
        bytes(IP / UDP(sport=1, dport=2, checksum=7) / b"\x1b[31m\xff") + b"\0\0", first=IPv4
    )
    assert (
        packet.show()
        == """\
IPv4
  version          4
  ihl              5
  dscp             0
  ecn              0
  total_length     34
  id               0
  flags            0 (0x0)
  fragment_offset  0
  ttl              64
  protocol         17 (UDP)
  checksum         0x662f  [good]
  src              10.77.0.1
  dst              10.77.0.2
  options          -
UDP
  sport     1
  dport     2
  length    14
  checksum  0x0007  [bad, should be 0x2ea7]
payload 6 octets
  0000  1b 5b 33 31 6d ff                                 .[31m.
trailer 2 octets
  0000  00 00                                             .."""
    )
    assert (IP / UDP()).show().count("auto") == 6
    assert UDP(sport=5).show().splitlines()[:2] == ["UDP", "  sport     5"]


def test_tree_tells_damage() -> None:
    assert (
        Packet.parse(b"abc").show().splitlines()[-1] == "damaged: Ether: need 14 octets at offset 0, have 3"
    )


def test_hexdump() -> None:
    lines = Packet(payload=bytes(range(28, 55))).hexdump().split("\n")
    assert lines == [
        "0000  1c 1d 1e 1f 20 21 22 23  24 25 26 27 28 29 2a 2b  .... !\"#$%&'()*+",
        "0010  2c 2d 2e 2f 30 31 32 33  34 35 36                 ,-./0123456",
    ]
    assert Packet().hexdump() == ""


def test_diagram_is_that_of_the_rfc() -> None:
    """RFC 9293 section 3.1, figure 1: the same cells under the same bit numbers."""
    figure = [
        " 0                   1                   2                   3",
        " 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1",
        "+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+",
        "|          Source Port          |       Destination Port        |",
        "+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+",
        "|                        Sequence Number                        |",
        "+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+",
        "|                    Acknowledgment Number                      |",
        "+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+",
    ]
    ours = TCP.diagram().split("\n")
    assert ours[:3] == figure[:3]
    for theirs, mine in zip(figure[3:], ours[3:]):
        assert [at for at, c in enumerate(mine) if c in "|+"] == [
            at for at, c in enumerate(theirs) if c in "|+"
        ]
    assert ours[3] == "|             sport             |             dport             |"
    assert ours[9] == "|data_of|reser|      flags      |            window             |"
    assert ours[-2] == "|                          options ...                          |"


def test_diagram_of_a_short_row() -> None:
    assert Ether.diagram().split("\n")[-3:] == [
        "+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+",
        "|           ethertype           |",
        "+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+",
    ]


def test_plain_values() -> None:
    packet = Packet.parse(bytes(Ether() / IP / TCP(options=[MSS(9), SACK([(1, 2)])]) / b"\xff"), strict=True)
    shown = packet.to_dict()
    assert json.loads(json.dumps(shown)) == shown
    ether, ip, tcp = shown["layers"]
    assert (ether["layer"], ether["dst"], ether["ethertype"]) == ("Ether", "ff:ff:ff:ff:ff:ff", 0x0800)
    assert (ip["src"], ip["ttl"]) == ("10.77.0.1", 64)
    assert tcp["options"] == [{"option": "MSS", "value": 9}, {"option": "SACK", "blocks": [[1, 2]]}]
    assert (shown["payload"], "error" in shown, "trailer" in shown) == ("ff", False, False)
    assert UDP().length is not None
    assert (IP / UDP()).to_dict()["layers"][1]["length"] == "auto"
    assert Packet.parse(b"abc").to_dict()["error"].startswith("Ether: need 14 octets")
