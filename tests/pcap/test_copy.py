"""Copies of capture files: octet for octet, whatever stands in them, and whole when something fails."""

from __future__ import annotations

import io
import random
import subprocess

import pytest
from capfiles import Maker
from oracles import oracle

from rawkit.engine.batch import CSUM_NOT_READY
from rawkit.engine.rewrite import PrefixRule, Rewriter
from rawkit.errors import CaptureFileError, EngineError
from rawkit.pcap import copy_pcap, open_pcap
from rawkit.pcap import sink as sink_module
from rawkit.pcap.sink import BUFFER_LEN, Sink


def copied(octets, wanted=None):
    out = io.BytesIO()
    with open_pcap(io.BytesIO(octets)) as reader:
        n = copy_pcap(reader, out, wanted)
    return out.getvalue(), n


def test_a_copy_is_the_same_octets(make_both):
    other = type(make_both)(">" if make_both.order == "<" else "<")
    pcapng = make_both.shb(section_len=1000) + make_both.every_block() + other.every_block()
    for octets, n in (
        (make_both.pcap_header(), 0),
        (make_both.pcap_header(linktype=0x24000001) + make_both.record() * 3, 3),
        (make_both.pcap_header(magic=0xA1B2CD34) + make_both.record(extra=b"modified") * 2, 2),
        (make_both.shb(), 0),
        (pcapng, 14),
    ):
        assert copied(octets) == (octets, n)


def test_copies_longer_than_the_buffer(make_both):
    pcap = make_both.pcap_header() + make_both.record(bytes(1400)) * 2000
    long = make_both.epb(options=make_both.option(1, b"c" * 0xFFFF) * 20)
    pcapng = (
        make_both.shb() + make_both.idb() + (make_both.epb(bytes(1400)) + make_both.block(0x777, b"?")) * 500
    )
    pcapng += long + make_both.epb() + make_both.block(0x777, bytes(2 << 20))
    for octets in (pcap, pcapng):
        assert len(octets) > BUFFER_LEN
        assert copied(octets)[0] == octets


def test_what_is_not_wanted_is_left_out_and_nothing_else(make_both):
    comment = make_both.option(1, b"kept") + make_both.option(5, bytes(8)) + make_both.option(0x777, b"?")
    first = [make_both.shb(section_len=4), make_both.idb(options=make_both.option(0x777, b"?"))]
    packets = [make_both.epb(b"%d" % n, options=comment) for n in range(5)]
    last = [make_both.block(4, make_both.pack("HH", 0, 0)), make_both.spb(b"5"), make_both.isb()]
    octets = b"".join(first + packets + last)
    asked = []

    def wanted(batch):
        asked.append(list(batch))
        return [int(octets) % 3 != 1 for octets in batch], True

    kept = [packet for n, packet in enumerate(packets) if n % 3 != 1]
    assert copied(octets, wanted) == (b"".join([make_both.shb(section_len=-1), first[1], *kept, *last]), 4)
    assert asked == [[b"0", b"1", b"2", b"3", b"4"], [b"5"]]


def test_a_copy_may_end_early(make_both):
    octets = make_both.shb() + make_both.idb() + make_both.epb(b"1") + make_both.epb(b"2")
    out, n = copied(octets + make_both.isb() + b"damage", lambda batch: ([1, 0], False))
    assert (out, n) == (make_both.shb() + make_both.idb() + make_both.epb(b"1"), 1)


def test_a_damaged_file_is_copied_up_to_the_damage(make_both, tmp_path):
    good = make_both.every_block()
    out = tmp_path / "out"
    with open_pcap(io.BytesIO(good + b"damage, and more of it")) as reader, pytest.raises(CaptureFileError):
        copy_pcap(reader, out)
    assert out.read_bytes() == good


@pytest.mark.parametrize("kind", ["pcap", "pcapng"])
def test_a_full_disk_leaves_whole_records(make_both, tmp_path, kind, file_size_limit):
    if kind == "pcap":
        octets, record = make_both.pcap_header(), make_both.record(bytes(1000))
    else:
        octets, record = make_both.shb() + make_both.idb(), make_both.epb(bytes(1000))
    out = tmp_path / "out"
    with (
        file_size_limit(700_001),
        open_pcap(io.BytesIO(octets + record * 1000)) as reader,
        pytest.raises(EngineError, match=r"its last whole record, it holds 6\d\d packets"),
    ):
        copy_pcap(reader, out)
    whole = (700_001 - len(octets)) // len(record)
    assert out.read_bytes() == octets + record * whole


def generated(make: Maker, rng: random.Random) -> bytes:
    """Sections and packets of all kinds in runs long and short, or records of a pcap file."""

    def data():
        return rng.randbytes(rng.choice((0, 3, 60, 301, 1514)))

    def times():
        return rng.randrange(2**40)  # in no order

    if rng.random() < 0.3:
        modified = rng.random() < 0.5
        header = make.pcap_header(magic=0xA1B2CD34 if modified else 0xA1B2C3D4)
        extra = b"modified" if modified else b""
        return header + b"".join(
            make.record(data(), times() % 2**31, rng.randrange(10**6), extra=extra) for _ in range(300)
        )
    octets = b""
    for section in rng.choices((make, Maker(">" if make.order == "<" else "<")), k=rng.randint(1, 3)):
        octets += section.every_block()
        packets = (
            lambda make=section: make.epb(data(), ticks=times()),
            lambda make=section: make.epb(data(), ticks=times(), options=make.option(1, data()[:100])),
            lambda make=section: make.spb(data()[:96]),
            lambda make=section: make.obsolete(data(), ticks=times()),
        )
        for _ in range(6):
            octets += b"".join(rng.choice(packets)() for _ in range(rng.choice((1, 2, 150))))
            octets += section.block(rng.choice((4, 0x0A, 0x777)), rng.randbytes(8))
    return octets


def test_records_written_from_where_they_lie_are_those_that_are_gathered(make_both, tmp_path, monkeypatch):
    """Through a file's own way, and record by record through a stream's."""
    rng = random.Random(6)
    runs = []
    through = Sink.through
    monkeypatch.setattr(sink_module, "THROUGH_LEN", 200)
    monkeypatch.setattr(Sink, "through", lambda self, records, n: (runs.append(n), through(self, records, n)))
    for _ in range(40):
        octets = generated(make_both, rng)
        low, high = sorted((rng.randrange(300), rng.randrange(300)))

        def ways(low=low, high=high, invert=low % 3 == 0):
            """All packets, or from one on to another, or all but those; by their number in the file."""
            seen = 0

            def wanted(batch):
                nonlocal seen
                flags = [(low <= n < high) != invert for n in range(seen, seen + len(batch))]
                seen += len(batch)
                return flags, True

            return wanted if high % 3 else None

        gathered, n = copied(octets, ways())
        with open_pcap(io.BytesIO(octets)) as reader:
            assert copy_pcap(reader, tmp_path / "out", ways()) == n
        assert (tmp_path / "out").read_bytes() == gathered
    assert len(runs) > 40
    assert max(runs) > 100


def test_copying_goes_on_where_reading_stopped(make):
    octets = make.shb() + make.idb() + make.epb(b"1") + make.isb() + make.epb(b"2")
    out = io.BytesIO()
    with open_pcap(io.BytesIO(octets)) as reader:
        next(reader.batches())
        copy_pcap(reader, out)
    assert out.getvalue() == make.isb() + make.epb(b"2")
    with open_pcap(io.BytesIO(octets)) as reader:
        next(iter(reader))
        with pytest.raises(ValueError, match="others of them would be lost"):
            copy_pcap(reader, out)


def test_tshark_finds_in_a_copy_what_stood_in_the_file(make, tmp_path):
    """Names, secrets and unknown options of the packets that are left."""
    names = make.pack("HH", 1, 9) + b"\xc0\0\2\1name\0" + bytes(3) + make.pack("HH", 0, 0)
    octets = (
        make.shb(make.option(4, b"maker")) + make.idb(options=make.option(2, b"eth0")) + make.block(4, names)
    )
    octets += make.block(10, make.pack("II", 0x544C534B, 4) + b"key\n")
    octets += b"".join(
        make.epb(bytes(60), ticks=n, options=make.option(1, b"packet %d" % n)) for n in range(4)
    )
    source, path = tmp_path / "in.pcapng", tmp_path / "out.pcapng"
    source.write_bytes(octets)
    with open_pcap(source) as reader:
        assert copy_pcap(reader, path, lambda batch: ([0, 1, 0, 1], True)) == 2

    def tshark(file):
        words = ["-r", str(file), "-T", "fields", "-e", "frame.comment", "-e", "frame.interface_name"]
        return subprocess.run([oracle("tshark"), *words], capture_output=True, text=True, check=True).stdout

    assert tshark(path).splitlines() == [tshark(source).splitlines()[n] for n in (1, 3)]
    capinfos = subprocess.run([oracle("capinfos"), path], capture_output=True, text=True, check=True).stdout
    assert "maker" in capinfos
    assert "Number of decryption secrets in file: 1" in capinfos


# ---- edited


def edited(octets, **rules):
    out = io.BytesIO()
    with open_pcap(io.BytesIO(octets)) as reader:
        copy_pcap(reader, out, edit=Rewriter(**rules))
    return out.getvalue()


def every_option(make: Maker, data: bytes, flags: int = 1) -> bytes:
    """Each block that may hold `data`, an Ethernet frame, and every option that the draft has."""
    packet = b"".join(
        (
            make.option(1, b"comment"), make.option(2, make.pack("I", flags)), make.option(3, b"\2hash"),
            make.option(4, bytes(8)), make.option(5, b"\1" * 8), make.option(6, b"\2" * 4),
            make.option(7, b"\0verdict"), make.option(2988, b"1234text"), make.option(2989, b"1234\0\1"),
            make.option(0x777, b"unknown"), make.option(0, b""), b"\xee" * 4,
        )
    )  # fmt: skip
    interface = b"".join(make.option(code, b"%d" % code) for code in (2, 3, 8, 10, 11, 12, 15, 777))
    addresses = (
        make.option(4, bytes(8))
        + make.option(5, bytes(17))
        + make.option(6, bytes(6))
        + make.option(7, bytes(8))
    )
    numbers = b"".join(make.option(code, bytes(8)) for code in range(2, 9))
    return b"".join(
        (
            make.shb(make.option(2, b"hw") + make.option(1, b"note") + make.option(777, b"x")),
            make.idb(1, 262144, interface + addresses + make.option(9, b"\x09") + make.option(0, b"")),
            make.epb(data, options=packet),
            make.block(4, make.pack("HH", 1, 9) + b"\xc0\0\2\1name\0" + bytes(3) + make.pack("HH", 0, 0)),
            make.spb(data),
            make.isb(options=make.option(1, b"why") + numbers),
            make.block(9, b"__REALTIME_TIMESTAMP=1\n"),
            make.block(10, make.pack("II", 0x544C534B, 4) + b"key\n"),
            make.obsolete(data, drops=7, options=packet),
            make.block(0xBAD, make.pack("I", 32473) + b"custom"),
            make.block(0x40000BAD, make.pack("I", 32473) + b"custom, not to be copied"),
            make.block(0x80000001, b"vendor"),
            make.epb(data[:20], wire_len=len(data)),
        )
    )  # fmt: skip


FRAME = bytes.fromhex(
    "02000000000202000000000108004500002000010000401100000a0000010a00000200010002000c0000"
) + b"four"  # fmt: skip


def test_an_edit_that_changes_nothing_gives_the_same_octets(make_both):
    other = Maker(">" if make_both.order == "<" else "<")
    for octets in (
        make_both.pcap_header(magic=0xA1B2CD34) + make_both.record(FRAME, extra=b"modified") * 2,
        make_both.every_block() + other.every_block() + every_option(make_both, FRAME),
    ):
        assert edited(octets) == octets


@pytest.mark.parametrize("length", [46, 47, 48, 49, 300])
def test_an_edit_changes_packets_and_nothing_else(make_both, length):
    """Neither blocks nor options, known or not; the lengths follow."""
    data = FRAME.ljust(length, b".")
    tagged = data[:12] + b"\x81\0\0\x07" + data[12:]
    # Bit 9 of the flags says that the checksum is not computed; it is now.
    before, after = every_option(make_both, data, 0x201), every_option(make_both, tagged, 1)
    # The last packet was cut: what is cut stays cut, and the tag makes it longer.
    after = after[: -len(make_both.epb(tagged[:20]))] + make_both.epb(tagged[:24], wire_len=len(tagged))
    got = edited(before, vlan_add=(0x8100, 7))
    with open_pcap(io.BytesIO(got)) as reader, open_pcap(io.BytesIO(after)) as wanted:
        for block, want in zip(reader.blocks(), wanted.blocks(), strict=True):
            assert without_checksum(block.octets) == without_checksum(want.octets)


def without_checksum(octets: bytes) -> bytes:
    """Without the UDP checksum, which is not what this is about."""
    at = octets.find(b"\0\1\0\2\0\x0c")
    return octets if at < 0 else octets[: at + 6] + b"??" + octets[at + 8 :]


def test_the_flags_tell_that_a_checksum_was_finished(make_both):
    """A partial checksum, as a card would get it, with bit 9 set."""
    flags = make_both.option(1, b"kept") + make_both.option(2, make_both.pack("I", 0x202))
    octets = make_both.shb() + make_both.idb() + make_both.epb(FRAME, options=flags)
    out = edited(octets, prefixes=[PrefixRule(b"\x0a\0\0\0", 8, b"\xc0\xa8\0\0", 16)])
    for file, not_ready in ((octets, CSUM_NOT_READY), (out, 0)):
        with open_pcap(io.BytesIO(file)) as reader:
            batch = next(reader.batches())
            assert batch.records()[0].flags & CSUM_NOT_READY == not_ready
    with open_pcap(io.BytesIO(out)) as reader:
        (frame,) = reader
    assert frame.comments == ("kept",)
    assert frame.direction == "out"
    assert [v.state for v in frame.packet().checksums() if v.layer.__name__ == "UDP"] == ["good"]


def test_a_simple_packet_that_cannot_tell_its_length_becomes_an_enhanced_one(make_both):
    octets = make_both.shb() + make_both.idb(snaplen=20) + make_both.spb(FRAME[:20], wire_len=60)
    out = edited(octets, vlan_add=(0x8100, 7))
    with open_pcap(io.BytesIO(out)) as reader:
        (frame,) = reader
    assert (frame.data, frame.wire_len, frame.time_ns) == (
        FRAME[:12] + b"\x81\0\0\x07" + FRAME[12:20],
        64,
        0,
    )


def test_blocks_may_be_left_out_and_options_chosen(make_both):
    octets = every_option(make_both, FRAME)
    out = io.BytesIO()
    with open_pcap(io.BytesIO(octets)) as reader:
        copy_pcap(
            reader,
            out,
            blocks=lambda block: block.octets if block.kind in (0x0A0D0D0A, 1) else b"",
            options=(2, 4),
        )
    with open_pcap(io.BytesIO(out.getvalue())) as reader:
        blocks = list(reader.blocks())
    assert [block.kind for block in blocks] == [0x0A0D0D0A, 1, 6, 3, 2, 6]
    assert [[code for code, _ in block.options] for block in blocks[2:]] == [[2, 4], [], [2, 4], []]
    assert len(blocks[1].options) == 13
