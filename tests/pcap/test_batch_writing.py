"""Batches into files: the same octets as frame by frame, and the same care when something fails."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rawkit.engine import FrameBatch
from rawkit.engine.batch import CSUM_NOT_READY, CSUM_VALID, NO_DIRECTION, OUTGOING
from rawkit.errors import FieldError
from rawkit.pcap import PcapngWriter, PcapWriter
from rawkit.pcap.sink import BUFFER_LEN

NAMES = {2: "eth0", 3: "wlan0", 7: "eth0"}
rows = st.tuples(
    st.binary(max_size=80) | st.integers(0, 3000).map(bytes),
    st.integers(0, 2**32 * 10**9 - 1),
    st.integers(0, 2**32 - 1),
    st.sampled_from(
        [0, OUTGOING, NO_DIRECTION, CSUM_NOT_READY, CSUM_VALID | OUTGOING, CSUM_NOT_READY | OUTGOING]
    ),
    st.sampled_from([0, 2, 3, 7, 9]),
    st.sampled_from([0, 0, 1448]),
)


def batch_of(frames) -> FrameBatch:
    batch = FrameBatch(max(len(frames), 1), max(sum(len(row[0]) for row in frames), 1))
    batch.extend([row[0] for row in frames])
    for i, (_, time_ns, wire_len, flags, ifindex, gso_len) in enumerate(frames):
        record = batch.handle.frames[i]
        record.time_ns, record.wire_len, record.flags = time_ns, wire_len, flags
        record.ifindex, record.gso_len = ifindex, gso_len
    return batch


@settings(deadline=None)
@given(
    st.lists(rows, max_size=20),
    st.sampled_from([0, 1, 60, 262_144]),
    st.booleans(),
    st.integers(0, 20),
    st.integers(0, 20),
)
def test_the_same_octets_as_frame_by_frame(frames, snaplen, option, first, n):
    batch = batch_of(frames)
    first = min(first, len(frames))
    n = min(n, len(frames) - first)
    for kind, extra in (
        (PcapWriter, {"nanoseconds": option, "linktype": 101}),
        (PcapngWriter, {"notes": option}),
    ):
        by_frame, by_batch = io.BytesIO(), io.BytesIO()
        with kind(by_frame, snaplen=snaplen, **extra) as writer:
            for frame in batch.frames(101, NAMES)[first : first + n]:
                writer.write(frame)
        with kind(by_batch, snaplen=snaplen, **extra) as writer:
            writer.write_batch(batch, first, n // 2, linktype=101, interface_names=NAMES)
            writer.write_batch(batch, first + n // 2, n - n // 2, linktype=101, interface_names=dict(NAMES))
            assert writer.packets == n
        assert by_batch.getvalue() == by_frame.getvalue()


@pytest.mark.parametrize("kind", [PcapWriter, PcapngWriter])
def test_batches_larger_than_the_buffer(kind):
    batch = batch_of([(bytes([i % 256]) * (i * 37 % 3000), i, 9, 0, 1, 0) for i in range(2000)])
    assert batch.handle.arena_used > 2 * BUFFER_LEN
    by_frame, by_batch = io.BytesIO(), io.BytesIO()
    with kind(by_frame) as one, kind(by_batch) as all_at_once:
        for frame in batch.frames():
            one.write(frame)
        all_at_once.write_batch(batch)
        all_at_once.write_batch(batch, 3, 0)
    assert by_batch.getvalue() == by_frame.getvalue()


def test_names_and_link_types_are_those_of_the_call():
    """The same number may be another interface in a batch from elsewhere."""
    batch = batch_of([(b"a", 1, 1, 0, 5, 0)])
    out = io.BytesIO()
    with PcapngWriter(out) as writer:
        writer.write_batch(batch, interface_names={5: "veth0"})
        writer.write_batch(batch, interface_names={5: "veth1"})
        writer.write_batch(batch, interface_names={5: "veth1"}, linktype=101)
        batch.linktype = 113
        writer.write_batch(batch)
        writer.write_batch(batch, interface_names={5: "veth0"}, linktype=1)
    from rawkit.pcap import open_pcap

    with open_pcap(io.BytesIO(out.getvalue())) as reader:
        assert [(f.interface, f.linktype) for f in reader] == [
            ("veth0", 1),
            ("veth1", 1),
            ("veth1", 101),
            ("", 113),
            ("veth0", 1),
        ]
        assert len(reader.interfaces) == 4


@pytest.mark.parametrize(
    ("kind", "time_ns", "length", "message"),
    [
        (PcapWriter, 2**32 * 10**9, 1, "after the year 2106"),
        (PcapWriter, -1, 1, "outside the years 1970 to 2262"),
        (PcapngWriter, -1, 1, "outside the years 1970 to 2262"),
        (PcapngWriter, 0, 262_145, "frame of 262145 octets"),
    ],
)
def test_what_no_file_holds_is_refused_after_what_came_before_it(kind, time_ns, length, message):
    batch = batch_of([(b"a", 1, 1, 0, 0, 0), (bytes(length), time_ns, 1, 0, 0, 0), (b"b", 2, 1, 0, 0, 0)])
    with kind(io.BytesIO()) as writer:
        with pytest.raises(FieldError, match=message):
            writer.write_batch(batch)
        assert writer.packets == 1
        writer.write_batch(batch, 2)
        assert writer.packets == 2


def test_ranges_and_link_types_that_do_not_fit():
    batch = batch_of([(b"a", 1, 1, 0, 0, 0)])
    with PcapWriter(io.BytesIO()) as writer:
        for first, n in ((-1, 1), (0, 2), (2, None), (0, -1)):
            with pytest.raises(ValueError, match="of a batch that holds 1"):
                writer.write_batch(batch, first, n)
        with pytest.raises(FieldError, match="one link type, here 1, and the frame has 101"):
            writer.write_batch(batch, linktype=101)
        assert writer.packets == 0
    with pytest.raises(ValueError, match="writer is closed"):
        writer.write_batch(batch)
