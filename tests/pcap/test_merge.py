"""Merged files: mergecap's order, and what stands beside the packets."""

from __future__ import annotations

import io
import random
import subprocess
from pathlib import Path

import pytest
from capfiles import Maker
from oracles import oracle

from rawkit.errors import CaptureFileError, FieldError
from rawkit.pcap import open_pcap
from rawkit.pcap.merge import merge_pcaps

SECOND = 1_700_000_000


def pcap(rng: random.Random, name: int, n: int) -> bytes:
    """Each packet says where it is from; times of several files are often the same."""
    make = Maker(rng.choice("<>"))
    times = sorted(rng.randrange(40) for _ in range(n))
    records = [make.record(b"file %d, %d" % (name, i), SECOND + at) for i, at in enumerate(times)]
    return make.pcap_header() + b"".join(records)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("ending", ["pcap", "pcapng"])
def test_the_packets_are_those_of_mergecap(tmp_path: Path, seed: int, ending: str) -> None:
    rng = random.Random(seed)
    sources = []
    for name in range(rng.randrange(1, 6)):
        sources.append(tmp_path / f"{name}.pcap")
        sources[-1].write_bytes(pcap(rng, name, rng.randrange(0, 60)))
    ours, theirs = tmp_path / f"ours.{ending}", tmp_path / "theirs.pcap"
    subprocess.run(
        [oracle("mergecap"), "-F", "pcap", "-w", theirs, *sources], check=True, capture_output=True
    )
    done = merge_pcaps(sources, ours)
    with open_pcap(ours) as mine, open_pcap(theirs) as other:
        ours_rows, their_rows = (
            [(frame.time_ns, frame.data) for frame in reader] for reader in (mine, other)
        )
    # Of packets with one time mergecap takes those of the last file first.
    assert sorted(their_rows, key=in_order) == ours_rows
    assert sum(done.packets) == len(ours_rows)


def in_order(row: tuple[int, bytes]) -> tuple[int, int, int]:
    file, number = row[1].removeprefix(b"file ").split(b", ")
    return row[0], int(file), int(number)


def merged(tmp_path: Path, *octets: bytes) -> Path:
    sources = []
    for n, one in enumerate(octets):
        sources.append(tmp_path / f"{n}.in")
        sources[-1].write_bytes(one)
    out = tmp_path / "out.pcapng"
    merge_pcaps(sources, out)
    return out


def test_interfaces_and_options_are_kept(tmp_path: Path) -> None:
    make = Maker()
    comment = make.option(1, b"kept") + make.option(2, make.pack("I", 2)) + make.option(0x777, b"unknown")
    one = make.shb() + make.idb(options=make.option(2, b"eth0") + make.option(0x777, b"?"))
    one += make.epb(b"a", ticks=(SECOND + 1) * 10**6, options=comment) + make.isb()
    two = make.shb() + make.idb(101, options=make.option(2, b"tun0")) + make.block(0x777, b"unknown")
    two += make.epb(b"b", ticks=SECOND * 10**6) + make.idb(1, options=make.option(2, b"late"))
    two += make.epb(b"c", interface=1, ticks=(SECOND + 2) * 10**6) + make.isb(1)
    big = Maker(">")
    three = big.shb() + big.idb(1, options=big.option(2, b"big") + big.option(9, b"\x09"))
    three += big.epb(b"d", ticks=(SECOND + 3) * 10**9 + 7, options=big.option(2, big.pack("I", 1)))
    out = merged(tmp_path, one, two, three)
    with open_pcap(out) as reader:
        frames = list(reader)
        names = {row.name: row.linktype for row in reader.interfaces}
        numbers = [row.interface for row in reader.statistics]
    assert names == {"eth0": 1, "tun0": 101, "big": 1, "late": 1}
    assert [(frame.data, frame.interface, frame.linktype) for frame in frames] == [
        (b"b", "tun0", 101),
        (b"a", "eth0", 1),
        (b"c", "late", 1),
        (b"d", "big", 1),
    ]
    assert [frame.time_ns for frame in frames][-1] == (SECOND + 3) * 10**9 + 7
    assert (frames[1].comments, frames[1].direction, frames[3].direction) == (("kept",), "out", "in")
    assert sorted(numbers) == ["eth0", "late"]
    with open_pcap(out) as reader:
        kinds = [block.kind for block in reader.blocks()]
        assert 0x777 in kinds
    with open_pcap(out) as reader:
        packet = next(block for block in reader.blocks() if block.kind == 6 and b"kept" in block.octets)
        assert [code for code, _ in packet.options] == [1, 2, 0x777]


def test_simple_and_obsolete_packets_find_their_interface(tmp_path: Path) -> None:
    make = Maker()
    out = merged(tmp_path, make.every_block(), make.every_block())
    with open_pcap(out) as reader:
        frames = list(reader)
        assert len(reader.interfaces) == 4
    with open_pcap(io.BytesIO(make.every_block())) as reader:
        every = [(frame.data, frame.linktype) for frame in reader]
    assert sorted((frame.data, frame.linktype) for frame in frames) == sorted(every * 2)


def test_a_pcap_file_has_one_link_type(tmp_path: Path) -> None:
    make = Maker()
    for n, linktype in enumerate((1, 101)):
        (tmp_path / f"{n}.pcap").write_bytes(make.pcap_header(linktype=linktype) + make.record())
    with pytest.raises(FieldError, match="one link type"):
        merge_pcaps([tmp_path / "0.pcap", tmp_path / "1.pcap"], tmp_path / "out.pcap")


def test_damage_in_one_file_ends_it(tmp_path: Path) -> None:
    make = Maker()
    good = make.pcap_header() + make.record(b"1", SECOND) + make.record(b"2", SECOND + 5)
    with pytest.raises(CaptureFileError, match="after 1 packets"):
        merged(tmp_path, good, make.pcap_header() + make.record(b"3", SECOND + 1) + b"damage")
    with open_pcap(tmp_path / "out.pcapng") as reader:
        assert [frame.data for frame in reader] == [b"1", b"3"]


def test_a_big_endian_file_loses_nothing_that_is_known(tmp_path: Path) -> None:
    """The same file written in either byte order comes out the same, but for what nobody can turn round."""

    def written(make: Maker, known_only: bool) -> bytes:
        def options(*rows: tuple[int, bytes]) -> bytes:
            return b"".join(make.option(*row) for row in rows) + make.option(0, b"") if rows else b""

        odd = [] if known_only else [(0x777, b"unknown"), (2989, make.pack("I", 32473) + b"custom")]
        octets = make.shb() + make.idb(
            options=options(
                (2, b"eth0"), (1, b"of the interface"), (4, bytes(range(8))), (6, b"\2\0\0\0\0\1"),
                (8, make.pack("Q", 10**9)), (9, b"\x09"), (10, make.pack("I", 3600)), (11, b"\0udp"),
                (14, make.pack("q", -5)), *odd,
            )
        )  # fmt: skip
        octets += make.epb(
            b"abc", ticks=SECOND * 10**9 + 7, wire_len=60,
            options=options(
                (1, b"first"), (1, b"second, of odd length"), (2, make.pack("I", 2)), (3, b"\2" + b"hash"),
                (4, make.pack("Q", 3)), (5, make.pack("Q", 0x0102030405060708)), (6, make.pack("I", 4)),
                (7, b"\1" + make.pack("Q", 2)), (7, b"\0" + b"octets"), *odd,
            ),
        )  # fmt: skip
        octets += make.spb(b"simple")
        octets += make.obsolete(b"old", drops=5, ticks=SECOND * 10**9 + 8, options=options((1, b"noted")))
        names = make.pack("HH", 1, 9) + b"\xc0\0\2\1name\0" + bytes(3) + make.pack("HH", 0, 0)
        octets += make.block(4, names + options((1, b"of names"), (2, b"resolver"), *odd))
        octets += make.block(
            0x0A, make.pack("II", 0x544C534B, 5) + b"keys\n" + bytes(3) + options((1, b"of keys"))
        )
        if not known_only:
            octets += make.block(0x777, b"unknown") + make.block(0x0BAD, make.pack("I", 32473) + b"custom")
        times = make.pack("II", 1, 2)
        octets += make.isb(
            options=options((1, b"of it"), (2, times), (4, make.pack("Q", 9)), (5, bytes(8)), *odd)
        )
        return octets + make.epb(b"last", ticks=SECOND * 10**9 + 9)

    def parts(out: Path) -> list[bytes]:
        with open_pcap(out) as reader:
            return [block.octets for block in reader.blocks()]

    expected = parts(merged(tmp_path, written(Maker("<"), True)))
    assert parts(merged(tmp_path, written(Maker(">"), False))) == expected
    assert len(expected) == 9


def test_tshark_finds_in_a_big_endian_file_merged_what_stood_in_it(tmp_path: Path) -> None:
    make = Maker(">")
    flags = make.option(1, b"noted") + make.option(2, make.pack("I", 1)) + make.option(4, make.pack("Q", 3))
    octets = make.shb() + make.idb(options=make.option(2, b"eth0") + make.option(9, b"\x09"))
    octets += make.epb(bytes(60), ticks=SECOND * 10**9 + 7, options=flags) + make.epb(
        bytes(61), ticks=SECOND * 10**9 + 9
    )
    (tmp_path / "big.pcapng").write_bytes(octets)
    out = merged(tmp_path, octets)
    names = "frame.time_epoch frame.len frame.comment frame.packet_flags frame.interface_name"
    command = [
        oracle("tshark"),
        "-n",
        "-T",
        "fields",
        *(word for name in names.split() for word in ("-e", name)),
    ]
    theirs, ours = (
        subprocess.run([*command, "-r", path], check=True, capture_output=True, text=True).stdout
        for path in (tmp_path / "big.pcapng", out)
    )
    assert ours == theirs
    assert "noted" in ours
