"""Copies of capture files: octet for octet, whatever stands in them, and whole when something fails."""

from __future__ import annotations

import io
import subprocess

import pytest
from oracles import oracle

from rawkit.errors import CaptureFileError, EngineError
from rawkit.pcap import copy_pcap, open_pcap
from rawkit.pcap.sink import BUFFER_LEN


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
