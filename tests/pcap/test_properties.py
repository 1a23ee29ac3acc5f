"""What holds for all files: what is written is read back, bad octets raise nothing but CaptureFileError."""

from __future__ import annotations

import contextlib
import io
import random
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rawkit.errors import CaptureFileError
from rawkit.pcap import PcapngWriter, PcapWriter, open_pcap
from rawkit.wire.frame import Frame

data = st.binary(max_size=300) | st.integers(0, 262_144).map(bytes)
frames = st.builds(
    Frame,
    data,
    st.integers(0, 2**63 - 1),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0, 1, 101, 113, 276, 65535]),
    st.sampled_from(["", "eth0", "naïve", "interface 0"]) | st.text(max_size=20),
    st.sampled_from(["", "in", "out"]),
    st.sampled_from(["", "valid", "not ready"]),
    st.just(0),
    st.lists(st.text(max_size=50), max_size=4).map(tuple),
)
plain_frames = st.builds(
    Frame, data, st.integers(0, 2**32 * 10**9 - 1), st.integers(0, 2**32 - 1), st.just(147)
)
slow_enough = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def read(octets: bytes) -> list[Frame]:
    with open_pcap(io.BytesIO(octets)) as reader:
        return list(reader)


@slow_enough
@given(st.lists(frames, max_size=10))
def test_pcapng_is_read_as_it_was_written(sent):
    out = io.BytesIO()
    with PcapngWriter(out) as writer:
        for frame in sent:
            writer.write(frame)
    assert read(out.getvalue()) == sent


@slow_enough
@given(st.lists(plain_frames, max_size=10), st.booleans())
def test_pcap_is_read_as_it_was_written(sent, nanoseconds):
    out = io.BytesIO()
    with PcapWriter(out, linktype=147, nanoseconds=nanoseconds) as writer:
        for frame in sent:
            writer.write(frame)
    unit = 1 if nanoseconds else 1000
    for frame in sent:
        frame.time_ns = frame.time_ns // unit * unit
    assert read(out.getvalue()) == sent


@slow_enough
@given(st.lists(frames, min_size=1, max_size=6))
def test_writing_what_was_read_gives_the_same_octets(sent):
    files = []
    for _ in range(2):
        out = io.BytesIO()
        with PcapngWriter(out) as writer:
            for frame in sent:
                writer.write(frame)
        files.append(out.getvalue())
        sent = read(files[-1])
    assert files[0] == files[1]


def whole_records(make, kind: str) -> tuple[bytes, dict[int, int]]:
    """A file, and how many packets it holds up to each place where it may end."""
    if kind == "pcap":
        file = make.pcap_header()
        ends = {len(file): 0}
        for n in range(6):
            file += make.record(bytes(7 * n))
            ends[len(file)] = n + 1
        return file, ends
    file = make.every_block()
    ends, at, packets = {}, 0, 0
    while at < len(file):
        block_kind, length = (
            int.from_bytes(file[i : i + 4], "little" if make.order == "<" else "big") for i in (at, at + 4)
        )
        at += length
        packets += block_kind in (2, 3, 6)
        ends[at] = packets
    return file, ends


@pytest.mark.parametrize("kind", ["pcap", "pcapng"])
def test_a_file_chopped_anywhere_gives_its_whole_packets(make_both, outcome, kind):
    file, ends = whole_records(make_both, kind)
    everything = outcome(file).frames
    assert len(everything) == max(ends.values())
    for keep in range(len(file)):
        result = outcome(file[:keep])
        packets = max((n for end, n in ends.items() if end <= keep), default=0)
        assert result.frames == everything[:packets]
        if keep in ends:
            assert result.error is None
        else:
            assert result.message
            assert result.error.offset == max((end for end in ends if end < keep), default=0)


@pytest.mark.parametrize("kind", ["pcap", "pcapng"])
def test_random_damage_raises_nothing_else_and_takes_no_time(make_both, kind):
    file, _ = whole_records(make_both, kind)
    rng = random.Random(20_241)
    odd = [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\x0c", b"\x0c\0\0\0", file[:8]]
    offsets: list[int] = []
    for _ in range(3000):
        octets = bytearray(file)
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(octets))
            match rng.randrange(4):
                case 0:
                    octets[at] ^= 1 << rng.randrange(8)
                case 1:
                    value = rng.choice(odd)
                    octets[at & ~3 : (at & ~3) + len(value)] = value
                case 2:
                    del octets[at : at + rng.randrange(1, 30)]
                case 3:
                    octets[at:at] = octets[rng.randrange(len(octets)) :][: rng.randrange(1, 60)]
        start = time.process_time()
        try:
            read(bytes(octets))
        except CaptureFileError as error:
            offsets.append(error.offset)
        assert time.process_time() - start < 1
    assert 500 < len(offsets) < 3000
    assert 0 <= min(offsets) <= max(offsets) <= 2 * len(file)


@given(st.binary(max_size=200))
def test_any_octets_after_a_header_read_or_raise_capture_file_error(make_both, octets):
    for head in (b"", make_both.pcap_header(), make_both.shb(), make_both.shb() + make_both.idb()):
        with contextlib.suppress(CaptureFileError):
            read(head + octets)


@given(body=st.binary(max_size=120), kind=st.sampled_from([1, 2, 3, 4, 5, 6, 10, 0xBAD, 0x0A0D0D0A]))
def test_any_body_in_a_well_framed_block_reads_or_raises_capture_file_error(make_both, body, kind):
    octets = make_both.shb() + make_both.idb() + make_both.block(kind, body) + make_both.epb(b"after")
    with contextlib.suppress(CaptureFileError):
        assert read(octets)[-1].data == b"after"
