"""Columns hold what the parsed packets' fields hold, whatever the frames come from."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wire.packets import HEADERS, packets

from rawkit.bulk import columns
from rawkit.engine.batch import FrameBatch
from rawkit.errors import CaptureFileError, FieldError
from rawkit.pcap import create_pcap, open_pcap
from rawkit.wire import ARP, TCP, UDP, Dot1Q, Ether, Frame, Header, ICMPEcho, IPv4, IPv6, Packet
from rawkit.wire.expression import header_classes
from rawkit.wire.field import Address, u3, u5, u16
from rawkit.wire.icmp import ICMPUnreachable

np = pytest.importorskip("numpy", reason="columns need NumPy, an optional dependency")

ETHER = Ether(dst="00:00:5e:00:53:02", src="00:00:5e:00:53:01")
SEGMENT = bytes(ETHER / IPv4(src="192.0.2.1", dst="192.0.2.2") / TCP(sport=40000, dport=80, flags="SA"))
DATAGRAM = bytes(ETHER / IPv6(src="2001:db8::1", dst="2001:db8::2") / UDP(sport=53, dport=40001) / b"data")
ECHO = bytes(ETHER / Dot1Q(vid=7) / IPv4() / ICMPEcho(id=5, seq=6))


def test_values_types_and_masks() -> None:
    names = ["eth.src", "ip.src", "ip6.dst", "tcp.dport", "tcp.flags", "udp.sport", "icmp.type", "ip.version"]
    found = columns([SEGMENT, DATAGRAM, ECHO], names)
    assert len(found) == 3
    assert list(found.arrays) == list(found.present) == names
    kinds = {name: (array.dtype.str[1:], array.shape) for name, array in found.arrays.items()}
    assert kinds == {
        "eth.src": ("u8", (3,)),
        "ip.src": ("u4", (3,)),
        "ip6.dst": ("u1", (3, 16)),
        "tcp.dport": ("u2", (3,)),
        "tcp.flags": ("u2", (3,)),
        "udp.sport": ("u2", (3,)),
        "icmp.type": ("u1", (3,)),
        "ip.version": ("u1", (3,)),
    }
    assert found.arrays["eth.src"].tolist() == [0x00005E005301] * 3
    assert found.arrays["ip.src"].tolist() == [0xC0000201, 0, 0]
    assert found.present["ip.src"].tolist() == [True, False, True]
    assert found.mask("ip.src").tolist() == [False, True, False]
    assert bytes(found.arrays["ip6.dst"][1]).hex() == "20010db8000000000000000000000002"
    assert found["ip6.dst"].mask.all(axis=1).tolist() == [True, False, True]
    assert found["tcp.dport"].tolist() == [80, None, None]
    assert found["tcp.flags"].compressed().tolist() == [TCP.SYN | TCP.ACK]
    assert found["udp.sport"].tolist() == [None, 53, None]
    assert found["icmp.type"].tolist() == [None, None, 8]


def test_the_outermost_header_counts() -> None:
    tunnel = bytes(IPv4(src="192.0.2.1", ttl=9) / IPv4(src="192.0.2.3", ttl=8) / UDP())
    assert columns([tunnel], ["ip.ttl"], linktype=228).arrays["ip.ttl"].tolist() == [9]


def test_a_header_stands_for_its_variants_and_a_variant_for_itself() -> None:
    unreachable = bytes(ETHER / IPv4() / ICMPUnreachable(code=1) / IPv4() / UDP(sport=9))
    found = columns([ECHO, unreachable], ["icmp.code", "icmpecho.id", "udp.sport"])
    assert found["icmp.code"].tolist() == [0, 1]
    assert found["icmpecho.id"].tolist() == [5, None]
    assert found["udp.sport"].tolist() == [None, 9]  # of the packet that is quoted


def fixed_fields() -> list[tuple[type[Header], str]]:
    return [(cls, row.name) for cls in HEADERS for row in cls.fields if row.width]


def expected(packet: Packet, cls: type[Header], field: str) -> Any:
    """The field as a column has it; None where the packet has none."""
    row = next(row for row in cls.fields if row.name == field)
    contents = (getattr(header, row.slot) for header in packet.layers if isinstance(header, cls))
    content = next((content for content in contents if content is not None), None)
    if content is not None and isinstance(row.kind, Address) and row.width <= 64:
        return int.from_bytes(content, "big")
    return content


@settings(max_examples=40, deadline=None)
@given(
    octets=st.lists(st.one_of(packets(whole=False).map(bytes), st.binary(max_size=60)), max_size=4),
    wanted=st.lists(st.sampled_from(fixed_fields()), min_size=1, max_size=8, unique=True),
)
def test_columns_are_what_the_packets_say(
    octets: list[bytes], wanted: list[tuple[type[Header], str]]
) -> None:
    names = [f"{cls.__name__.lower()}.{field}" for cls, field in wanted]
    found = columns(octets, names)
    parsed = list(map(Packet.parse, octets))
    for name, (cls, field) in zip(names, wanted):
        values = found.arrays[name].tolist()
        if found.arrays[name].ndim > 1:
            values = list(map(bytes, values))
        got = [value if here else None for value, here in zip(values, found.present[name].tolist())]
        assert got == [expected(packet, cls, field) for packet in parsed], name


def test_absent_values_are_zero() -> None:
    found = columns([b"", b"\xff" * 14], ["ip.src", "ip6.src", "arp.op"])
    assert not any(array.any() for array in (*found.arrays.values(), *found.present.values()))


# ---- sources -------------------------------------------------------------------------------------------


def test_a_batch_and_batches_that_are_refilled() -> None:
    batch = FrameBatch(8)

    def refilled() -> Iterator[FrameBatch]:
        for octets in (SEGMENT, DATAGRAM, SEGMENT):
            batch.clear()
            batch.append(octets, time_ns=len(octets))
            yield batch

    names = ["tcp.dport", "frame.time", "frame.len", "frame.cap_len"]
    found = columns(refilled(), names)
    assert found["tcp.dport"].tolist() == [80, None, 80]
    assert found.arrays["frame.time"].tolist() == [len(SEGMENT), len(DATAGRAM), len(SEGMENT)]
    assert found.arrays["frame.time"].dtype == np.int64
    assert found.arrays["frame.len"].tolist() == found.arrays["frame.cap_len"].tolist()
    whole = columns(batch, names)
    assert whole["tcp.dport"].tolist() == [80]
    batch.clear()  # no array looks into the batch
    assert whole.arrays["frame.time"].tolist() == [len(SEGMENT)]


def test_a_capture_file_by_path_and_by_reader(tmp_path: Path) -> None:
    path = tmp_path / "frames.pcapng"
    frames = [
        Frame(SEGMENT, time_ns=1_700_000_000_123_456_789),
        Frame(DATAGRAM, time_ns=1_700_000_001_000_000_000),
        Frame(SEGMENT[:40], time_ns=5, wire_len=54),
    ]
    with create_pcap(path) as writer:
        for frame in frames:
            writer.write(frame)
    names = ["tcp.dport", "udp.dport", "ip.ttl", "frame.time", "frame.len", "frame.cap_len"]
    found = columns(path, names)
    with open_pcap(path) as reader:
        again = columns(reader, names)
    for name in names:
        assert found[name].tolist() == again[name].tolist()
    assert found["tcp.dport"].tolist() == [80, None, None]
    assert found["ip.ttl"].tolist() == [64, None, 64]
    assert found.arrays["frame.time"].tolist() == [frame.time_ns for frame in frames]
    assert found.arrays["frame.len"].tolist() == [len(SEGMENT), len(DATAGRAM), 54]
    assert found.arrays["frame.cap_len"].tolist() == [len(SEGMENT), len(DATAGRAM), 40]
    damaged = tmp_path / "damaged.pcapng"
    damaged.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(CaptureFileError):
        columns(damaged, names)


def test_each_frame_starts_as_its_linktype_says() -> None:
    ip, ip6 = SEGMENT[14:], DATAGRAM[14:]
    frames = [Frame(SEGMENT), Frame(ip, linktype=228), Frame(ip6, linktype=101), Frame(ip, linktype=101)]
    frames += [Frame(ip, linktype=65001), Frame(SEGMENT)]
    found = columns(frames, ["ip.ttl", "ip6.hop_limit", "eth.ethertype"])
    assert found["ip.ttl"].tolist() == [64, 64, None, 64, None, 64]
    assert found["ip6.hop_limit"].tolist() == [None, None, 64, None, None, None]
    assert found["eth.ethertype"].tolist() == [0x0800, None, None, None, None, 0x0800]


def test_more_frames_than_one_batch_holds() -> None:
    octets = [bytes(ETHER / IPv4(id=i)) for i in range(20_000)]
    assert columns(octets, ["ip.id"]).arrays["ip.id"].tolist() == list(range(20_000))


def test_a_frame_longer_than_a_batch_is_wide() -> None:
    octets = [SEGMENT, SEGMENT + bytes(5 << 20), SEGMENT]
    assert columns(octets, ["frame.len", "tcp.dport"]).arrays["frame.len"].tolist() == list(map(len, octets))


def test_no_frames() -> None:
    for source in ([], iter(()), FrameBatch(4)):
        found = columns(source, ["ip.src", "ip6.src", "frame.time"])
        assert len(found) == 0
        assert found.arrays["ip.src"].shape == (0,)
        assert found.arrays["ip6.src"].shape == (0, 16)
        assert found.arrays["frame.time"].dtype == np.int64
        assert found["ip6.src"].tolist() == []


# ---- names ---------------------------------------------------------------------------------------------


def test_short_names_and_any_case_mean_the_same() -> None:
    names = ["ip.ttl", "ipv4.ttl", "IPv4.TTL", "ip4.ttl"]
    found = columns([SEGMENT], names)
    assert [array.tolist() for array in found.arrays.values()] == [[64]] * 4
    assert list(found.arrays) == names


def test_a_header_of_ones_own() -> None:
    class Beacon(Header, over={UDP: 47998}):
        kind: u3 = 0
        level: u5 = 0
        number: u16 = 0

    try:
        octets = bytes(ETHER / IPv6() / UDP(sport=1, dport=47998) / Beacon(kind=5, level=17, number=700))
        found = columns([octets], ["beacon.kind", "beacon.level", "beacon.number"])
        assert [array.tolist() for array in found.arrays.values()] == [[5], [17], [700]]
    finally:
        del UDP.uppers[47998], UDP.numbers[Beacon]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tcp", "'tcp' is no column: need a header and a field, such as tcp.dport"),
        ("tpc.dport", "no header 'tpc' for the column 'tpc.dport'; did you mean 'tcp'?"),
        ("tcp.dprot", "TCP has no field 'dprot'; did you mean 'dport'?"),
        ("tcp.options", "tcp.options: its length differs from header to header"),
        (
            "frame.number",
            "no column 'frame.number'; of frames there are frame.time, frame.len, frame.cap_len",
        ),
        ("", "'' is no column"),
    ],
)
def test_names_that_mean_nothing(name: str, message: str) -> None:
    with pytest.raises(FieldError) as caught:
        columns([SEGMENT], [name])
    assert str(caught.value).startswith(message)


def test_what_is_no_source_and_no_list_of_names() -> None:
    with pytest.raises(TypeError, match="the octets of one frame; put them into a list"):
        columns(SEGMENT, ["ip.src"])
    with pytest.raises(TypeError, match=r"need a list such as \['ip.src'\]"):
        columns([SEGMENT], "ip.src")
    with pytest.raises(TypeError):
        columns([1, 2], ["ip.src"])  # type: ignore[list-item]


def test_without_numpy_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(ImportError, match=r"pip install 'rawkit\[arrays\]'"):
        columns([SEGMENT], ["ip.src"])


def test_every_fixed_field_of_every_header_has_a_column() -> None:
    classes = header_classes()
    names = [f"{name}.{row.name}" for name, cls in classes.items() for row in cls.fields if row.width]
    assert len(columns([SEGMENT], names).arrays) == len(set(names))
    assert ARP.__name__.lower() in classes
