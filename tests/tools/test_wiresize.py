"""Merged frames taken apart in a batch; the kernel's own are in tests/cli/test_capture_offloads.py."""

from __future__ import annotations

from rawkit.engine import FrameBatch
from rawkit.engine.batch import CSUM_NOT_READY, OUTGOING
from rawkit.tools.wiresize import split_merged
from rawkit.wire import TCP, UDP, Ether, IPv4, IPv6, Packet


def batch_of(*packets: Packet) -> FrameBatch:
    batch = FrameBatch(len(packets), sum(map(len, packets)))
    batch.extend([bytes(packet) for packet in packets])
    for i in range(len(packets)):
        record = batch.handle.frames[i]
        record.time_ns, record.ifindex, record.flags = 100 + i, 7 + i, OUTGOING | CSUM_NOT_READY
    return batch


def test_segments_stand_where_the_frame_stood() -> None:
    ip = Ether() / IPv4(src="192.0.2.1", dst="192.0.2.2", id=5)
    merged = ip / TCP(seq=1, flags="PA") / bytes(2500)
    datagrams = Ether() / IPv6(src="2001:db8::1", dst="2001:db8::2") / UDP() / bytes(1500)
    batch = batch_of(ip / UDP() / b"first", merged, datagrams, ip / UDP() / b"last")
    batch.handle.frames[1].gso_len = 1000
    batch.handle.frames[2].gso_len = 1000
    assert batch.merged() == [1, 2]
    split = split_merged(batch)
    packets = [Packet.parse(octets, strict=True) for octets in split]
    lens = [len(packet.payload) for packet in packets]
    assert lens == [5, 1000, 1000, 500, 1000, 500, 4]
    assert [packet[TCP].seq for packet in packets[1:4]] == [1, 1001, 2001]
    assert [packet[TCP].flag_letters() for packet in packets[1:4]] == [".", ".", "P."]
    assert all(verdict.state == "good" for packet in packets for verdict in packet.checksums())
    rows = [(row.time_ns, row.ifindex, row.flags & CSUM_NOT_READY, row.gso_len) for row in split.records()]
    assert rows == [(100, 7, 2, 0), *[(101, 8, 0, 0)] * 3, *[(102, 9, 0, 0)] * 2, (103, 10, 2, 0)]
    assert all(row.cap_len == row.wire_len and row.flags & OUTGOING for row in split.records())


def test_what_cannot_be_taken_apart_stays_as_it_is() -> None:
    ip = Ether() / IPv4(src="192.0.2.1", dst="192.0.2.2")
    batch = batch_of(ip / TCP(flags="S") / bytes(100), ip / TCP() / bytes(100), ip / bytes(100))
    for i in range(3):
        batch.handle.frames[i].gso_len = 50
    batch.handle.frames[1].wire_len = 5000  # cut by the snap length
    assert split_merged(batch) is batch
