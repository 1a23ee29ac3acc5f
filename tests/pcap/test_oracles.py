"""Files go both ways between rawkit and scapy, dpkt, tshark, capinfos and tcpdump, and say the same."""

from __future__ import annotations

import io
import json
import subprocess

import pytest
from oracles import oracle, tcpdump

from rawkit.pcap import PcapngWriter, PcapWriter, create_pcap, open_pcap
from rawkit.wire.frame import Frame

T = 1_700_000_000_123_456_789
# Ethernet, IPv4 192.0.2.1 to 192.0.2.2, UDP 4000 to 9, without a checksum, and some octets.
UDP = (
    bytes.fromhex(
        "00005e00530200005e005301080045000024000000004011 f6c3".replace(" ", "") + "c0000201c0000202"
        "0fa0000900100000"
    )
    + b"octets!!"
)
FRAMES = [Frame(UDP + bytes(n), T + n * 1_000_000_007, len(UDP) + 2 * n) for n in range(20)]


def tool(name, *arguments):
    command = tcpdump() if name == "tcpdump" else [oracle(name)]
    result = subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, check=True)
    complaints = [
        line for line in result.stderr.splitlines() if "root" not in line and "reading from" not in line
    ]
    assert complaints == []
    return result.stdout


@pytest.fixture(params=["x.pcap", "x.pcapng"])
def written(request, tmp_path):
    path = tmp_path / request.param
    with create_pcap(path) as writer:
        for frame in FRAMES:
            writer.write(frame)
    return path


@pytest.fixture
def rich(tmp_path):
    """A pcapng with all that rawkit writes."""
    path = tmp_path / "rich.pcapng"
    with PcapngWriter(
        path, application="rawkit test", hardware="box", os_name="Linux", filter="udp"
    ) as writer:
        writer.write(Frame(UDP, T, 99, 1, "eth0", "in", "valid", comments=("first", "zwei ✓")))
        writer.write(Frame(UDP[14:], T + 1, 60, 101, "tun0", "out", "not ready", 1448))
        writer.write(Frame(UDP, T + 2, 99, 1, ""))
        writer.write_statistics("eth0", received=7, dropped=3, accepted=5, time_ns=T)
    return path


# ---- what rawkit writes


def test_tshark_reads_what_is_written(written):
    fields = ["frame.time_epoch", "frame.cap_len", "frame.len", "udp.dstport"]
    out = tool("tshark", "-n", "-r", written, "-T", "fields", *(word for f in fields for word in ("-e", f)))
    assert [line.split("\t") for line in out.splitlines()] == [
        [f"{f.time_ns // 10**9}.{f.time_ns % 10**9:09}", str(len(f.data)), str(f.wire_len), "9"]
        for f in FRAMES
    ]


def test_tshark_reads_interfaces_directions_and_comments(rich):
    fields = ["frame.interface_name", "frame.comment", "frame.packet_flags_direction", "frame.time_epoch"]
    out = tool("tshark", "-n", "-r", rich, "-T", "json", *(word for f in fields for word in ("-e", f)))
    layers = [packet["_source"]["layers"] for packet in json.loads(out)]
    assert [layer.get("frame.interface_name") for layer in layers[:2]] == [["eth0"], ["tun0"]]
    assert [layer.get("frame.comment") for layer in layers] == [["first", "zwei ✓"], None, None]
    assert [layer["frame.time_epoch"][0][-9:] for layer in layers] == ["123456789", "123456790", "123456791"]
    directions = [layer.get("frame.packet_flags_direction") for layer in layers]
    assert [int(d[0], 16) if d else None for d in directions] == [1, 2, None]


def test_capinfos_reads_what_is_written(rich):
    out = tool("capinfos", rich)
    for line in (
        "Number of packets:   3",
        "Capture hardware:    box",
        "Capture oper-sys:    Linux",
        "Capture application: rawkit test",
        "Name = eth0",
        "Name = tun0",
        "Encapsulation = Raw IP",
        "Time resolution = 0x09",
        "Filter string = udp",
        "Number of stat entries = 1",
    ):
        assert line in out


def test_tcpdump_reads_what_is_written(written):
    out = tool("tcpdump", "-n", "-tt", "--time-stamp-precision=nano", "-r", written)
    assert [line.split()[0] for line in out.splitlines()] == [
        f"{f.time_ns // 10**9}.{f.time_ns % 10**9:09}" for f in FRAMES
    ]
    assert out.count("192.0.2.1.4000 > 192.0.2.2.9: UDP, length 8") == len(FRAMES)


def test_scapy_reads_what_is_written(written):
    from scapy.utils import RawPcapReader

    with RawPcapReader(str(written)) as reader:
        read = list(reader)
    assert [octets for octets, _ in read] == [f.data for f in FRAMES]
    assert [meta.wirelen for _, meta in read] == [f.wire_len for f in FRAMES]
    if written.suffix == ".pcap":
        assert [meta.sec * 10**9 + meta.usec for _, meta in read] == [f.time_ns for f in FRAMES]
    else:
        ticks = [(meta.tshigh << 32 | meta.tslow) * (10**9 // meta.tsresol) for _, meta in read]
        assert ticks == [f.time_ns for f in FRAMES]


def test_scapy_reads_interfaces_directions_and_comments(rich):
    from scapy.utils import RawPcapNgReader

    with RawPcapNgReader(str(rich)) as reader:
        metadata = [meta for _, meta in reader]
    assert [meta.linktype for meta in metadata] == [1, 101, 1]
    assert [meta.ifname for meta in metadata[:2]] == [b"eth0", b"tun0"]
    assert [meta.direction for meta in metadata] == [1, 2, None]


def test_dpkt_reads_what_is_written(written):
    import dpkt

    with open(written, "rb") as file:
        module = dpkt.pcap if written.suffix == ".pcap" else dpkt.pcapng
        read = list(module.Reader(file))
    assert [octets for _, octets in read] == [f.data for f in FRAMES]
    # dpkt's times are floats (pcapng) or Decimals (nanosecond pcap)
    assert [float(time) for time, _ in read] == pytest.approx([f.time_ns / 1e9 for f in FRAMES], abs=1e-6)


# ---- what rawkit reads


@pytest.mark.parametrize("nano", [False, True])
@pytest.mark.parametrize("endianness", ["<", ">"])
def test_scapy_pcap_is_read(tmp_path, nano, endianness):
    from scapy.utils import RawPcapWriter

    path = tmp_path / "scapy.pcap"
    unit = 1 if nano else 1000
    with RawPcapWriter(str(path), linktype=1, nano=nano, endianness=endianness) as writer:
        writer.write_header(None)
        for f in FRAMES:
            seconds, fraction = divmod(f.time_ns, 10**9)
            writer.write_packet(f.data, sec=seconds, usec=fraction // unit, wirelen=f.wire_len)
    with open_pcap(path) as reader:
        assert list(reader) == [Frame(f.data, f.time_ns // unit * unit, f.wire_len) for f in FRAMES]


def test_scapy_pcapng_is_read(tmp_path):
    from scapy.layers.l2 import Ether
    from scapy.utils import PcapNgWriter

    path = tmp_path / "scapy.pcapng"
    with PcapNgWriter(str(path)) as writer:
        for f in FRAMES:
            packet = Ether(f.data)
            packet.time, packet.wirelen = f.time_ns / 1e9, f.wire_len
            packet.sniffed_on, packet.direction, packet.comments = "eth0", 2, [b"one", b"two"]
            writer.write(packet)
    with open_pcap(path) as reader:
        frames = list(reader)
    # scapy takes the time as a float and writes microseconds
    assert [abs(mine.time_ns - f.time_ns) < 2000 for mine, f in zip(frames, FRAMES, strict=True)] == [
        True
    ] * 20
    assert frames == [
        Frame(f.data, mine.time_ns, f.wire_len, 1, "eth0", "out", comments=("one", "two"))
        for mine, f in zip(frames, FRAMES, strict=True)
    ]


@pytest.mark.parametrize("nano", [False, True])
def test_dpkt_pcap_is_read(nano):
    from decimal import Decimal

    import dpkt

    out = io.BytesIO()
    writer = dpkt.pcap.Writer(out, nano=nano, linktype=101)
    unit = 1 if nano else 1000
    for f in FRAMES:
        writer.writepkt(f.data, ts=Decimal(f.time_ns // unit * unit) / 10**9)
    with open_pcap(io.BytesIO(out.getvalue())) as reader:
        assert list(reader) == [Frame(f.data, f.time_ns // unit * unit, linktype=101) for f in FRAMES]


def test_dpkt_pcapng_is_read():
    import dpkt

    out = io.BytesIO()
    writer = dpkt.pcapng.Writer(out)
    for f in FRAMES:
        writer.writepkt(f.data, ts=f.time_ns // 10**9)
    with open_pcap(io.BytesIO(out.getvalue())) as reader:
        assert [(f.data, f.time_ns) for f in reader] == [(f.data, f.time_ns // 10**9 * 10**9) for f in FRAMES]


def test_editcap_and_mergecap_output_is_read(tmp_path):
    a, b, both, back = (tmp_path / name for name in ("a.pcap", "b.pcap", "both.pcapng", "back.pcap"))
    for path, linktype in ((a, 1), (b, 101)):
        with PcapWriter(path, linktype) as writer:
            for f in FRAMES:
                writer.write(Frame(f.data, f.time_ns, f.wire_len, linktype))
    tool("mergecap", "-a", "-w", both, a, b)
    with open_pcap(both) as reader:
        assert list(reader) == [
            Frame(f.data, f.time_ns, f.wire_len, linktype, f"interface {number}")
            for number, linktype in ((0, 1), (1, 101))
            for f in FRAMES
        ]
    tool("editcap", "-F", "modpcap", a, back)
    with open_pcap(back) as reader:
        assert list(reader) == [Frame(f.data, f.time_ns // 1000 * 1000, f.wire_len) for f in FRAMES]


def test_our_own_odd_files_read_as_tshark_reads_them(make_both, tmp_path):
    path = tmp_path / "every.pcapng"
    path.write_bytes(make_both.every_block())
    fields = ["-T", "fields", "-e", "frame.time_epoch", "-e", "frame.cap_len"]
    # tshark shows a custom block as a frame as well, but as one of no interface.
    out = tool("tshark", "-n", "-r", path, "-Y", "frame.interface_id", *fields)
    with open_pcap(path) as reader:
        mine = [(f.time_ns, len(f.data)) for f in reader]
    theirs = []
    for line in out.splitlines():
        time, length = line.split("\t")
        theirs.append((int(time.replace(".", "")) if time else 0, int(length)))
    assert mine == theirs
