"""Header fields of many frames as NumPy arrays, found by the C engine."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from types import ModuleType
from typing import TYPE_CHECKING, Any

from rawkit.bulk.arrow import record_batch, record_stream
from rawkit.bulk.table import HeaderTable, part_of
from rawkit.engine.batch import FrameBatch
from rawkit.engine.dissect import ColumnTarget, frame_rows
from rawkit.errors import FieldError
from rawkit.pcap.reader import Reader, open_pcap
from rawkit.wire.expression import ALIASES, header_classes
from rawkit.wire.field import Address, UInt
from rawkit.wire.frame import Frame
from rawkit.wire.header import Header
from rawkit.wire.layout import FieldInfo
from rawkit.wire.registry import load_all

if TYPE_CHECKING:
    import numpy as np

# Frames that do not come in a batch are gathered into batches of so many, or of so many octets.
_BATCH_FRAMES = 8192
_BATCH_LEN = 4 << 20

# struct rk_frame in csrc/rk.h
_FRAME_DTYPE = {
    "names": ["time_ns", "cap_len", "wire_len"],
    "formats": ["i8", "u4", "u4"],
    "offsets": [0, 12, 16],
    "itemsize": 40,
}
_OF_FRAME = {"frame.time": "time_ns", "frame.len": "wire_len", "frame.cap_len": "cap_len"}


@dataclass(frozen=True, eq=False)
class Columns:
    """Fields of n frames, in their order, by the names that were asked for.

    `arrays[name]` has n rows (or n x octets, see `columns`), 0 where the frame has no such field;
    `present[name]` is n booleans that say where it has. `columns[name]` puts both into a masked array.

    Whatever reads Arrow's PyCapsule interface takes these as a table: `polars.DataFrame(columns)`,
    `pyarrow.table(columns)`; absent fields are null there (see `rawkit.bulk.arrow`).
    """

    arrays: dict[str, np.ndarray[Any, Any]]
    present: dict[str, np.ndarray[Any, np.dtype[np.bool_]]]
    frames_n: int

    def __len__(self) -> int:
        """How many frames there were."""
        return self.frames_n

    def mask(self, name: str) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """n booleans, True where the frame has no such field: the mask of a NumPy masked array."""
        return ~self.present[name]

    def __getitem__(self, name: str) -> np.ma.MaskedArray[Any, Any]:
        """The column with the frames that lack the field masked out."""
        import numpy as np

        values, mask = self.arrays[name], self.mask(name)
        if values.ndim > 1:
            mask = np.broadcast_to(mask[:, None], values.shape)
        return np.ma.MaskedArray(values, mask)

    def __arrow_c_array__(self, requested_schema: object = None) -> tuple[object, object]:
        return record_batch(self).__arrow_c_array__(requested_schema)  # type: ignore[no-any-return]

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return record_stream(self).__arrow_c_stream__(requested_schema)


@dataclass(frozen=True)
class _Field:
    """A header field as a column."""

    name: str
    owner: type[Header]
    info: FieldInfo
    item_len: int
    octets_n: int
    part: int


def columns(
    source: FrameBatch | str | os.PathLike[str] | Iterable[FrameBatch | Frame | bytes],
    names: Sequence[str],
    linktype: int | None = None,
) -> Columns:
    """Header fields of all frames of a source, as arrays.

    `source` is a FrameBatch, a capture file's path, or something that yields batches, frames (an open capture
    file, `capture()`) or octets. Each batch is read before the next is asked for, so it may be refilled.
    `linktype` is the LINKTYPE_ number of octets (None: 1, Ethernet) and of batches (None: as each says);
    frames have their own. Each call takes a
    millisecond to look at all header classes: many small batches are better given in one call.

    A name is a header's and a field's, joined by a dot: `tcp.dport`. Headers are called by their class in
    lower case or by the short names that expressions know (`eth`, `ip`, `ip6`, `icmp6`, `vlan`); those of
    one's own likewise. A header stands for its subclasses too (`icmp.type`). Where several have
    the field, the outermost counts. Of the frame itself there are `frame.time` (nanoseconds since 1970,
    int64), `frame.len` (octets on the wire, uint32) and `frame.cap_len` (those captured, uint32).

    Integers, flags, IPv4 and MAC addresses become unsigned integers of the fewest octets that hold them, in
    the machine's byte order: an IPv4 address is a uint32 (10.0.0.1 is 0x0A000001), a MAC address a uint64.
    IPv6 addresses and fields of octets become rows of uint8, shape (n, 16) for an address.

    Headers are found as by `Packet.parse`, but only from what classes declare: behind a class that overrides
    `upper_class` nothing is found.

    Raises:
        FieldError: no such header or field, or a field without a fixed length (options).
        CaptureFileError: the file is damaged.
        ImportError: NumPy is not installed.
    """
    np = _numpy()
    if isinstance(names, str):
        raise TypeError(f"names: need a list such as [{names!r}], got a string")
    of_frame = {name: _OF_FRAME[name] for name in names if name in _OF_FRAME}
    load_all()
    classes = header_classes()
    fields = [find_field(name, classes) for name in dict.fromkeys(names) if name not in of_frame]
    growing = _Growing(np, fields, of_frame)
    for batch, batch_linktype in _batches(np, source, linktype):
        growing.add(batch, batch_linktype)
    return growing.columns()


def _numpy() -> ModuleType:
    try:
        import numpy
    except ModuleNotFoundError as error:
        if error.name != "numpy":
            raise
        raise ImportError("columns need NumPy: pip install 'rawkit[arrays]'", name="numpy") from None
    return numpy


def find_field(name: str, classes: dict[str, type[Header]]) -> _Field:
    """The field that a name means, and the shape of its column."""
    header, dot, field = name.lower().partition(".")
    owner = classes.get(ALIASES.get(header, header))
    if not dot:
        raise FieldError(f"{name!r} is no column: need a header and a field, such as tcp.dport")
    if owner is None:
        if header == "frame":
            raise FieldError(f"no column {name!r}; of frames there are {', '.join(_OF_FRAME)}")
        raise FieldError(
            f"no header {header!r} for the column {name!r}{_close(header, [*classes, *ALIASES])}"
        )
    info = next((row for row in owner.fields if row.name.lower() == field), None)
    if info is None:
        known = [row.name for row in owner.fields]
        raise FieldError(
            f"{owner.__name__} has no field {field!r}{_close(field, known)}; it has {', '.join(known)}"
        )
    if info.width == 0:
        raise FieldError(
            f"{name}: its length differs from header to header; columns have fields of fixed length"
        )
    part = part_of(owner, info)
    if isinstance(info.kind, (UInt, Address)) and info.width <= 64:
        return _Field(name, owner, info, next(n for n in (1, 2, 4, 8) if info.width <= n * 8), 0, part)
    if info.width % 8 or info.offset % 8:
        raise FieldError(
            f"{name}: {info.width} bits at bit {info.offset} are neither octets nor an integer of 64"
        )
    return _Field(name, owner, info, 0, info.width // 8, part)


def _close(wrong: str, known: list[str]) -> str:
    close = get_close_matches(wrong, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


class _Growing:
    """Columns that batches are added to.

    The arrays grow in place, a quarter at a time: a large file's columns are never there twice.
    """

    def __init__(self, np: ModuleType, fields: Sequence[_Field], of_frame: dict[str, str]) -> None:
        self._np = np
        self._fields = fields
        self._of_frame = of_frame
        self._table = HeaderTable([(field.owner, field.info) for field in fields])
        self._n = self._room = 0
        self._arrays: dict[str, Any] = {
            field.name: np.zeros((0, field.octets_n) if field.octets_n else 0, f"u{field.item_len or 1}")
            for field in fields
        }
        dtype = np.dtype(_FRAME_DTYPE)
        self._arrays |= {name: np.zeros(0, dtype[key]) for name, key in of_frame.items()}
        self._present = {name: np.zeros(0, np.bool_) for name in self._arrays}

    def add(self, batch: FrameBatch, linktype: int) -> None:
        """Append a row for each frame of the batch."""
        start, end = self._n, self._n + len(batch)
        if end > self._room:
            # What comes in one batch gets no more than it needs.
            self._resize(max(end, self._room + self._room // 4))
        first = self._table.first_row(linktype)
        if first is not None and self._fields:
            self._table.dissector.extract(batch, first, list(map(self._target, self._fields)), start)
        if self._of_frame:
            rows = self._np.frombuffer(frame_rows(batch), self._np.dtype(_FRAME_DTYPE))
            for name, key in self._of_frame.items():
                self._arrays[name][start:end] = rows[key]
                self._present[name][start:end] = True
        self._n = end

    def columns(self) -> Columns:
        """What was added; nothing may be added any more."""
        self._resize(self._n)
        return Columns(self._arrays, self._present, self._n)

    def _target(self, field: _Field) -> ColumnTarget:
        return ColumnTarget(
            self._arrays[field.name],
            self._present[field.name],
            at=0 if field.part else field.info.offset,
            width=field.info.width,
            item_len=field.item_len,
            octets_n=field.octets_n,
            part=field.part,
        )

    def _resize(self, room: int) -> None:
        for array in (*self._arrays.values(), *self._present.values()):
            # Nobody else has seen them yet, which NumPy cannot know.
            array.resize((room, *array.shape[1:]), refcheck=False)
        self._room = room


def _batches(np: ModuleType, source: Any, linktype: int | None) -> Iterator[tuple[FrameBatch, int]]:
    """The source in batches, each with its LINKTYPE_ number."""
    if isinstance(source, FrameBatch):
        yield source, source.linktype if linktype is None else linktype
        return
    if isinstance(source, (str, os.PathLike)):
        with open_pcap(source) as reader:
            yield from _batches(np, reader, linktype)
        return
    if isinstance(source, Reader):
        for batch in source.batches():
            yield batch, batch.linktype
        return
    if isinstance(source, (bytes, bytearray, memoryview)):
        raise TypeError("source: the octets of one frame; put them into a list")
    pending: list[Frame] = []
    octets_n = 0
    for item in source:
        if isinstance(item, FrameBatch):
            if pending:
                yield _gathered(np, pending)
                pending, octets_n = [], 0
            yield item, item.linktype if linktype is None else linktype
            continue
        frame = (
            item
            if isinstance(item, Frame)
            else Frame(bytes(memoryview(item)), linktype=1 if linktype is None else linktype)
        )
        full = len(pending) == _BATCH_FRAMES or octets_n + len(frame.data) > _BATCH_LEN
        if pending and (full or pending[0].linktype != frame.linktype):
            yield _gathered(np, pending)
            pending, octets_n = [], 0
        pending.append(frame)
        octets_n += len(frame.data)
    if pending:
        yield _gathered(np, pending)


def _gathered(np: ModuleType, frames: list[Frame]) -> tuple[FrameBatch, int]:
    """A batch of frames that have their linktype in common."""
    batch = FrameBatch(len(frames), max(sum(len(frame.data) for frame in frames), 1))
    batch.extend([frame.data for frame in frames])
    rows = np.frombuffer(frame_rows(batch), np.dtype(_FRAME_DTYPE))
    rows["time_ns"] = [frame.time_ns for frame in frames]
    rows["wire_len"] = [frame.wire_len for frame in frames]
    return batch, frames[0].linktype
