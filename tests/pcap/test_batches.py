"""Batches of a capture file: what they hold, for how long, and what else may be done with a reader."""

from __future__ import annotations

import io
import os
import random

import pytest

from rawkit.engine.batch import NO_DIRECTION, OPTIONS, OUTGOING
from rawkit.engine.native import ffi
from rawkit.errors import CaptureFileError
from rawkit.pcap import PcapngWriter, open_pcap
from rawkit.pcap.source import WINDOW_LEN, WINDOW_ROWS
from rawkit.wire.frame import Frame


def test_frames_lie_where_they_were_read_to(make):
    octets = make.pcap_header() + make.record(b"first") + make.record(b"second")
    with open_pcap(io.BytesIO(octets)) as reader:
        batch = next(reader.batches())
        assert bytes(batch.arena[: len(octets)]) == octets
        assert [bytes(batch.view(i)) for i in range(2)] == [b"first", b"second"]
        assert list(batch) == [b"first", b"second"]


def test_records_say_what_the_file_says(make_both):
    flags = make_both.option(2, make_both.pack("I", 2))
    comment = make_both.option(1, b"hi")
    octets = make_both.shb() + make_both.idb() + make_both.idb(options=make_both.option(9, b"\x09"))
    octets += make_both.epb(b"a", ticks=3, wire_len=1500)
    octets += make_both.epb(b"bc", 1, 2**40, options=flags + comment)
    with open_pcap(io.BytesIO(octets)) as reader:
        batch = next(reader.batches())
        one, two = batch.records()
    assert (one.time_ns, one.cap_len, one.wire_len, one.ifindex, one.flags) == (
        3000,
        1,
        1500,
        1,
        NO_DIRECTION,
    )
    assert (two.time_ns, two.cap_len, two.wire_len, two.ifindex) == (2**40, 2, 2, 2)
    assert two.flags == OUTGOING | OPTIONS


def test_a_batch_has_one_link_type(make):
    octets = make.shb() + make.idb(1) + make.idb(101) + make.idb(1)
    for interface in (0, 2, 1, 1, 2):
        octets += make.epb(b"%d" % interface, interface)
    with open_pcap(io.BytesIO(octets)) as reader:
        found = [(batch.linktype, list(batch)) for batch in reader.batches()]
    assert found == [(1, [b"0", b"2"]), (101, [b"1", b"1"]), (1, [b"2"])]


def test_what_a_block_says_is_known_after_the_packets_before_it(make):
    octets = (
        make.shb() + make.idb() + make.epb() + make.isb() + make.epb() + make.idb() + make.epb(interface=1)
    )
    with open_pcap(io.BytesIO(octets)) as reader:
        known = [(len(reader.statistics), len(reader.interfaces)) for _ in reader.batches()]
    assert known == [(0, 1), (1, 1), (1, 2)]


def test_views_close_when_the_next_batch_is_read(make):
    octets = make.pcap_header() + make.record(b"x") * (WINDOW_ROWS + 1)
    with open_pcap(io.BytesIO(octets)) as reader:
        batches = reader.batches()
        batch = next(batches)
        assert len(batch) == WINDOW_ROWS
        view = batch.view(0)
        assert len(next(batches)) == 1
        with pytest.raises(ValueError, match="released memoryview"):
            bytes(view)


def test_a_batch_that_is_looked_into_is_not_refilled(make):
    octets = make.pcap_header() + make.record(bytes(1000)) * 2000
    with open_pcap(io.BytesIO(octets)) as reader:
        batches = reader.batches()
        held = ffi.from_buffer(next(batches).view(0))
        with pytest.raises(BufferError):
            next(batches)
        assert bytes(ffi.buffer(held)) == bytes(1000)


def test_blocks_longer_than_the_window(make_both):
    """The window grows for them, and what was read keeps its place."""
    options = make_both.option(1, b"c" * 0xFFFF) * 40
    blocks = [make_both.epb(b"%d" % n, options=options) for n in range(3)]
    assert len(blocks[0]) > 2 * WINDOW_LEN
    with open_pcap(io.BytesIO(make_both.shb() + make_both.idb() + b"".join(blocks))) as reader:
        assert [list(batch) for batch in reader.batches()] == [[b"0"], [b"1"], [b"2"]]


def test_frames_after_batches_and_the_other_way_round(make):
    octets = make.pcap_header() + b"".join(make.record(b"%d" % n) for n in range(2 * WINDOW_ROWS + 10))
    with open_pcap(io.BytesIO(octets)) as reader:
        seen = len(next(reader.batches()))
        assert seen == WINDOW_ROWS
        seen += len(next(reader.batches()))
        assert [frame.data for frame in reader] == [b"%d" % n for n in range(seen, 2 * WINDOW_ROWS + 10)]
        assert list(reader.batches()) == []
    with open_pcap(io.BytesIO(octets)) as reader:
        for _ in reader:
            break
        with pytest.raises(ValueError, match="others of them would be lost"):
            reader.batches()
        assert len(list(reader)) == 2 * WINDOW_ROWS + 9
    with pytest.raises(ValueError, match="reader is closed"):
        reader.batches()


def test_an_error_is_told_again(make):
    with open_pcap(io.BytesIO(make.pcap_header() + make.record() + b"half")) as reader:
        batches = reader.batches()
        assert len(next(batches)) == 1
        for _ in range(2):
            with pytest.raises(CaptureFileError, match="after 1 packets"):
                next(reader.batches())


def test_a_file_that_is_cut_while_it_is_read(make, tmp_path):
    """A mapping would end the process with SIGBUS here."""
    path = tmp_path / "x.pcap"
    one = make.record(bytes(1000))
    path.write_bytes(make.pcap_header() + one * 20_000)
    with open_pcap(path) as reader:
        batches = reader.batches()
        seen = [len(next(batches))]
        os.truncate(path, 3_000_000)
        with pytest.raises(CaptureFileError, match="the file ends inside it"):
            seen.extend(map(len, batches))
    assert sum(seen) == (3_000_000 - 24) // len(one)


def test_a_pipe_gives_its_packets_when_they_arrive(make):
    readable, writable = os.pipe()
    with open(readable, "rb", buffering=0) as stream, open(writable, "wb", buffering=0) as out:
        out.write(make.pcap_header())
        with open_pcap(stream) as reader:
            batches = reader.batches()
            for n in range(3):
                out.write(make.record(b"a") * n + make.record(b"b") + make.record(b"half")[:18])
                assert list(next(batches)) == [b"a"] * n + [b"b"]
                out.write(make.record(b"half")[18:])
                assert list(next(batches)) == [b"half"]


def test_what_batches_give_can_be_written_in_batches(make_both, outcome):
    """But for times before 1970 nothing of a record is lost."""
    octets = make_both.every_block()
    out = io.BytesIO()
    with open_pcap(io.BytesIO(octets)) as reader, PcapngWriter(out) as writer:
        for batch in reader.batches():
            writer.write_batch(batch, interface_names=reader.interface_names)
    assert outcome(out.getvalue()).frames == [
        Frame(f.data, f.time_ns, f.wire_len, f.linktype, f.interface, f.direction, f.checksum)
        for f in outcome(octets).frames
    ]


@pytest.mark.parametrize("kind", ["pcap", "pcapng"])
def test_many_packets_of_many_lengths(make_both, kind):
    rng = random.Random(5)
    datas = [rng.randbytes(rng.choice([0, 1, 60, 1514, 9000])) for _ in range(3000)]
    if kind == "pcap":
        octets = make_both.pcap_header() + b"".join(map(make_both.record, datas))
    else:
        octets = make_both.shb() + make_both.idb() + b"".join(map(make_both.epb, datas))
    assert len(octets) > 5 * WINDOW_LEN
    with open_pcap(io.BytesIO(octets)) as reader:
        assert [data for batch in reader.batches() for data in batch] == datas


# ---- blocks


def test_blocks_are_the_whole_file(make_both):
    octets = make_both.every_block()
    with open_pcap(io.BytesIO(octets)) as reader:
        blocks = list(reader.blocks())
    assert b"".join(block.octets for block in blocks) == octets
    assert {block.order for block in blocks} == {make_both.order}
    assert [block.name for block in blocks[:5]] == [
        "section header block",
        "interface description block",
        "enhanced packet block",
        "enhanced packet block",
        "name resolution block",
    ]
    assert {block.name for block in blocks} >= {"custom block", "unknown block", "decryption secrets block"}
    assert blocks[3].options == [(1, b"two"), (1, b"comments"), (2, make_both.pack("I", 1))]
    assert blocks[1].options == [(2, b"eth0"), (9, b"\x09")]
    assert len(reader.interfaces) == 2


def test_options_of_the_other_blocks(make_both):
    option = make_both.option(2988, make_both.pack("I", 32473) + b"odd")
    names = make_both.pack("HH", 1, 9) + b"\xc0\0\2\1name\0" + bytes(3) + make_both.pack("HH", 0, 0)
    octets = make_both.shb(option) + make_both.idb(options=option)
    octets += make_both.block(4, names + option)
    octets += make_both.block(10, make_both.pack("II", 0x544C534B, 5) + b"12345" + bytes(3) + option)
    octets += make_both.obsolete(b"abc", options=option) + make_both.isb(options=option)
    octets += make_both.block(0x777, option)
    with open_pcap(io.BytesIO(octets)) as reader:
        found = [block.options for block in reader.blocks()]
    assert found == [[(2988, make_both.pack("I", 32473) + b"odd")]] * 6 + [[]]


def test_blocks_of_sections_in_both_byte_orders(make_both):
    other = type(make_both)(">" if make_both.order == "<" else "<")
    octets = make_both.every_block() + other.every_block()
    with open_pcap(io.BytesIO(octets)) as reader:
        blocks = list(reader.blocks())
    assert b"".join(block.octets for block in blocks) == octets
    assert [block.order for block in blocks] == [make_both.order] * 15 + [other.order] * 15


def test_a_pcap_file_has_no_blocks(make):
    with (
        open_pcap(io.BytesIO(make.pcap_header())) as reader,
        pytest.raises(ValueError, match="no blocks"),
    ):
        reader.blocks()


def test_more_before_the_first_interface_than_is_kept(make):
    octets = make.shb() + make.block(0x777, bytes(9 << 20)) * 2 + make.idb() + make.epb()
    with open_pcap(io.BytesIO(octets)) as reader:
        with pytest.raises(ValueError, match="before the first interface"):
            reader.blocks()
        assert len(list(reader)) == 1
