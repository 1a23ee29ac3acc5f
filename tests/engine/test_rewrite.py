"""Rewriting against packets built anew from objects, against tcprewrite, and over the fixtures."""

from __future__ import annotations

import subprocess
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracles import oracle

from rawkit.engine import FrameBatch
from rawkit.engine.batch import CSUM_NOT_READY
from rawkit.engine.rewrite import DST, SRC, TAG_LEN, PrefixRule, Rewriter
from rawkit.errors import EngineError
from rawkit.pcap import create_pcap, open_pcap
from rawkit.wire import (
    ARP,
    AUTO,
    SCTP,
    TCP,
    UDP,
    Dot1Q,
    Ether,
    Frame,
    Header,
    ICMPEcho,
    ICMPTimeExceeded,
    IPv4,
    IPv6,
    Packet,
    checksum,
)
from rawkit.wire.fragment import fragment

PCAPS = Path(__file__).parents[2] / "pcaps"


def prefix(before: str, after: str, ends: int = SRC | DST) -> PrefixRule:
    old, new = ip_network(before), ip_network(after)
    return PrefixRule(
        old.network_address.packed, old.prefixlen, new.network_address.packed, new.prefixlen, ends
    )


def rewrite(frames: list[bytes], *, not_ready: bool = False, **rules: Any) -> list[bytes]:
    room = sum(map(len, frames)) + TAG_LEN * len(frames)
    batch, out = FrameBatch(len(frames), room), FrameBatch(len(frames), room)
    batch.extend(frames)
    if not_ready:
        for i in range(len(frames)):
            batch.handle.frames[i].flags = CSUM_NOT_READY
    assert Rewriter(**rules).append(batch, out) == len(frames)
    return list(out)


def one(frame: bytes, **rules: Any) -> bytes:
    (after,) = rewrite([frame], **rules)
    return after


V4 = [prefix("10.0.0.0/8", "192.168.0.0/16"), prefix("172.16.0.0/12", "0.0.0.0/4")]
V6 = [prefix("2001:db8::/32", "fd00:1:2::/47"), prefix("2001:db8:8000::/33", "::/0")]


def mapped(address: str) -> str:
    """The prefixes above, said with whole numbers."""
    ip = ip_address(address)
    for before, after in (
        ("10.0.0.0/8", "192.168.0.0/16"),
        ("172.16.0.0/12", "0.0.0.0/4"),
        ("2001:db8::/32", "fd00:1:2::/47"),
    ):
        if ip.version == ip_network(before).version and ip in ip_network(before):
            new = ip_network(after)
            return str(type(ip)(int(new.network_address) | int(ip) & int(new.hostmask)))
    return address


octet = st.integers(0, 255)
v4_addresses = st.one_of(
    st.builds("10.{}.{}.{}".format, octet, octet, octet),
    st.builds("172.{}.{}.1".format, st.integers(16, 31), octet),
    st.sampled_from(["0.0.0.0", "255.255.255.255", "198.51.100.7"]),
)
v6_addresses = st.one_of(
    st.integers(0, 2**96 - 1).map(lambda n: str(ip_address((0x20010DB8 << 96) + n))),
    st.sampled_from(["::", "ff02::1", "fe80::1"]),
)
ports = st.one_of(st.sampled_from([80, 443, 0, 65535]), st.integers(0, 65535))
PORTS = {80: 8080, 443: 0, 0: 65535, 65535: 0}


@st.composite
def packets(draw: st.DrawFn) -> Packet:
    """TCP, UDP, SCTP, ICMP echo or an ICMP error, over either family, behind up to two tags."""
    v6 = draw(st.booleans())
    addresses = v6_addresses if v6 else v4_addresses
    src, dst = draw(addresses), draw(addresses)
    ecn, dscp, hops = draw(st.integers(0, 3)), draw(st.integers(0, 63)), draw(octet)
    ip: Header = (
        IPv6(src=src, dst=dst, hop_limit=hops, traffic_class=dscp << 2 | ecn)
        if v6
        else IPv4(src=src, dst=dst, ttl=hops, dscp=dscp, ecn=ecn, id=draw(st.integers(0, 65535)))
    )
    kind = draw(st.sampled_from(["tcp", "udp", "sctp", "echo", "error"][: 4 if v6 else 5]))
    upper: Header | Packet
    if kind == "tcp":
        upper = TCP(sport=draw(ports), dport=draw(ports), seq=draw(st.integers(0, 2**32 - 1)))
    elif kind == "udp":
        upper = UDP(sport=draw(ports), dport=draw(ports))
    elif kind == "sctp":
        upper = SCTP(sport=draw(ports), dport=draw(ports))
    elif kind == "echo":
        upper = UDP(sport=draw(ports), dport=draw(ports)) if v6 else Packet([ICMPEcho(id=draw(octet))])
    else:
        quoted = IPv4(src=dst, dst=src, ttl=1, id=9) / UDP(sport=draw(ports), dport=draw(ports)) / b"abcd"
        upper = ICMPTimeExceeded() / quoted
    links: list[Header] = [Ether(src="00:00:5e:00:53:01", dst="00:00:5e:00:53:02")]
    links += [Dot1Q(vid=draw(st.integers(0, 4095))) for _ in range(draw(st.integers(0, 2)))]
    return Packet(links) / ip / upper / draw(st.binary(max_size=40))


def rebuilt(octets: bytes, **changes: Any) -> bytes:
    """The packet with other addresses, ports, hop limit and DSCP, its checksums computed from nothing."""
    layers = []
    for header in Packet.parse(octets).layers:
        new: dict[str, Any] = {}
        if isinstance(header, (IPv4, IPv6)):
            new = {"src": mapped(str(header.src)), "dst": mapped(str(header.dst))}
        if isinstance(header, (TCP, UDP, SCTP)):
            new = {
                "sport": PORTS.get(header.sport, header.sport),
                "dport": PORTS.get(header.dport, header.dport),
            }
        if not any(isinstance(layer, ICMPTimeExceeded) for layer in layers):
            if isinstance(header, IPv4):
                new |= {"ttl": changes["hop_limit"], "dscp": changes["dscp"]}
            if isinstance(header, IPv6):
                ecn = header.traffic_class & 3
                new |= {"hop_limit": changes["hop_limit"], "traffic_class": changes["dscp"] << 2 | ecn}
        if any(row.name == "checksum" for row in header.fields):
            new["checksum"] = AUTO
        layers.append(header.replace(**new))
    return bytes(Packet(layers, Packet.parse(octets).payload))


@given(packet=packets(), hop_limit=octet, dscp=st.integers(0, 63))
def test_octets_are_those_of_the_packet_built_anew(packet: Packet, hop_limit: int, dscp: int) -> None:
    frame = bytes(packet)
    after = one(frame, prefixes=[*V4, *V6], ports=PORTS, hop_limit=hop_limit, dscp=dscp)
    assert after == rebuilt(frame, hop_limit=hop_limit, dscp=dscp)


def states(octets: bytes, linktype: int = 1) -> list[tuple[str, str, str]]:
    packet = Frame(octets, linktype=linktype).packet()
    return [(v.layer.__name__, v.field, v.state) for v in packet.checksums()]


EVERYTHING: dict[str, Any] = {
    "prefixes": [
        prefix("192.0.2.0/24", "10.77.0.0/16"),
        prefix("198.51.100.0/24", "203.0.113.0/24"),
        prefix("10.0.0.0/8", "172.31.0.0/16"),
        prefix("2001:db8::/32", "fd77:1:2:3::/64"),
        prefix("fe80::/64", "fe80:0:0:7::/64"),
    ],
    "ports": {80: 8080, 53: 5353, 1234: 4321, **{port: port ^ 1 for port in range(10000, 65536)}},
    "hop_limit": 33,
    "dscp": 46,
}


@pytest.mark.parametrize("path", sorted(PCAPS.glob("*.pcapng")), ids=lambda path: path.stem)
def test_no_checksum_of_a_fixture_goes_bad_and_no_bad_one_good(path: Path) -> None:
    with open_pcap(path) as reader:
        frames = [frame.data for frame in reader if frame.linktype == 1]
    if not frames:
        pytest.skip("no Ethernet frames")
    after = rewrite(frames, **EVERYTHING)
    assert any(old != new for old, new in zip(frames, after))
    for old, new in zip(frames, after):
        for (layer, field, was), now in zip(states(old), states(new), strict=True):
            udp_none = layer == "UDP" and old[40:42] == b"\0\0"
            finished = was == "not filled in" and not udp_none
            assert now == (layer, field, "good" if finished else was)


def tshark_states(path: Path) -> list[str]:
    """Every checksum's state, frame by frame: 0 is bad, 1 good."""
    names = ("ip", "tcp", "udp", "icmp", "icmpv6", "sctp", "dccp")
    checked = (
        "ip.check_checksum",
        "tcp.check_checksum",
        "udp.check_checksum",
        "dccp.check_checksum",
        "udplite.check_checksum",
    )
    options = [word for name in checked for word in ("-o", f"{name}:TRUE")] + ["-o", "sctp.checksum:CRC 32c"]
    fields = [word for name in names for word in ("-e", f"{name}.checksum.status")]
    command = [oracle("tshark"), "-n", "-r", str(path), "-T", "fields", *options, *fields]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout.splitlines()


@pytest.mark.slow
def test_tshark_finds_no_bad_checksum_that_was_not_bad_before(tmp_path: Path) -> None:
    before, after = tmp_path / "before.pcap", tmp_path / "after.pcap"
    frames = []
    for path in sorted(PCAPS.glob("*.pcapng")):
        with open_pcap(path) as reader:
            frames += [frame.data for frame in reader if frame.linktype == 1]
    for path, rows in ((before, frames), (after, rewrite(frames, **EVERYTHING))):
        with create_pcap(path, linktype=1) as writer:
            for octets in rows:
                writer.write(Frame(octets))
    was, now = tshark_states(before), tshark_states(after)
    assert len(was) == len(now) == len(frames)
    assert sum("1" in states for states in was) > 200
    worse = [i for i, pair in enumerate(zip(was, now)) if pair[1].count("0") > pair[0].count("0")]
    assert not worse


def tcprewrite(frames: list[bytes], tmp_path: Path, *options: str) -> list[bytes]:
    source, target = tmp_path / "in.pcap", tmp_path / "out.pcap"
    with create_pcap(source, linktype=1) as writer:
        for octets in frames:
            writer.write(Frame(octets))
    command = [oracle("tcprewrite"), "-i", str(source), "-o", str(target), *options]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    with open_pcap(target) as reader:
        return [frame.data for frame in reader]


def test_tcprewrite_makes_the_same_of_ordinary_packets(tmp_path: Path) -> None:
    """MAC addresses aside: with a tag added tcprewrite writes those of IPv6 anew."""
    ether = Ether(src="00:00:5e:00:53:01", dst="00:00:5e:00:53:02")
    uppers = [
        lambda: TCP(sport=80, dport=50000, seq=7) / b"GET",
        lambda: UDP(sport=50000, dport=443) / b"odd",
        lambda: TCP(sport=1, dport=2) / bytes(100),
    ]
    frames = [
        bytes(ether / ip / upper())
        for upper in uppers
        for ip in (IPv4(src="10.1.2.3", dst="10.9.9.9", ttl=9), IPv6(src="2001:db8::1", dst="2001:db8:9::2"))
    ]
    frames.append(bytes(ether / ARP(sender_ip="10.1.2.3", target_ip="10.9.9.9")))
    wanted = tcprewrite(
        frames,
        tmp_path,
        "--pnat=10.0.0.0/8:192.168.0.0/16,[2001:db8::/32]:[fd00:1::/32]",
        "--portmap=80:8080,443:4430",
        "--ttl=33",
        "--enet-vlan=add",
        "--enet-vlan-tag=7",
        "--enet-vlan-cfi=0",
        "--enet-vlan-pri=0",
    )
    after = rewrite(
        frames,
        prefixes=[prefix("10.0.0.0/8", "192.168.0.0/16"), prefix("2001:db8::/32", "fd00:1::/32")],
        ports={80: 8080, 443: 4430},
        hop_limit=33,
        vlan_add=(0x8100, 7),
    )
    assert [octets[12:] for octets in after] == [octets[12:] for octets in wanted]


ETHER = Ether(src="00:00:5e:00:53:01", dst="00:00:5e:00:53:02")
TEN = [prefix("10.0.0.0/8", "192.168.0.0/16"), prefix("2001:db8::/32", "fd00::/32")]


@pytest.mark.parametrize("family", [4, 6])
def test_fragments_become_those_of_the_rewritten_packet(family: int) -> None:
    ip: Header = (
        IPv4(src="10.0.0.1", dst="10.0.0.2", id=5) if family == 4 else IPv6(src="2001:db8::1", dst="::1")
    )
    whole = ETHER / ip / UDP(sport=80, dport=443) / bytes(range(200))
    parts = rewrite(
        [bytes(part) for part in fragment(Packet.parse(bytes(whole)), 120, 5)], prefixes=TEN, ports={80: 1}
    )
    after = Packet.parse(one(bytes(whole), prefixes=TEN, ports={80: 1}))
    assert parts == [bytes(part) for part in fragment(after, 120, 5)]
    assert len(parts) > 2


def test_a_fragments_checksum_is_never_taken_for_an_unfinished_one() -> None:
    whole = ETHER / IPv4(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=80, dport=443) / bytes(200)
    first = bytearray(bytes(fragment(Packet.parse(bytes(whole)), 120, 5)[0]))
    found = checksum.pseudo_header(bytes(first[26:30]), bytes(first[30:34]), 17, len(first) - 34)
    first[40:42] = found.to_bytes(2, "big")
    for old, new in ((0x0A00, 0xC0A8), (0x0A00, 0xC0A8)):
        found = checksum.update(found, old, new)
    assert one(bytes(first), prefixes=TEN)[40:42] == found.to_bytes(2, "big")


@pytest.mark.parametrize("upper", [TCP, UDP, SCTP])
def test_a_bad_checksum_stays_as_bad_unless_it_is_to_be_fixed(upper: type[Header]) -> None:
    good = bytes(ETHER / IPv4(src="10.0.0.1", dst="10.0.0.2") / upper(sport=80, dport=1) / b"abc")
    at = 14 + 20 + {TCP: 16, UDP: 6, SCTP: 8}[upper]
    bad = bytearray(good)
    bad[at] ^= 1
    bad[24] ^= 1  # the IP header's
    after = one(bytes(bad), prefixes=TEN, ports={80: 8080})
    assert [state for _, _, state in states(after)] == ["bad", "bad"]
    rules: dict[str, Any] = {"prefixes": TEN, "ports": {80: 8080}}
    assert one(bytes(bad), **rules, checksums=True) == one(good, **rules)
    assert [state for _, _, state in states(one(good, **rules))] == ["good", "good"]


def test_a_udp_checksum_that_was_left_out_stays_out() -> None:
    octets = bytes(ETHER / IPv4(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=80, dport=1, checksum=0) / b"abc")
    for rules in ({"prefixes": TEN}, {"ports": {80: 9}}, {"checksums": True}):
        assert one(octets, **rules)[40:42] == b"\0\0"


@pytest.mark.parametrize(
    "ip", [IPv4(src="10.0.0.1", dst="10.0.0.2"), IPv6(src="2001:db8::1", dst="2001:db8::2")]
)
def test_a_checksum_left_to_hardware_is_finished(ip: Header) -> None:
    good = bytes(ETHER / ip / TCP(sport=80, dport=1) / b"abc")
    at = good.index(bytes.fromhex("00500001")) + 16
    (v,) = [v for v in Packet.parse(good).checksums() if v.layer is TCP]
    unfinished = bytearray(good)
    header = Packet.parse(good).layers[1]
    assert isinstance(header, (IPv4, IPv6))
    pseudo = header.pseudo_header(6, 23)
    total = sum(int.from_bytes(pseudo[i : i + 2], "big") for i in range(0, len(pseudo), 2))
    unfinished[at : at + 2] = (total % 0xFFFF).to_bytes(2, "big")
    assert v.state == "good"
    assert rewrite([bytes(unfinished)], not_ready=True) == [good]
    assert rewrite([bytes(unfinished)], not_ready=True, prefixes=TEN) == [one(good, prefixes=TEN)]


def test_tags_come_and_go() -> None:
    rest = IPv4(src="10.0.0.1", dst="10.0.0.2") / TCP() / b"abc"
    plain, tagged = bytes(ETHER / rest), bytes(ETHER / Dot1Q(vid=7, pcp=3) / rest)
    twice = bytes(ETHER / Dot1Q(vid=9) / Dot1Q(vid=7, pcp=3) / rest)
    tci = 3 << 13 | 7
    assert one(plain, vlan_add=(0x8100, tci)) == tagged
    assert one(tagged, vlan_add=(0x8100, 9)) == twice
    assert one(tagged, vlan_remove=True) == plain == one(plain, vlan_remove=True)
    assert one(twice, vlan_remove=True) == tagged
    assert one(tagged, vlan_remove=True, vlan_add=(0x88A8, 9)) == bytes(
        ETHER.replace(ethertype=0x88A8) / Dot1Q(vid=9) / rest
    )


def test_each_end_has_its_own_rules() -> None:
    octets = bytes(ETHER / IPv4(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=1, dport=2))
    for ends, addresses in ((SRC, ("192.168.0.1", "10.0.0.2")), (DST, ("10.0.0.1", "192.168.0.2"))):
        ip = Packet.parse(one(octets, prefixes=[prefix("10.0.0.0/8", "192.168.0.0/16", ends)]))[IPv4]
        assert (str(ip.src), str(ip.dst)) == addresses


def test_a_batch_takes_what_fits_and_counts_what_became_different() -> None:
    frames = [
        bytes(ETHER / IPv4(src=f"{net}.0.0.1", dst="192.0.2.1") / UDP() / bytes(30)) for net in (10, 11, 10)
    ]
    batch, out = FrameBatch(3), FrameBatch(3, 2 * (len(frames[0]) + 4))
    batch.extend(frames, time_ns=77)
    rewriter = Rewriter(prefixes=TEN)
    assert rewriter.append(batch, out) == 2
    assert rewriter.changed == 1
    out.clear()
    assert rewriter.append(batch, out, 2) == 1
    assert rewriter.changed == 2
    assert out.records()[0].time_ns == 77
    with pytest.raises(EngineError):
        rewriter.append(batch, out, 2, 2)


def test_what_cannot_be_said_is_refused() -> None:
    for rules in (
        {"hop_limit": 256},
        {"dscp": 64},
        {"ports": {1: 65536}},
        {"src_mac": b"12345"},
        {"vlan_add": (0x8100, 65536)},
        {"prefixes": [PrefixRule(b"1234", 33, b"1234", 8)]},
        {"prefixes": [PrefixRule(b"1234", 8, bytes(16), 8)]},
    ):
        with pytest.raises(ValueError, match="rewrite: "):
            Rewriter(**rules)  # type: ignore[arg-type]
