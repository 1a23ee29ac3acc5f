"""Merged frames as the segments that a wire carries."""

from __future__ import annotations

from rawkit.engine import FrameBatch
from rawkit.engine.batch import CSUM_NOT_READY
from rawkit.errors import SplitError
from rawkit.wire import TCP, UDP, Frame
from rawkit.wire.segment import segment, segment_udp


def split_merged(batch: FrameBatch) -> FrameBatch:
    """The frames of a batch with each merged one replaced by its segments; the batch itself if there is none.

    Segments have lengths and checksums of their own and the time, interface and direction of the frame. What
    cannot be taken apart (no TCP or UDP over IP, cut by the snap length) stays as it is.
    """
    parts = {row: pieces for row in batch.merged() if len(pieces := _segments(batch, row)) > 1}
    if not parts:
        return batch
    rows = [(row, octets) for row in range(len(batch)) for octets in parts.get(row) or [batch[row]]]
    split = FrameBatch(len(rows), sum(len(octets) for _, octets in rows))
    split.linktype = batch.linktype
    split.extend([octets for _, octets in rows])
    for i, (row, octets) in enumerate(rows):
        record, offset = split.handle.frames[i], split.handle.frames[i].offset
        split.handle.frames[i] = batch.handle.frames[row]
        record.offset = offset
        if row in parts:
            record.cap_len = record.wire_len = len(octets)
            record.gso_len = 0
            record.flags &= ~CSUM_NOT_READY
    return split


def _segments(batch: FrameBatch, row: int) -> list[bytes]:
    record = batch.handle.frames[row]
    if record.wire_len > record.cap_len:
        return []
    packet = Frame(batch[row], linktype=batch.linktype).packet()
    try:
        if TCP in packet:
            pieces = segment(packet, record.gso_len)
        elif UDP in packet:
            pieces = segment_udp(packet, record.gso_len)
        else:
            return []
    except SplitError:
        return []
    return [bytes(piece) for piece in pieces]
