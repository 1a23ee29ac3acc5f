"""Damaged and odd files: every packet before the damage, then one error that says where."""

from __future__ import annotations

import io
import subprocess
import tracemalloc

import pytest

from rawkit.errors import CaptureFileError
from rawkit.pcap import open_pcap

MAX_TIME = 2**63 - 1


def peak_memory(octets: bytes) -> int:
    """Octets allocated at most while `octets` is read, and fail with CaptureFileError."""
    tracemalloc.start()
    try:
        with pytest.raises(CaptureFileError), open_pcap(io.BytesIO(octets)) as reader:
            for _ in reader:
                pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# ---- pcap


@pytest.mark.parametrize("claim", [262_145, 0x7FFFFFFF, 0xFFFFFFFF])
def test_captured_length_over_the_maximum(make_both, outcome, claim):
    good = make_both.pcap_header() + make_both.record(b"first")
    result = outcome(good + make_both.record(b"x" * 240, cap_len=claim))
    assert result.data == [b"first"]
    assert f"captured length {claim}, more than 262144" in result.message
    assert result.error.offset == len(good)


def test_memory_stays_flat_on_a_4_gib_claim(make):
    pcap = make.pcap_header() + make.record(b"x" * 240, cap_len=0xFFFFFFFF)
    pcapng = make.shb() + make.idb() + make.block(6, bytes(200), length=0xFFFFFFFC)
    packet = make.shb() + make.idb() + make.epb(bytes(200), cap_len=0xFFFFFFFF)
    for octets in (pcap, pcapng, packet):
        assert len(octets) < 350
        assert peak_memory(octets) < 100_000


def test_captured_length_over_the_snaplen_is_delivered_whole(make_both, outcome):
    result = outcome(make_both.pcap_header(snaplen=10) + make_both.record(b"x" * 50))
    assert result.data == [b"x" * 50]
    assert result.error is None
    result = outcome(make_both.shb() + make_both.idb(snaplen=10) + make_both.epb(b"x" * 50))
    assert result.data == [b"x" * 50]
    assert result.error is None


def test_captured_length_over_the_original_length(make, outcome):
    for octets in (
        make.pcap_header() + make.record(b"12345678", wire_len=4),
        make.shb() + make.idb() + make.epb(b"12345678", wire_len=4),
    ):
        (frame,) = outcome(octets).frames
        assert (frame.data, frame.wire_len) == (b"12345678", 4)


def test_zero_length_record(make, outcome):
    for octets in (
        make.pcap_header() + make.record(b"") + make.record(b"next"),
        make.shb() + make.idb() + make.epb(b"") + make.epb(b"next"),
    ):
        result = outcome(octets)
        assert result.data == [b"", b"next"]
        assert result.error is None


@pytest.mark.parametrize(
    ("keep", "what"),
    [(3, "packet header: .* wanted 16 octets, got 3"), (18, "packet: .* wanted 20 octets, got 18")],
)
def test_end_of_file_inside_a_pcap_record(make, outcome, keep, what, tmp_path):
    good = make.pcap_header() + make.record(b"first")
    path = tmp_path / "cut.pcap"
    path.write_bytes(good + make.record(b"next")[:keep])
    with open_pcap(path) as reader:
        frames = iter(reader)
        assert next(frames).data == b"first"
        with pytest.raises(CaptureFileError, match=what) as caught:
            next(frames)
    assert (caught.value.path, caught.value.offset, caught.value.packet) == (str(path), len(good), 1)
    assert str(path) in str(caught.value)
    assert f"offset {len(good)}" in str(caught.value)


def test_end_of_file_inside_a_pcapng_block(make, outcome):
    good = make.shb() + make.idb() + make.epb(b"first")
    result = outcome(good + make.epb(b"next")[:20])
    assert result.data == [b"first"]
    assert "enhanced packet block: the file ends inside it, wanted 36 octets, got 20" in result.message
    assert result.error.offset == len(good)
    result = outcome(good + make.epb(b"next")[:5])
    assert "block header: the file ends inside it, wanted 12 octets, got 5" in result.message


@pytest.mark.parametrize("snaplen", [0, 0x80000000, 0xFFFFFFFF])
def test_odd_snaplens_size_nothing(make_both, outcome, snaplen):
    for octets in (
        make_both.pcap_header(snaplen=snaplen) + make_both.record(b"data"),
        make_both.shb() + make_both.idb(snaplen=snaplen) + make_both.epb(b"data") + make_both.spb(b"data"),
    ):
        result = outcome(octets)
        assert set(result.data) == {b"data"}
        assert result.error is None
        assert result.reader.snaplen == snaplen


def test_microseconds_over_a_million(make, outcome):
    (frame,) = outcome(make.pcap_header() + make.record(seconds=7, fraction=2_500_000)).frames
    assert frame.time_ns == 9_500_000_000


def test_seconds_past_2038_are_unsigned(make, outcome):
    (frame,) = outcome(make.pcap_header() + make.record(seconds=0xFFFFFFFF, fraction=1)).frames
    assert frame.time_ns == 0xFFFFFFFF * 1_000_000_000 + 1000


def test_modified_kuznetzov_magic(make_both, outcome):
    octets = make_both.pcap_header(magic=0xA1B2CD34)
    octets += make_both.record(b"first", extra=bytes(8)) + make_both.record(b"next", extra=bytes(8))
    result = outcome(octets)
    assert result.data == [b"first", b"next"]
    assert result.frames[0].time_ns == 1_000_002_000
    assert result.error is None


@pytest.mark.parametrize("version", [(2, 3), (2, 5), (3, 0), (543, 0)])
def test_other_pcap_versions_are_refused(make, outcome, version):
    result = outcome(make.pcap_header(version=version) + make.record())
    assert f"version {version[0]}.{version[1]} is not read" in result.message


def test_unknown_link_type(make, outcome):
    for octets in (
        make.pcap_header(linktype=65000) + make.record(),
        make.shb() + make.idb(65000) + make.epb(),
    ):
        (frame,) = outcome(octets).frames
        assert (frame.data, frame.linktype) == (b"data", 65000)


@pytest.mark.parametrize(
    ("word", "linktype", "fcs_len"),
    [
        (0x24000001, 1, 4),  # frame check sequence of two 16-bit words
        (0x00010001, 0x00010001, 0),
        (0x08000001, 0x08000001, 0),
        (0x20000001, 0x20000001, 0),  # a length without the bit that says it is there
    ],
)
def test_reserved_bits_never_give_another_link_type(make, outcome, word, linktype, fcs_len):
    result = outcome(make.pcap_header(linktype=word) + make.record())
    assert result.frames[0].linktype == linktype
    assert result.reader.interfaces[0].fcs_len == fcs_len


def test_zero_padding_at_the_end_of_pcap_reads_as_empty_packets(make, outcome):
    result = outcome(make.pcap_header() + make.record(b"real") + bytes(32))
    assert result.data == [b"real", b"", b""]
    assert result.error is None
    assert "packet header" in outcome(make.pcap_header() + make.record(b"real") + bytes(20)).message


def test_zero_padding_at_the_end_of_pcapng_is_an_error(make, outcome):
    result = outcome(make.shb() + make.idb() + make.epb(b"real") + bytes(64))
    assert result.data == [b"real"]
    assert "length 0" in result.message


@pytest.mark.parametrize("second", ["same", "other order", "other resolution", "pcapng"])
def test_two_files_joined(make_both, outcome, second):
    other = type(make_both)(">" if make_both.order == "<" else "<")
    first = make_both.pcap_header() + make_both.record(b"first")
    result = outcome(
        first
        + {
            "same": first,
            "other order": other.pcap_header() + other.record(b"second"),
            "other resolution": make_both.pcap_header(magic=0xA1B23C4D) + make_both.record(b"second"),
            "pcapng": make_both.shb() + make_both.idb() + make_both.epb(),
        }[second]
    )
    assert result.data == [b"first"]
    assert "a second file header begins here" in result.message
    assert result.error.offset == len(first)


def test_a_pcap_joined_to_a_pcapng(make_both, outcome):
    first = make_both.shb() + make_both.idb() + make_both.epb(b"first")
    result = outcome(first + make_both.pcap_header() + make_both.record(b"second"))
    assert result.data == [b"first"]
    assert "a second file header begins here" in result.message


# ---- pcapng


@pytest.mark.parametrize("length", [0, 1, 8, 11, 13, 14, 15, 0xFFFFFFFF])
@pytest.mark.parametrize("kind", [6, 0x777])
def test_block_length_0_or_under_12_or_not_a_multiple_of_4(make_both, outcome, length, kind):
    good = make_both.shb() + make_both.idb() + make_both.epb(b"first")
    result = outcome(good + make_both.block(kind, bytes(40), length=length) + make_both.epb(b"never"))
    assert result.data == [b"first"]
    assert f"length {length}" in result.message
    assert result.error.offset == len(good)


@pytest.mark.parametrize(("kind", "least"), [(0x0A0D0D0A, 28), (1, 20), (2, 32), (3, 16), (5, 24), (6, 32)])
def test_block_too_short_for_its_type(make_both, outcome, kind, least):
    good = make_both.shb() + make_both.idb() + make_both.epb(b"first")
    body = make_both.pack("I", 0x1A2B3C4D).ljust(least - 12, b"\0")
    result = outcome(good + make_both.block(kind, body[: least - 16] or b"", length=least - 4) + bytes(64))
    assert result.data == [b"first"]
    assert f"length {least - 4}, wanted a multiple of 4 from {least} up" in result.message


@pytest.mark.parametrize("length", [(16 << 20) + 4, 0x80000000, 0xFFFFFFFC])
def test_huge_block(make, outcome, length):
    result = outcome(make.shb() + make.idb() + make.epb(b"first") + make.block(6, bytes(40), length=length))
    assert result.data == [b"first"]
    assert f"length {length}, more than 16777216" in result.message


def test_a_block_of_16_mib_is_skipped(make, outcome):
    result = outcome(make.shb() + make.idb() + make.block(0x777, bytes((16 << 20) - 12)) + make.epb(b"after"))
    assert result.data == [b"after"]
    assert result.reader.skipped == {"unknown": 1}


@pytest.mark.parametrize("kind", [1, 5, 6, 0x777])
def test_leading_and_trailing_length_differ(make_both, outcome, kind):
    good = make_both.shb() + make_both.idb() + make_both.epb(b"first")
    result = outcome(good + make_both.block(kind, bytes(40), trailing=48))
    assert result.data == [b"first"]
    assert "length 52 at its start, 48 at its end" in result.message


def test_interface_without_description(make_both, outcome):
    start = make_both.shb() + make_both.idb() + make_both.epb(b"first")
    for block in (
        make_both.epb(interface=1),
        make_both.obsolete(interface=1),
        make_both.isb(interface=1),
        make_both.epb(interface=0xFFFFFFFF),
    ):
        result = outcome(start + block)
        assert result.data == [b"first"]
        assert ", the section has described 1" in result.message


def test_packet_before_any_interface(make_both, outcome):
    for block in (make_both.epb(), make_both.spb(), make_both.obsolete(), make_both.isb()):
        message = outcome(make_both.shb() + block + make_both.idb()).message
        assert "no interface description block in this section before it" in message


def test_interface_ids_of_an_earlier_section_are_gone(make, outcome):
    first = make.shb() + make.idb() + make.idb() + make.epb(b"first", interface=1)
    result = outcome(first + make.shb() + make.idb() + make.epb(b"never", interface=1))
    assert result.data == [b"first"]
    assert "interface 1, the section has described 1" in result.message


@pytest.mark.parametrize("claim", [0xFFFFFFFC, 0xFFFFFFFD, 0xFFFFFFFE, 0xFFFFFFFF, 9, 262_145])
def test_captured_length_whose_rounding_wraps_or_leaves_the_block(make_both, outcome, claim):
    good = make_both.shb() + make_both.idb() + make_both.epb(b"first")
    result = outcome(good + make_both.epb(b"12345678", cap_len=claim) + make_both.epb(b"never"))
    assert result.data == [b"first"]
    assert f"captured length {claim}, more than the 8 possible" in result.message


def test_new_section_with_the_same_byte_order(make, outcome):
    second = make.shb() + make.idb(101, options=make.option(2, b"tun0")) + make.epb(b"second")
    result = outcome(make.shb() + make.idb() + make.epb(b"first") + second)
    assert [(f.data, f.linktype, f.interface) for f in result.frames] == [
        (b"first", 1, "interface 0"),
        (b"second", 101, "tun0"),
    ]


def test_new_section_with_another_byte_order_link_type_and_snaplen(make_both, outcome):
    other = type(make_both)(">" if make_both.order == "<" else "<")
    octets = make_both.shb() + make_both.idb(1, 60) + make_both.epb(b"first")
    octets += other.shb() + other.idb(101, 90) + other.epb(b"second")
    octets += make_both.shb() + make_both.idb(113, 0) + make_both.epb(b"third")
    result = outcome(octets)
    assert [(f.data, f.linktype) for f in result.frames] == [(b"first", 1), (b"second", 101), (b"third", 113)]
    assert [i.snaplen for i in result.reader.interfaces] == [60, 90, 0]
    assert result.error is None


@pytest.mark.parametrize("section_len", [0, 1, -2, 2**62])
def test_wrong_section_length_is_ignored(make, outcome, section_len):
    result = outcome(make.shb(section_len=section_len) + make.idb() + make.epb())
    assert result.data == [b"data"]


def test_minor_version_2_is_read_and_others_refused(make, outcome):
    assert outcome(make.shb(minor=2) + make.idb() + make.epb()).data == [b"data"]
    for major, minor in ((1, 1), (1, 3), (2, 0), (0, 0)):
        message = outcome(make.shb(major=major, minor=minor) + make.idb()).message
        assert f"version {major}.{minor} is not read" in message


def test_unknown_blocks_and_options_are_skipped_and_counted(make_both, outcome):
    octets = make_both.shb(make_both.option(0x777, b"?")) + make_both.idb(
        options=make_both.option(0x777, b"?")
    )
    for kind in (0x777, 0x80000777, 0x0BAD, 0x40000BAD, 4, 0x0A):
        octets += make_both.block(kind, b"whatever")
    octets += make_both.epb(options=make_both.option(0x777, b"?") + make_both.option(1, b"seen"))
    result = outcome(octets)
    assert result.frames[0].comments == ("seen",)
    assert result.reader.skipped == {
        "unknown": 2,
        "custom": 2,
        "name resolution": 1,
        "decryption secrets": 1,
    }


def test_option_length_past_its_block(make_both, outcome):
    bad = make_both.option(1, b"kept") + make_both.option(1, b"lost", length=400)
    result = outcome(make_both.shb() + make_both.idb() + make_both.epb(options=bad) + make_both.epb(b"next"))
    assert result.data == [b"data", b"next"]
    assert result.frames[0].comments == ("kept",)
    assert result.reader.skipped == {"damaged options": 1}
    message = outcome(make_both.shb() + make_both.idb(options=bad) + make_both.epb()).message
    assert "interface description block: option 1 claims 400 octets, 4 are left" in message


def test_missing_end_of_options_and_end_with_a_length(make_both, outcome):
    for end in (b"", make_both.option(0, b""), make_both.option(0, b"", length=8)):
        options = make_both.option(1, b"note") + end
        result = outcome(make_both.shb() + make_both.idb(options=options) + make_both.epb(options=options))
        assert result.frames[0].comments == ("note",)
        assert result.error is None


def test_comments_of_invalid_utf8_of_64_kib_and_5000_of_them(make, outcome):
    long = b"c" * 0xFFFF
    options = make.option(1, b"caf\xe9 \xff") + make.option(1, long) + make.option(1, b"n") * 5000
    result = outcome(make.shb(options) + make.idb(options=options) + make.epb(options=options))
    (frame,) = result.frames
    assert frame.comments == ("caf\\xe9 \\xff", long.decode(), *["n"] * 5000)
    assert result.reader.section.comments == result.reader.interfaces[0].comments == frame.comments


@pytest.mark.parametrize(
    ("tsresol", "ticks", "time_ns"),
    [
        (0, 3, 3_000_000_000),
        (3, 3, 3_000_000),
        (6, 3, 3000),
        (9, 2**63 - 1, 2**63 - 1),
        (10, 39, 3),
        (20, 2**64 - 1, 184467440),
        (127, 2**64 - 1, 0),
        (0x80, 3, 3_000_000_000),
        (0x80 | 10, 1024, 1_000_000_000),
        (0x80 | 30, 3 << 29, 1_500_000_000),
        (0x80 | 127, 2**64 - 1, 0),
        (0, 2**64 - 1, MAX_TIME),
        (6, 2**64 - 1, MAX_TIME),
        (9, 2**64 - 1, MAX_TIME),
    ],
)
def test_time_resolutions(make_both, outcome, tsresol, ticks, time_ns):
    idb = make_both.idb(options=make_both.option(9, bytes([tsresol])))
    epb, old = make_both.epb(ticks=ticks), make_both.obsolete(ticks=ticks)
    result = outcome(make_both.shb() + idb + epb + old)
    assert [frame.time_ns for frame in result.frames] == [time_ns, time_ns]


@pytest.mark.parametrize("value", [b"", b"\6\6", b"\6\6\6\6"])
def test_time_resolution_of_wrong_length(make, outcome, value):
    message = outcome(make.shb() + make.idb(options=make.option(9, value)) + make.epb()).message
    assert f"option 9 twice or of {len(value)} octets" in message


def test_time_resolution_given_twice(make, outcome):
    twice = make.option(9, b"\6") + make.option(9, b"\x09")
    assert "option 9 twice" in outcome(make.shb() + make.idb(options=twice) + make.epb()).message


@pytest.mark.parametrize(
    ("offset", "time_ns"),
    [(-1, 2000), (5, 6_000_002_000), (-10, -8_999_998_000), (2**63 - 1, MAX_TIME), (-(2**63), -MAX_TIME - 1)],
)
def test_time_offsets_are_signed_and_never_wrap(make_both, outcome, offset, time_ns):
    idb = make_both.idb(options=make_both.option(14, make_both.pack("q", offset)))
    (frame,) = outcome(make_both.shb() + idb + make_both.epb(ticks=1_000_002)).frames
    assert frame.time_ns == time_ns


def test_obsolete_and_simple_packets_cut_by_snaplen(make_both, outcome):
    octets = make_both.shb() + make_both.idb(snaplen=5) + make_both.spb(b"12345", wire_len=1500)
    result = outcome(octets + make_both.obsolete(b"67890"))
    assert [(f.data, f.wire_len, f.time_ns) for f in result.frames] == [
        (b"12345", 1500, 0),
        (b"67890", 5, 1_000_002_000),
    ]
    assert outcome(make_both.shb() + make_both.idb(snaplen=0) + make_both.spb(b"123")).data == [b"123"]
    result = outcome(make_both.shb() + make_both.idb(snaplen=0) + make_both.spb(b"123", wire_len=1500))
    assert "simple packet block: captured length 1500" in result.message


def test_a_thousand_interfaces(make, outcome):
    octets = make.shb() + b"".join(make.idb(options=make.option(2, b"if%d" % n)) for n in range(1000))
    octets += make.epb(b"a", interface=999) + make.epb(b"b", interface=0)
    result = outcome(octets)
    assert [frame.interface for frame in result.frames] == ["if999", "if0"]
    assert len(result.reader.interfaces) == 1000


def test_endless_interfaces_end_before_the_memory_does(make):
    one = make.idb()

    class Endless(io.RawIOBase):
        header = make.shb()

        def read(self, n=-1):
            octets, self.header = self.header or one * (n // len(one)), b""
            return octets

    tracemalloc.start()
    try:
        with pytest.raises(CaptureFileError, match="interface descriptions"), open_pcap(Endless()) as reader:
            for _ in reader:
                pass
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


def test_a_list_of_262144_options_needs_no_memory_of_its_own(make, outcome):
    octets = make.shb() + make.idb() + make.epb(options=make.option(0x777, b"") * (1 << 18))
    tracemalloc.start()
    try:
        result = outcome(octets, once=True)
        assert result.data == [b"data"]
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


# ---- what is no capture file


def test_empty_file(outcome, tmp_path):
    path = tmp_path / "empty.pcap"
    path.touch()
    with pytest.raises(CaptureFileError, match=r"empty\.pcap: not a capture file: it is empty") as caught:
        open_pcap(path)
    assert (caught.value.offset, caught.value.packet) == (0, 0)


def test_text_and_other_files(outcome):
    assert (
        "not a capture file: first octets 23 21 2f 62 69 6e 2f 73 (#!/bin/s)"
        in outcome(b"#!/bin/sh\nexit\n").message
    )
    assert "first octets 7f 45 4c 46 02 (.ELF.)" in outcome(b"\x7fELF\x02").message
    assert "first octets d4 (.)" in outcome(b"\xd4").message


def test_header_cut_short(make_both, outcome):
    assert (
        "file header: the file ends inside it, wanted 24 octets, got 10"
        in outcome(make_both.pcap_header()[:10]).message
    )
    assert "section header block: the file ends" in outcome(make_both.shb()[:20]).message


def test_wrong_byte_order_magic(make, outcome):
    shb = bytearray(make.shb())
    shb[8:12] = b"\1\2\3\4"
    assert "byte-order magic 01 02 03 04" in outcome(bytes(shb)).message


def test_directory_and_missing_file(tmp_path):
    with pytest.raises(IsADirectoryError, match=tmp_path.name):
        open_pcap(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        open_pcap(tmp_path / "nowhere.pcap")


def test_no_permission(tmp_path, ordinary):
    secret = tmp_path / "secret.pcap"
    secret.touch(mode=0)
    code = "import sys, rawkit.pcap; rawkit.pcap.open_pcap(sys.argv[1])"
    done = subprocess.run([*ordinary, "-c", code, secret], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == f"PermissionError: [Errno 13] Permission denied: '{secret}'"


def test_a_damaged_file_can_be_opened_again_and_keeps_saying_so(make, tmp_path):
    path = tmp_path / "damaged.pcapng"
    path.write_bytes(make.shb() + make.idb() + make.epb(b"first") + b"garbage, 16 octs")
    for _ in range(2):
        with open_pcap(path) as reader:
            frames = iter(reader)
            assert next(frames).data == b"first"
            with pytest.raises(CaptureFileError) as first:
                next(frames)
            with pytest.raises(CaptureFileError) as second:
                list(reader)
            assert str(first.value) == str(second.value)
