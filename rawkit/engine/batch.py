"""Batches of frames: an arena of octets and one record per frame, filled and drained by C many at a time."""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from rawkit.engine.native import check, ffi, lib

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from rawkit.wire.frame import Frame

OUTGOING: int = lib.RK_FRAME_OUTGOING
CSUM_NOT_READY: int = lib.RK_FRAME_CSUM_NOT_READY
CSUM_VALID: int = lib.RK_FRAME_CSUM_VALID
VLAN: int = lib.RK_FRAME_VLAN
KERNEL_TIME: int = lib.RK_FRAME_KERNEL_TIME
HARDWARE_TIME: int = lib.RK_FRAME_HARDWARE_TIME
REBUILT_IP: int = lib.RK_FRAME_REBUILT_IP
NO_DIRECTION: int = lib.RK_FRAME_NO_DIRECTION
OPTIONS: int = lib.RK_FRAME_OPTIONS

# struct rk_frame: what FrameRecord shows; where the octets are; what a capture file says.
_RECORD = struct.Struct("=q4xIIIiHHHH4x")
_PLACE = struct.Struct("=8xII24x")
_PLAIN = struct.Struct("=qIIIIi12x")

# Fresh memory from the system is zero already; clearing it again would touch every page of the arena.
_allocate: Callable[..., Any] = ffi.new_allocator(should_clear_after_alloc=False)


class FrameRecord(NamedTuple):
    """What is known about one frame of a batch besides its octets.

    `time_ns` is nanoseconds since 1970, `cap_len` the octets there are and `wire_len` those there were;
    `flags` a sum of OUTGOING, CSUM_NOT_READY, CSUM_VALID, VLAN, KERNEL_TIME, HARDWARE_TIME, REBUILT_IP,
    NO_DIRECTION and OPTIONS;
    `ifindex` the interface's number; `vlan_tci` and `vlan_tpid` the outermost tag where flags has VLAN;
    `protocol` the EtherType; `gso_len` the payload octets per segment of a merged frame, else 0.
    """

    time_ns: int
    cap_len: int
    wire_len: int
    flags: int
    ifindex: int
    vlan_tci: int
    vlan_tpid: int
    protocol: int
    gso_len: int


class FrameBatch:
    """Room for `capacity` frames with `arena_len` octets between them.

    `batch[i]` is a copy of frame i's octets and always safe; `view(i)` is a window on the arena that
    closes when the batch is cleared or refilled.  One thread at a time may use a batch.  `linktype` is the
    LINKTYPE_ number of all its frames, as far as who filled it said so.
    """

    __slots__ = (
        "__weakref__",
        "_arena",
        "_frames",
        "_rows",
        "_views",
        "arena",
        "arena_len",
        "capacity",
        "handle",
        "linktype",
    )

    def __init__(self, capacity: int = 256, arena_len: int | None = None) -> None:
        """Room for `capacity` frames; `arena_len` (octets) is 2048 per frame unless given.

        Raises:
            ValueError: a size that is not positive or does not fit into 32 bits.
        """
        if arena_len is None:
            arena_len = capacity * 2048
        if not (0 < capacity < 2**31 and 0 < arena_len < 2**32):
            raise ValueError(
                f"a batch of {capacity} frames and {arena_len} octets: possible are 1..2^31-1 and 1..2^32-1"
            )
        self._adopt(_allocate("uint8_t[]", arena_len), arena_len, capacity)

    def _adopt(self, arena: Any, arena_len: int, capacity: int) -> None:
        self.capacity = capacity
        self.arena_len = arena_len
        self.linktype = 1
        self._arena = arena
        self._frames = _allocate("struct rk_frame[]", capacity)
        self.arena = ffi.buffer(arena, arena_len)
        """The octets of all frames, and what lies between them, as a writable buffer."""
        self._rows = ffi.buffer(self._frames)
        self._views: list[memoryview] = []
        self.handle = ffi.new(
            "struct rk_batch *",
            {"arena": self._arena, "frames": self._frames, "arena_len": arena_len, "capacity": capacity},
        )
        """The `struct rk_batch *` that C works on; valid as long as this object lives."""

    def __len__(self) -> int:
        n: int = self.handle.n
        return n

    def __repr__(self) -> str:
        used = f"{len(self)} of {self.capacity} frames, {self.handle.arena_used} of {self.arena_len} octets"
        return f"<FrameBatch: {used}>"

    def _place(self, i: int) -> tuple[int, int]:
        n = len(self)
        if i < 0:
            i += n
        if not 0 <= i < n:
            raise IndexError(f"frame {i} of a batch that holds {n}")
        offset, cap_len = _PLACE.unpack(self._rows[i * _PLACE.size : (i + 1) * _PLACE.size])
        return offset, offset + cap_len

    def __getitem__(self, i: int) -> bytes:
        start, end = self._place(i)
        octets: bytes = self.arena[start:end]
        return octets

    def __iter__(self) -> Iterator[bytes]:
        buffer = self.arena
        for offset, cap_len in _PLACE.iter_unpack(self._rows[: len(self) * _PLACE.size]):
            yield buffer[offset : offset + cap_len]

    def view(self, i: int) -> memoryview:
        """Frame i's octets in place; using the view after the batch was refilled or cleared raises."""
        start, end = self._place(i)
        with memoryview(self.arena) as whole:
            view = whole[start:end]
        self._views.append(view)
        return view

    def records(self) -> list[FrameRecord]:
        """One record for each frame, in order."""
        return list(map(FrameRecord._make, _RECORD.iter_unpack(self._rows[: len(self) * _RECORD.size])))

    def places(self) -> Iterator[tuple[int, int, int, int, int, int]]:
        """For each frame time_ns, where its octets are in `arena`, cap_len, wire_len, flags, ifindex."""
        return _PLAIN.iter_unpack(self._rows[: len(self) * _PLAIN.size])

    def odd(self, first: int, n: int, least: int, most: int) -> int:
        """The first of rows [first, first + n) that the capture cut, or whose length is not least..most.

        first + n where there is none. Raises EngineError (EINVAL) for rows that are not there.
        """
        return check(lib.rk_batch_odd(self.handle, first, n, least, most), "look at frames")

    def octets(self, first: int, n: int) -> int:
        """How many octets rows [first, first + n) have.  Raises EngineError (EINVAL), as `odd`."""
        return check(lib.rk_batch_octets(self.handle, first, n), "count octets")

    def merged(self) -> list[int]:
        """The rows whose frames were merged from segments, or not yet cut into them."""
        with memoryview(self._rows) as rows:
            lens = rows[: len(self) * _PLACE.size].cast("H")[17 :: _PLACE.size // 2].tolist()
        return [row for row, gso_len in enumerate(lens) if gso_len] if any(lens) else []

    def ifindexes(self) -> set[int]:
        """The numbers of the interfaces that its frames came from."""
        with memoryview(self._rows) as rows:
            return set(rows[: len(self) * _PLACE.size].cast("i")[6 :: _PLACE.size // 4].tolist())

    def refill(self) -> Any:
        """Close all views and return the handle for C to fill.

        Raises:
            BufferError: something else still looks through one of the views. An array that NumPy makes of a
                view is not noticed: it sees what comes next.
        """
        views = self._views
        while views:
            views[-1].release()
            views.pop()
        return self.handle

    def clear(self) -> None:
        """Empty the batch and close all views."""
        handle = self.refill()
        handle.n = 0
        handle.arena_used = 0

    def append(self, octets: ReadableBuffer, time_ns: int = 0) -> None:
        """Add one frame.  Raises EngineError (ENOSPC) when it does not fit."""
        data = ffi.from_buffer(octets)
        self._append(data, len(data), ffi.new("uint32_t *", len(data)), 1, time_ns)

    def extend(self, frames: Iterable[bytes], time_ns: int = 0) -> None:
        """Add frames, all or none.  Raises EngineError (ENOSPC) when they do not fit."""
        frames = list(frames)
        octets = b"".join(frames)
        self._append(octets, len(octets), list(map(len, frames)), len(frames), time_ns)

    def _append(self, octets: Any, octets_len: int, lens: Any, n: int, time_ns: int) -> None:
        result = lib.rk_batch_append(self.handle, octets, octets_len, lens, n, time_ns)
        if result < 0:
            check(
                result,
                f"add {n} frame{'s' if n != 1 else ''} of {octets_len} octets to a batch",
                hint=f"{len(self)} of {self.capacity} frames and "
                f"{self.handle.arena_used} of {self.arena_len} octets are in use",
            )

    def within(self, from_ns: int, until_ns: int, wanted: bytearray) -> int:
        """Set the octet in `wanted` to 0 for each frame whose time is not in [from_ns, until_ns).

        Gives how many are not 0 then.
        """
        if len(wanted) < len(self):
            raise ValueError(f"{len(wanted)} octets for {len(self)} frames")
        n: int = lib.rk_batch_within(self.handle, from_ns, until_ns, ffi.from_buffer("uint8_t[]", wanted))
        return n

    def keep(self, wanted: Sequence[int]) -> int:
        """Drop the frames whose entry in `wanted` is 0, and return how many stay, in the order they had."""
        handle = self.refill()
        frames = handle.frames
        kept = 0
        for i, want in zip(range(handle.n), wanted):
            if want:
                if kept != i:
                    frames[kept] = frames[i]
                kept += 1
        handle.n = kept
        return kept

    def frames(
        self, linktype: int | None = None, interface_names: Mapping[int, str] | None = None
    ) -> list[Frame]:
        """Each frame as a `Frame` of its own (copies).

        `linktype` is the LINKTYPE_ number that holds for all of them (None: the batch's); `interface_names`
        turns interface numbers into names (a name that is missing becomes "").
        """
        names = interface_names if interface_names is not None else {}
        number = self.linktype if linktype is None else linktype
        return list(make_frames(self, lambda ifindex: (names.get(ifindex, ""), number)))


def make_frames(batch: FrameBatch, origin: Callable[[int], tuple[str, int]]) -> Iterator[Frame]:
    """The frames of a batch as `Frame`; `origin` gives name and LINKTYPE_ number for an interface's number.

    All octets are copied before the first frame is yielded: the batch may be refilled meanwhile.
    """
    from rawkit.wire.frame import Frame  # brings all headers along; who only moves octets needs none

    rows = zip(list(batch), batch.records())
    for octets, (time_ns, _, wire_len, flags, ifindex, _, _, _, gso_len) in rows:
        name, linktype = origin(ifindex)
        direction, checksum = flag_words(flags, ifindex != 0)
        yield Frame(octets, time_ns, wire_len, linktype, name, direction, checksum, gso_len)


@functools.cache  # a handful of values
def flag_words(flags: int, from_interface: bool) -> tuple[str, str]:
    """What a record's flags say of direction and checksum, in the words of `Frame`."""
    direction = "out" if flags & OUTGOING else "in" if from_interface and not flags & NO_DIRECTION else ""
    return direction, "not ready" if flags & CSUM_NOT_READY else "valid" if flags & CSUM_VALID else ""
