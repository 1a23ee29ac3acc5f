"""Repair: at whatever octet a file is cut or damaged, what remains is read by others, and little is lost."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import pytest
from capfiles import Maker
from oracles import oracle

from rawkit.errors import CaptureFileError
from rawkit.pcap import open_pcap
from rawkit.pcap.repair import Repaired, repair_pcap

# Frames of lengths that differ, and no two alike.
DATA = [bytes([n]) * (20 + 3 * n) for n in range(1, 7)]
SECOND = 1_700_000_000


def whole_file(make: Maker, kind: str) -> bytes:
    if kind == "pcap":
        records = [make.record(data, SECOND + n, 1000 * n) for n, data in enumerate(DATA)]
        return make.pcap_header() + b"".join(records)
    flags = make.option(2, make.pack("I", 1)) + make.option(1, b"comment") + make.option(0, b"")
    packets = [
        make.epb(data, ticks=(SECOND + n) * 10**6, options=flags if n % 3 == 0 else b"")
        for n, data in enumerate(DATA)
    ]
    packets.insert(4, make.block(4, make.pack("HH", 0, 0)))
    interface = make.idb(options=make.option(2, b"eth0") + make.option(9, b"\6") + make.option(0, b""))
    return make.shb(make.option(4, b"maker")) + interface + b"".join(packets) + make.isb()


def repaired(octets: bytes) -> tuple[Repaired, bytes]:
    out = io.BytesIO()
    return repair_pcap(io.BytesIO(octets), out), out.getvalue()


def data_of(octets: bytes) -> list[bytes]:
    """By the strict reader, which raises where something is wrong."""
    with open_pcap(io.BytesIO(octets)) as reader:
        return [frame.data for frame in reader]


KINDS = pytest.mark.parametrize("kind", ["pcap", "pcapng"])


@KINDS
def test_a_whole_file_stays_as_it_is(make_both: Maker, kind: str) -> None:
    octets = whole_file(make_both, kind)
    done, out = repaired(octets)
    assert out == octets
    assert done == Repaired(len(DATA), ())


def test_every_kind_of_block_stays(make_both: Maker) -> None:
    octets = make_both.every_block()
    assert repaired(octets)[1] == octets


@KINDS
def test_a_file_cut_anywhere_keeps_all_that_is_there(make_both: Maker, kind: str) -> None:
    whole = whole_file(make_both, kind)
    starts = [whole.index(data) for data in DATA]
    first = 24 if kind == "pcap" else starts[0] - 28
    for cut in range(first, len(whole)):
        there = [data[: max(cut - start, 0)] for data, start in zip(DATA, starts)]
        there = [data for data in there if data]
        if not there:
            continue
        done, out = repaired(whole[:cut])
        assert data_of(out) == there, cut
        assert done.packets == len(there)


@KINDS
@pytest.mark.parametrize("damage", [0xFF, 0x01, 0x80, None], ids=["inverted", "low bit", "high bit", "zero"])
def test_a_file_damaged_anywhere_loses_two_packets_at_most(
    make_both: Maker, kind: str, damage: int | None
) -> None:
    whole = whole_file(make_both, kind)
    for at in range(len(whole)):
        octets = bytearray(whole)
        octets[at] = 0 if damage is None else octets[at] ^ damage
        if octets == whole:
            continue
        _, out = repaired(bytes(octets))
        found = data_of(out)
        lost = [data for data in DATA if data not in found]
        assert len(lost) <= 2, (at, [len(data) for data in lost])
        others = [data for data in found if data not in DATA]
        assert len(others) <= 1, (at, [data.hex() for data in others])


@KINDS
def test_octets_missing_or_added_anywhere(make_both: Maker, kind: str) -> None:
    whole = whole_file(make_both, kind)
    for at in range(0, len(whole) - 8, 3):
        for octets in (whole[:at] + whole[at + 5 :], whole[:at] + b"\xee" * 9 + whole[at:]):
            _, out = repaired(octets)
            found = data_of(out)
            assert len([data for data in DATA if data not in found]) <= 2, at


@KINDS
def test_what_was_lost_is_told(make: Maker, kind: str) -> None:
    whole = whole_file(make, kind)
    at = whole.index(DATA[3]) - (16 if kind == "pcap" else 28)
    garbage = b"\xa5" * 5000
    done, out = repaired(whole[:at] + garbage + whole[at:])
    assert data_of(out) == DATA
    (loss,) = done.losses
    assert (loss.offset, loss.octets) == (at, len(garbage))
    assert done.lost_octets == len(garbage)


def test_a_length_that_is_wrong_is_known_from_the_other(make_both: Maker) -> None:
    whole = whole_file(make_both, "pcap")
    at = whole.index(DATA[2]) - 8
    octets = whole[:at] + make_both.pack("I", len(DATA[2]) + 60) + whole[at + 4 :]
    done, out = repaired(octets)
    assert out == whole
    assert "the length on the wire is right" in done.losses[0].reason


def test_times_that_leap_and_odd_lengths_are_no_damage(make: Maker) -> None:
    """A clock that was set, and packets longer than they were."""
    octets = make.pcap_header() + b"".join(
        make.record(data, second, wire_len=wire)
        for data, second, wire in (
            (DATA[0], 5, 23),
            (DATA[1], SECOND, 26),
            (DATA[2], SECOND, 10),
            (DATA[3], SECOND + 1, 0),
            (DATA[4], 7, 35),
        )
    )
    assert repaired(octets) == (Repaired(5, ()), octets)


def test_an_interface_that_is_gone_is_assumed(make_both: Maker) -> None:
    make = make_both
    octets = (
        make.shb() + make.epb(DATA[0], ticks=SECOND * 10**9) + make.epb(DATA[1], ticks=SECOND * 10**9 + 5)
    )
    done, out = repaired(octets)
    assert data_of(out) == DATA[:2]
    assert "Ethernet is assumed" in done.losses[0].reason
    with open_pcap(io.BytesIO(out)) as reader:
        assert [frame.time_ns for frame in reader] == [SECOND * 10**9, SECOND * 10**9 + 5]


def test_damage_longer_than_the_window(make: Maker) -> None:
    octets = make.pcap_header() + make.record(DATA[0], SECOND) * 3 + b"\xff" * (5 << 20)
    done, out = repaired(octets + make.record(DATA[1], SECOND) * 3)
    assert data_of(out) == [DATA[0]] * 3 + [DATA[1]] * 3
    assert done.lost_octets == 5 << 20


def test_nothing_is_made_of_nothing() -> None:
    for octets in (b"", b"no capture file at all, " * 20, bytes(5000)):
        with pytest.raises(CaptureFileError, match="nothing here looks like packets"):
            repaired(octets)


@pytest.mark.slow
@KINDS
def test_wireshark_reads_what_was_repaired(make_both: Maker, kind: str, tmp_path: Path) -> None:
    """Cut and damaged at every offset; capinfos goes through many files at once."""
    whole = whole_file(make_both, kind)
    files = []
    for at in range(24 if kind == "pcap" else 100, len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 0xFF
        for name, octets in (("cut", whole[:at]), ("damaged", bytes(damaged))):
            path = tmp_path / f"{name}-{at}.{kind}"
            try:
                repair_pcap(io.BytesIO(octets), path)
            except CaptureFileError:
                continue
            files.append(path)
    assert len(files) > 500
    for first in range(0, len(files), 500):
        command = [oracle("capinfos"), "-c", "-T", "-r", "-m", *map(str, files[first : first + 500])]
        done = subprocess.run(command, capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
