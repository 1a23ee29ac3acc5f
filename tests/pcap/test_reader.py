"""What the reader takes in: formats, options, streams, gzip; constant memory."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
import threading
import tracemalloc

import pytest

from rawkit.errors import CaptureFileError
from rawkit.pcap import Statistics, open_pcap
from rawkit.wire.frame import Frame


@pytest.mark.parametrize(("magic", "time_ns"), [(0xA1B2C3D4, 1_000_999_000), (0xA1B23C4D, 1_000_000_999)])
def test_pcap_in_both_byte_orders_and_resolutions(make_both, outcome, magic, time_ns):
    octets = make_both.pcap_header(magic=magic, linktype=113, snaplen=77)
    octets += make_both.record(b"abc", 1, 999, wire_len=1500)
    result = outcome(octets)
    assert result.frames == [Frame(b"abc", time_ns, 1500, 113)]
    assert (result.reader.kind, result.reader.linktype, result.reader.snaplen) == ("pcap", 113, 77)
    assert result.error is None


def test_pcapng_with_every_block(make_both, outcome):
    result = outcome(make_both.every_block())
    assert result.error is None
    assert result.frames == [
        Frame(b"", 5, 0, 1, "eth0"),
        Frame(b"abc", 6, 3, 1, "eth0", "in", comments=("two", "comments")),
        Frame(b"abcdefgh", 7000, 8, 101, "tun0"),
        Frame(b"simple!", 0, 7, 1, "eth0"),
        Frame(b"old", 8000, 3, 101, "tun0", "in"),
        Frame(b"x" * 33, 9, 1500, 1, "eth0", "in"),
        Frame(b"last", 11000, 4, 101, "tun0"),
    ]
    reader = result.reader
    assert reader.kind == "pcapng"
    assert [(i.name, i.linktype, i.snaplen, i.tsresol) for i in reader.interfaces] == [
        ("eth0", 1, 96, 9),
        ("tun0", 101, 0, 6),
    ]
    assert reader.skipped == {"name resolution": 1, "decryption secrets": 1, "custom": 1, "unknown": 1}
    assert reader.statistics == [Statistics("eth0", 10, received=100, dropped=1)]
    assert reader.section.application == "maker"
    assert reader.dropped == 3


def test_interface_options(make_both, outcome):
    options = b"".join(
        make_both.option(code, value)
        for code, value in (
            (1, b"in the cellar"),
            (2, b"eth7"),
            (3, b"uplink"),
            (9, b"\x09"),
            (11, b"\0tcp port 80"),
            (12, b"Linux"),
            (13, b"\4"),
            (14, make_both.pack("q", -3600)),
        )
    )
    (interface,) = outcome(make_both.shb() + make_both.idb(228, 96, options)).reader.interfaces
    assert (interface.name, interface.description, interface.filter) == ("eth7", "uplink", "tcp port 80")
    assert (interface.os, interface.fcs_len, interface.tsoffset) == ("Linux", 4, -3600)
    assert (interface.linktype, interface.comments) == (228, ("in the cellar",))


def test_a_filter_that_is_a_program_is_not_shown_as_text(make, outcome):
    (interface,) = outcome(make.shb() + make.idb(options=make.option(11, b"\1\6\0\0\0"))).reader.interfaces
    assert interface.filter == ""


def test_unnamed_interfaces_are_numbered_through_the_file(make, outcome):
    octets = (
        make.shb() + make.idb() + make.idb(options=make.option(2, b"")) + make.epb() + make.epb(interface=1)
    )
    result = outcome(octets + make.shb() + make.idb() + make.epb())
    assert [frame.interface for frame in result.frames] == ["interface 0", "", "interface 2"]


@pytest.mark.parametrize(
    ("flags", "direction", "checksum"),
    [
        (0, "", ""),
        (1, "in", ""),
        (2, "out", ""),
        (3, "", ""),
        (0x202, "out", "not ready"),
        (0x401, "in", "valid"),
        (0x600, "", ""),
        (0xFFFF0004, "", ""),
    ],
)
def test_flags_word(make_both, outcome, flags, direction, checksum):
    option = make_both.option(2, make_both.pack("I", flags))
    octets = make_both.shb() + make_both.idb()
    octets += make_both.epb(options=option) + make_both.obsolete(options=option)
    for frame in outcome(octets).frames:
        assert (frame.direction, frame.checksum) == (direction, checksum)


def test_flags_of_a_wrong_length_say_nothing(make, outcome):
    octets = make.shb() + make.idb() + make.epb(options=make.option(2, b"\1\0") + make.option(4, b"\1"))
    result = outcome(octets)
    assert result.frames[0].direction == ""
    assert result.reader.dropped is None


def test_drop_counts_add_up_and_unknown_is_not_zero(make_both, outcome):
    start = make_both.shb() + make_both.idb()
    assert outcome(start + make_both.epb() + make_both.obsolete()).reader.dropped is None
    counted = make_both.epb(options=make_both.option(4, make_both.pack("Q", 2**40)))
    zero = make_both.epb(options=make_both.option(4, make_both.pack("Q", 0)))
    assert outcome(start + zero).reader.dropped == 0
    assert outcome(start + counted + make_both.obsolete(drops=5) + counted).reader.dropped == 2**41 + 5


def test_statistics_of_the_latest_block_of_each_interface(make_both, outcome):
    def count(code, value):
        return make_both.option(code, make_both.pack("Q", value))

    full = b"".join(count(code, 10 * code) for code in (4, 5, 6, 7, 8))
    full += make_both.option(2, make_both.pack("II", 0, 7)) + make_both.option(3, make_both.pack("II", 1, 0))
    octets = make_both.shb() + make_both.idb(options=make_both.option(2, b"a") + make_both.option(9, b"\3"))
    octets += make_both.idb(options=make_both.option(2, b"b")) + make_both.isb(0, 1, count(4, 1))
    octets += make_both.isb(1, 2) + make_both.isb(0, 3, full)
    assert outcome(octets).reader.statistics == [
        Statistics("a", 3_000_000, 7_000_000, 2**32 * 1_000_000, 40, 50, 60, 70, 80),
        Statistics("b", 2000),
    ]


def test_the_name_says_nothing_about_the_format(make, tmp_path):
    for name, octets, kind in (
        ("x.pcapng", make.pcap_header(), "pcap"),
        ("x.pcap", make.every_block(), "pcapng"),
        ("x.txt", gzip.compress(make.every_block()), "pcapng"),
    ):
        (tmp_path / name).write_bytes(octets)
        with open_pcap(tmp_path / name) as reader:
            assert reader.kind == kind
            assert reader.path == str(tmp_path / name)
        with open_pcap(str(tmp_path / name)) as reader:
            assert reader.kind == kind


def test_interfaces_are_known_before_the_first_frame(make):
    with open_pcap(io.BytesIO(make.shb() + make.idb(101) + make.idb(1) + make.epb())) as reader:
        assert [interface.linktype for interface in reader.interfaces] == [101, 1]
        assert reader.linktype == 101


def test_files_without_packets(make, outcome):
    for octets in (make.pcap_header(), make.shb(), make.shb() + make.idb(), make.shb() + make.shb()):
        result = outcome(octets)
        assert result.frames == []
        assert result.error is None
        assert result.reader.linktype == 1


def test_a_second_loop_continues(make):
    octets = make.pcap_header() + make.record(b"1") + make.record(b"2") + make.record(b"3")
    with open_pcap(io.BytesIO(octets)) as reader:
        for frame in reader:
            assert frame.data == b"1"
            break
        assert [frame.data for frame in reader] == [b"2", b"3"]
        assert list(reader) == []


def test_a_closed_reader_says_so(make):
    big = make.pcap_header() + make.record(bytes(200_000)) * 4
    stream = io.BytesIO(big)
    reader = open_pcap(stream)
    frames = iter(reader)
    next(frames)
    reader.close()
    reader.close()
    assert not stream.closed
    with pytest.raises(ValueError, match="reader is closed"):
        iter(reader)
    with pytest.raises(ValueError, match="reader is closed"):
        list(frames)


def test_path_is_closed_with_the_reader_and_when_opening_fails(make, tmp_path):
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_bytes(make.every_block())
    bad.write_bytes(b"no capture")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        with open_pcap(good) as reader:
            next(iter(reader))
        with pytest.raises(CaptureFileError):
            open_pcap(bad)
    assert len(os.listdir("/proc/self/fd")) == before


def test_octets_and_text_streams_are_refused():
    with pytest.raises(TypeError, match=r"wrap octets in io\.BytesIO"):
        open_pcap(b"\xd4\xc3\xb2\xa1")
    with pytest.raises(TypeError, match="binary stream"):
        open_pcap(io.StringIO("text"))


# ---- streams


class Dribble(io.RawIOBase):
    """A stream that gives one octet at a time."""

    def __init__(self, octets: bytes) -> None:
        self.octets = io.BytesIO(octets)

    def read(self, n: int = -1) -> bytes:
        return self.octets.read(1)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_octet_by_octet_gives_the_same(make_both, outcome, pack):
    for octets in (make_both.every_block(), make_both.pcap_header() + make_both.record(b"a") * 3):
        with open_pcap(Dribble(pack(octets))) as reader:
            assert list(reader) == outcome(octets).frames


def test_a_stream_that_does_not_wait_is_told_apart_from_the_end(make):
    class Empty(io.RawIOBase):
        def read(self, n=-1):
            return None

    with pytest.raises(BlockingIOError, match="no octets are ready"):
        open_pcap(Empty())


def test_a_pipe_gives_each_packet_when_it_arrives(make):
    readable, writable = os.pipe()
    with open(readable, "rb") as stream, open(writable, "wb", buffering=0) as out:
        out.write(make.shb() + make.idb())
        with open_pcap(stream) as reader:
            assert reader.linktype == 1  # known before any packet has come
            frames = iter(reader)
            for data in (b"first", b"second"):
                out.write(make.epb(data))
                assert next(frames).data == data
            out.write(make.epb(b"third")[:20])
            out.close()
            with pytest.raises(CaptureFileError, match="after 2 packets"):
                next(frames)


def test_a_named_pipe(make, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = threading.Thread(target=fifo.write_bytes, args=(make.every_block(),))
    writer.start()
    with open_pcap(fifo) as reader:
        assert len(list(reader)) == 7
    writer.join()


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_standard_input(make, pack):
    code = "import rawkit.pcap as p; r = p.open_pcap('-'); print(r.path, len(list(r))); r.close()"
    result = subprocess.run(
        [sys.executable, "-c", code], input=pack(make.every_block()), capture_output=True, check=True
    )
    assert result.stdout == b"standard input 7\n"


def test_a_file_read_while_it_is_written(make, tmp_path):
    path = tmp_path / "growing.pcap"
    half = make.record(b"still being written")[:20]
    path.write_bytes(make.pcap_header() + make.record(b"whole") + half)
    with open_pcap(path) as reader:
        frames = iter(reader)
        assert next(frames).data == b"whole"
        with pytest.raises(
            CaptureFileError, match="packet: the file ends inside it, wanted 35 octets, got 20"
        ):
            next(frames)


# ---- size


@pytest.mark.parametrize("kind", ["pcap", "pcapng"])
def test_memory_does_not_grow_with_the_file(make, kind):
    if kind == "pcap":
        head, one = make.pcap_header(), make.record(bytes(1400))
    else:
        head, one = make.shb() + make.idb(), make.epb(bytes(1400)) + make.block(0x777, bytes(8))

    class Long(io.RawIOBase):
        """16 MiB, made as it is read."""

        left = 16 << 20

        def read(self, n=-1):
            nonlocal head
            octets = head or (one * (n // len(one)) if self.left > 0 else b"")
            head = b""
            self.left -= len(octets)
            return octets

    tracemalloc.start()
    try:
        with open_pcap(Long()) as reader:
            assert sum(1 for _ in reader) > 10_000
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()


def test_packets_across_chunk_boundaries(make_both, outcome):
    sizes = [262_144, 1, 0, 262_143, 100, 131_072, 3, 262_144, 65_535] * 3
    datas = [bytes([n]) * size for n, size in enumerate(sizes)]
    pcap = make_both.pcap_header() + b"".join(map(make_both.record, datas))
    pcapng = make_both.shb() + make_both.idb() + b"".join(map(make_both.epb, datas))
    assert outcome(pcap).data == datas
    assert outcome(pcapng).data == datas
