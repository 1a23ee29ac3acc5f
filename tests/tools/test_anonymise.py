"""Anonymising: prefixes are kept, checksums too, and no octet of an address stays, wherever it stood."""

from __future__ import annotations

import io
import subprocess
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from capfiles import Maker
from hypothesis import given
from hypothesis import strategies as st
from oracles import oracle

from rawkit.engine import FrameBatch
from rawkit.engine.rewrite import LINKS, Anonymiser, Rewriter
from rawkit.errors import CaptureFileError
from rawkit.pcap import create_pcap, open_pcap
from rawkit.tools.anonymise import WHOLE, Anonymise, AnonymisingEditor
from rawkit.tools.editfile import anonymise_pcap
from rawkit.wire import ARP, TCP, UDP, Ether, Frame, IPv4, IPv6
from rawkit.wire.fragment import fragment
from rawkit.wire.packet import Packet

PCAPS = Path(__file__).parents[2] / "pcaps"
FIXTURES = sorted(PCAPS.glob("*.pcapng"))
KEY = "a key of the tests"

Address = IPv4Address | IPv6Address


def common_bits(a: bytes, b: bytes) -> int:
    """How many bits from the start two addresses share."""
    n = len(a) * 8
    return n - (int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).bit_length()


@st.composite
def pairs(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """Two addresses that share any number of bits, one of them perhaps near what is kept."""
    n = draw(st.sampled_from([4, 16]))
    special = [net.network_address.packed for net in WHOLE if net.max_prefixlen == n * 8]
    first = draw(st.one_of(st.binary(min_size=n, max_size=n), st.sampled_from(special)))
    keep = draw(st.integers(0, n * 8))
    mask = (1 << n * 8 - keep) - 1
    second = int.from_bytes(first, "big") ^ draw(st.integers(0, mask))
    return first, second.to_bytes(n, "big")


@given(pair=pairs(), key=st.text(max_size=5))
def test_the_same_prefix_becomes_the_same_prefix(pair: tuple[bytes, bytes], key: str) -> None:
    anonymiser = Anonymise(key, keep=(ip_network("10.0.0.0/8"),)).editor().anonymiser
    first, second = map(anonymiser.address, pair)
    assert common_bits(first, second) == common_bits(*pair)
    assert [anonymiser.address(address) for address in pair] == [first, second]  # as remembered


def address_of(text: str, **options: Any) -> str:
    mapped = Anonymise(KEY, **options).editor().anonymiser.address(ip_address(text).packed)
    return str(ip_address(mapped))


@pytest.mark.parametrize(
    "text", ["0.0.0.0", "255.255.255.255", "127.0.0.1", "224.0.0.251", "::", "::1", "ff02::1", "ff05::1:3"]
)
def test_addresses_of_no_host_stay(text: str) -> None:
    assert address_of(text) == text


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("239.1.2.3", "224.0.0.0/4"),
        ("169.254.7.7", "169.254.0.0/16"),
        ("fe80::1234:5678:9abc:def0", "fe80::/64"),
        ("ff02::1:ff12:3456", "ff02::1:ff00:0/104"),
        ("ff35::1", "ff00::/8"),
        ("10.1.2.3", "10.0.0.0/8"),
    ],
)
def test_kinds_of_addresses_stay_such(text: str, network: str) -> None:
    mapped = address_of(text, keep=(ip_network("10.0.0.0/8"),))
    assert mapped != text
    assert ip_address(mapped) in ip_network(network)


def test_keys_decide() -> None:
    texts = ["192.0.2.1", "2001:db8::1"]
    one, same, other = (
        [Anonymise(key).editor().anonymiser.address(ip_address(text).packed) for text in texts]
        for key in ("one", "one", "other")
    )
    assert one == same
    assert not set(one) & set(other)
    random = {Anonymise().editor().anonymiser.address(bytes(range(16))) for _ in range(3)}
    assert len(random) == 3


def test_half_of_the_bits_flip() -> None:
    """Neither all nor none, whatever the place: 4000 addresses, each bit behind the kept ones."""
    anonymiser = Anonymiser(bytes(range(16)))
    flips = [0] * 32
    for i in range(4000):
        address = (i * 2654435761 % 2**32).to_bytes(4, "big")
        difference = int.from_bytes(anonymiser.address(address), "big") ^ int.from_bytes(address, "big")
        for bit in range(32):
            flips[bit] += difference >> 31 - bit & 1
    assert all(0.44 < flip / 4000 < 0.56 for flip in flips[12:])


@pytest.mark.parametrize("first", [0x00, 0x01, 0x02, 0x03, 0xFE])
def test_mac_addresses_keep_the_bits_for_group_and_local(first: int) -> None:
    anonymiser = Anonymise(KEY).editor().anonymiser
    mapped = anonymiser.address(bytes([first, 1, 2, 3, 4, 5]))
    assert mapped[0] & 3 == first & 3
    assert mapped[1:] != bytes([1, 2, 3, 4, 5])
    for fixed in (bytes(6), b"\xff" * 6, b"\x01\x80\xc2\0\0\x0e"):
        assert anonymiser.address(fixed) == fixed
    assert anonymiser.address(b"\x33\x33\xff\1\2\3")[:2] == b"\x33\x33"


# ---- files


def anonymised(octets: bytes, **options: Any) -> bytes:
    out = io.BytesIO()
    with open_pcap(io.BytesIO(octets)) as reader:
        anonymise_pcap(reader, out, Anonymise(KEY, **options))
    return out.getvalue()


def frames_of(octets: bytes) -> list[Frame]:
    with open_pcap(io.BytesIO(octets)) as reader:
        return list(reader)


def states(frame: Frame) -> list[tuple[str, str]]:
    return [(v.layer.__name__, v.state) for v in frame.packet().checksums()]


def addresses_of(text: str) -> set[bytes]:
    """The octets of all addresses in a text, but for those that stay."""
    found = set()
    for word in text.replace(",", " ").split():
        if word.count(":") == 5 and len(word) == 17:
            mac = bytes.fromhex(word.replace(":", ""))
            if mac not in (bytes(6), b"\xff" * 6) and not mac[0] & 1:
                found.add(mac)
            continue
        try:
            address = ip_address(word)
        except ValueError:
            continue
        if not any(address in network for network in WHOLE if network.version == address.version):
            found.add(address.packed)
    return found


# What tshark takes for an address of a host, wherever it stands.
TSHARK_FIELDS = (
    "eth.addr", "ip.addr", "ipv6.addr", "arp.src.proto_ipv4", "arp.dst.proto_ipv4", "arp.src.hw_mac",
    "arp.dst.hw_mac", "icmpv6.nd.ns.target_address", "icmpv6.nd.na.target_address", "icmpv6.opt.prefix",
    "icmpv6.opt.linkaddr", "ip.rec_rt", "ip.src_rt", "ip.cur_rt", "igmp.saddr", "icmpv6.opt.rdnss",
    "sctp.parameter_ipv4_address",
    "sctp.parameter_ipv6_address", "ipv6.routing.src.addr", "ipv6.opt.mipv6.home_address",
    "sll.src.eth", "icmp.redir_gw", "icmpv6.rd.na.target_address", "tcp.options.mptcp.ipv4",
)  # fmt: skip


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_no_checksum_of_a_fixture_goes_bad_and_no_bad_one_good(path: Path) -> None:
    before = frames_of(path.read_bytes())
    for payload in ("zero", "keep"):
        after = frames_of(anonymised(path.read_bytes(), payload=payload))
        assert len(after) == len(before)
        for was, now in zip(before, after):
            assert (was.time_ns, was.wire_len, len(was.data)) == (now.time_ns, now.wire_len, len(now.data))
            old, new = states(was), states(now)
            known = [layer for layer, _ in new]
            # What is not understood is zero now: its layers and sums are gone, and those behind them.
            for layer, state in old[: len(known)]:
                if (layer, state) in new:
                    continue
                assert state == "not filled in" or layer not in known, (path.stem, old, new)
            assert ("bad" in [s for _, s in old]) or "bad" not in [s for _, s in new], (old, new)


def tshark(path: Path, *words: str) -> str:
    command = [oracle("tshark"), "-n", "-r", str(path), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.mark.slow
def test_tshark_finds_no_bad_checksum_and_no_address_of_before(tmp_path: Path) -> None:
    names = ("ip", "tcp", "udp", "icmp", "icmpv6", "igmp", "sctp", "dccp")
    options = [
        word
        for name in ("ip", "tcp", "udp", "dccp", "udplite")
        for word in ("-o", f"{name}.check_checksum:TRUE")
    ]
    options += ["-o", "sctp.checksum:CRC 32c", "-T", "fields"]
    options += [word for name in names for word in ("-e", f"{name}.checksum.status")]
    known = {
        word
        for word in subprocess.run(
            [oracle("tshark"), "-G", "fields"], capture_output=True, text=True, check=True
        ).stdout.split()
        if "." in word
    }
    wanted = [word for name in TSHARK_FIELDS if name in known for word in ("-e", name)]
    for path in FIXTURES:
        after = tmp_path / path.name
        after.write_bytes(anonymised(path.read_bytes()))
        was, now = (tshark(file, *options).splitlines() for file in (path, after))
        assert len(was) == len(now)
        worse = [i for i, pair in enumerate(zip(was, now), 1) if pair[1].count("0") > pair[0].count("0")]
        assert not worse, path
        octets = after.read_bytes()
        for address in addresses_of(tshark(path, "-T", "fields", *wanted)):
            assert address not in octets, (path, address.hex())


@pytest.mark.parametrize("payload", ["zero", "cut"])
@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_no_address_of_a_fixture_is_anywhere_in_the_file(path: Path, payload: str) -> None:
    with open_pcap(path) as reader:
        texts = [frame.packet().show() for frame in reader]
    found = addresses_of(" ".join(texts))
    assert found or path.stem == "link"
    found.discard(b"\xff\xff\xff\0")  # the mask of an ICMP address mask reply
    octets = anonymised(path.read_bytes(), payload=payload)
    assert [address.hex(":") for address in found if address in octets] == []


def rewritten(frames: list[bytes], linktype: int, editor: AnonymisingEditor) -> list[bytes]:
    room = sum(map(len, frames)) + 4 * len(frames)
    batch, out = FrameBatch(len(frames), room), FrameBatch(len(frames), room)
    batch.extend(frames)
    batch.linktype = linktype
    assert editor.rewriter.append(batch, out) == len(frames)
    return list(out)


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_a_frame_cut_anywhere_tells_no_address(path: Path) -> None:
    """Not even the beginning of the address that the cut goes through."""
    editor = Anonymise(KEY).editor()
    seen = set()
    for frame in frames_of(path.read_bytes()):
        kind = frame.packet().summary().split(",")[0][:40]
        if kind in seen or frame.linktype not in LINKS:
            continue
        seen.add(kind)
        addresses = addresses_of(frame.packet().show()) - {b"\xff\xff\xff\0"}
        whole = frame.data[:200]
        after = rewritten([whole[:cut] for cut in range(1, len(whole) + 1)], frame.linktype, editor)
        for address in addresses:
            assert not any(address in octets for octets in after), address.hex(":")
            at = whole.find(address)
            while at >= 0:
                for cut in range(at + 3, min(at + len(address), len(whole))):
                    assert after[cut - 1][at:] != whole[at:cut], (kind, address.hex(":"), cut)
                at = whole.find(address, at + 1)


@pytest.mark.parametrize("family", [4, 6])
def test_the_checksum_of_a_fragmented_packet_stays_good(family: int, tmp_path: Path) -> None:
    """The octets of the fragments are gone, and tshark puts them together and finds nothing wrong."""
    ip = (
        IPv4(src="192.0.2.1", dst="198.51.100.2", id=5)
        if family == 4
        else IPv6(src="2001:db8::1", dst="2001:db8:9::2")
    )
    frames = []
    for upper in (UDP(sport=4000, dport=4001), TCP(sport=80, dport=5000)):
        for n in (301, 302, 303, 304):
            whole = (
                Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / ip / upper / (b"secret! " * n)[:n]
            )
            frames += [bytes(part) for part in fragment(Packet.parse(bytes(whole)), 120, len(frames) + 1)]
    path = tmp_path / "fragments.pcap"
    with create_pcap(path) as writer:
        for octets in rewritten(frames, 1, Anonymise(KEY).editor()):
            assert b"secret" not in octets
            writer.write(Frame(octets))
    options = ("-o", "udp.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE", "-T", "fields")
    found = tshark(path, *options, "-e", "udp.checksum.status", "-e", "tcp.checksum.status").split()
    assert found == ["1"] * 8


def test_payloads_stay_where_they_are_wanted() -> None:
    ether = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
    octets = bytes(ether / IPv4(src="192.0.2.1", dst="192.0.2.2") / UDP(sport=1, dport=2) / b"said")
    results = {
        payload: rewritten([octets], 1, Anonymise(KEY, payload=payload).editor())[0]
        for payload in ("zero", "keep", "cut")
    }
    assert results["zero"].endswith(bytes(4))
    assert results["keep"].endswith(b"said")
    assert results["cut"] == results["zero"][:-4]
    for name in ("zero", "keep"):
        assert [v.state for v in Packet.parse(results[name]).checksums()] == ["good", "good"]


@pytest.mark.parametrize("order", ["<", ">"])
def test_pcapng_says_no_address_beside_its_packets_either(order: str) -> None:
    make = Maker(order)
    v4, v6, mac = bytes([192, 0, 2, 77]), ip_address("2001:db8::77").packed, bytes.fromhex("020304050677")
    text = b"at 192.0.2.77 or 2001:db8::77, 02:03:04:05:06:77"
    frame = bytes(
        Ether(src="02:03:04:05:06:77", dst="02:00:00:00:00:02")
        / ARP(sender_mac="02:03:04:05:06:77", sender_ip="192.0.2.77", target_ip="192.0.2.1")
    )
    everywhere = make.option(1, text) + make.option(2988, v4 + mac) + make.option(0x777, text)
    interface = (
        make.option(2, b"eth0") + make.option(3, text) + make.option(4, v4 + b"\xff\xff\xff\0")
        + make.option(5, v6 + b"\x40") + make.option(6, mac) + make.option(7, mac + b"\0\0")
        + make.option(9, b"\x09") + make.option(11, b"\0host 192.0.2.77") + make.option(12, b"Linux 6.1.0-13")
    )  # fmt: skip
    flags = make.option(2, make.pack("I", 1)) + make.option(3, b"\2" + text) + make.option(4, bytes(8))
    names = make.pack("HH", 1, 9) + v4 + b"name\0" + bytes(3) + make.pack("HH", 0, 0)
    octets = b"".join(
        (
            make.shb(make.option(4, b"maker 1.2.3") + make.option(2, text) + everywhere),
            make.idb(options=interface + everywhere),
            make.epb(frame, options=flags + everywhere),
            make.obsolete(frame, options=everywhere),
            make.spb(frame),
            make.block(4, names),
            make.block(10, make.pack("II", 0x544C534B, len(text)) + text),
            make.block(0x777, text),
            make.block(0xBAD, make.pack("I", 32473) + text),
            make.isb(options=make.option(4, bytes(8)) + everywhere),
        )
    )
    after = anonymised(octets)
    for part in (v4, v6, mac, b"192.0.2", b"2001:db8", b"02:03"):
        assert part in octets
        assert part not in after
    with open_pcap(io.BytesIO(after)) as reader:
        blocks = list(reader.blocks())
    assert [block.kind for block in blocks] == [0x0A0D0D0A, 1, 6, 2, 3, 5]
    codes = [[code for code, _ in block.options] for block in blocks]
    assert codes == [[4], [2, 4, 5, 6, 9, 12], [2, 4], [], [], [4]]
    assert len(frames_of(after)) == 3


def test_frames_that_nobody_understands_are_refused() -> None:
    make = Maker()
    octets = make.pcap_header(linktype=105) + make.record(bytes(60))
    with pytest.raises(CaptureFileError, match="link type 105"):
        anonymised(octets)


def test_a_rewriter_cannot_do_both() -> None:
    with pytest.raises(ValueError, match="not both"):
        Rewriter(anonymous=Anonymiser(bytes(16)), ports={1: 2})
