"""Chosen fields of the packets of a capture file, a row for each packet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rawkit.bulk.pick import Picker
from rawkit.errors import FieldError
from rawkit.pcap.reader import Reader
from rawkit.wire.frame import Frame

_OF_FRAME: dict[str, Callable[[int, Frame], Any]] = {
    "frame.number": lambda number, frame: number,
    "frame.time": lambda number, frame: frame.time_ns,
    "frame.len": lambda number, frame: frame.wire_len,
    "frame.cap_len": lambda number, frame: len(frame.data),
    "frame.interface": lambda number, frame: frame.interface,
    "frame.direction": lambda number, frame: frame.direction,
    "frame.comments": lambda number, frame: list(frame.comments),
    "frame.summary": lambda number, frame: frame.packet().summary(),
}
FRAME_FIELDS = tuple(_OF_FRAME)
"""What there is of the frame itself; times are nanoseconds since 1970."""


def rows(reader: Reader, names: Sequence[str]) -> Iterator[list[Any]]:
    """The fields of each packet, in the order of the names; None where a packet has no such field.

    A name is header.field, as "ip.src" or "TCP.dport", or one of FRAME_FIELDS; of several headers of a
    kind the outermost counts.

    Raises:
        FieldError: there is no such field, or it has no fixed length; at once.
    """
    picked = [name for name in names if name not in _OF_FRAME]
    if wrong := [name for name in picked if name.startswith("frame.")]:
        raise FieldError(f"field {wrong[0]!r}: of the frame there are {', '.join(_OF_FRAME)}")
    if picked:
        Picker(picked, reader.linktype if _known(reader.linktype) else 1)  # says what is wrong with them
    return _rows(reader, names, picked)


def _rows(reader: Reader, names: Sequence[str], picked: list[str]) -> Iterator[list[Any]]:
    pickers: dict[int, Picker | None] = {}
    places = {name: i for i, name in enumerate(picked)}
    for number, frame in enumerate(reader, 1):
        values: list[Any] = [None] * len(picked)
        if picked:
            if frame.linktype not in pickers:
                pickers[frame.linktype] = Picker(picked, frame.linktype) if _known(frame.linktype) else None
            picker = pickers[frame.linktype]
            if picker is not None:
                values = picker(frame.data)
        yield [
            _OF_FRAME[name](number, frame) if name in _OF_FRAME else values[places[name]] for name in names
        ]


def _known(linktype: int) -> bool:
    """Whether there is a header class for frames of this link type."""
    try:
        Picker([], linktype)
    except FieldError:
        return False
    return True
