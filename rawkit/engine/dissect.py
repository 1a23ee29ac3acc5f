"""Walking the headers of frames in C by a table of header classes: where layers are, columns of fields."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from rawkit.engine.native import check, ffi, lib

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

    from rawkit.engine.batch import FrameBatch

MAX_LAYERS: int = lib.RK_MAX_LAYERS
MAX_SELECTORS: int = lib.RK_SELECTORS
END_HEADER: int = lib.RK_END_HEADER
END_TOTAL: int = lib.RK_END_TOTAL
END_PAYLOAD: int = lib.RK_END_PAYLOAD
END_8023: int = lib.RK_END_8023
LENGTHS: int = lib.RK_LENGTHS

# Frames done in one call, so that Python's signal handlers run in between: some 30 ms of work.
_SLICE_N = 1 << 18


class LayerPlace(NamedTuple):
    """One header of a frame: its row in the table, and offsets in octets from the frame's start.

    The header is [offset, header_end), its payload [header_end, end).
    """

    row: int
    offset: int
    header_end: int
    end: int


@dataclass(frozen=True)
class ColumnTarget:
    """Where a field goes: a buffer of values and one octet a row that becomes 1 where there is a value.

    `at` and `width` are the field's, in bits from its header's start. A row of `values` is an unsigned
    integer of `item_len` octets (1, 2, 4 or 8) in the machine's byte order or, where `octets_n` is not 0, so
    many octets as they stand. Rows whose octet in `present` is not 0 are passed over. `part` is 0, or
    1 + which of the header's parts `at` is counted from.
    """

    values: WriteableBuffer
    present: WriteableBuffer
    at: int
    width: int
    item_len: int = 0
    octets_n: int = 0
    part: int = 0


@dataclass(frozen=True)
class PickedField:
    """A field as in `ColumnTarget`, of at most 64 bits or of `octets_n` octets."""

    at: int
    width: int
    octets_n: int = 0
    part: int = 0


class Dissector:
    """A table of headers as C reads it (`struct rk_dissector` in csrc/rk.h, whose names are used here).

    `headers` are rows of struct rk_header, `numbers` pairs of a number and the row it stands for, `parts`
    rows of struct rk_part, `wanted` numbers of columns.
    """

    def __init__(
        self,
        headers: Sequence[Mapping[str, Any]],
        numbers: Sequence[tuple[int, int]] = (),
        wanted: Sequence[int] = (),
        parts: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Raises OverflowError for a value that its place in the table cannot hold."""
        # The struct only points to these.
        self._kept = {
            "headers": ffi.new("struct rk_header[]", list(headers)),
            "numbers": ffi.new("struct rk_number[]", list(numbers)),
            "parts": ffi.new("struct rk_part[]", list(parts)),
            "wanted": ffi.new("uint32_t[]", list(wanted)),
        }
        sizes = {f"{name}_n": len(rows) for name, rows in self._kept.items()}
        self._table = ffi.new("struct rk_dissector *", {**self._kept, **sizes})

    def walk(self, octets: ReadableBuffer, first: int) -> list[LayerPlace]:
        """The headers of a frame that starts with row `first`, outermost first; damage ends the list.

        Raises EngineError (EINVAL) for a table whose rows point outside it.
        """
        layers = ffi.new("struct rk_layer[]", MAX_LAYERS)
        data = ffi.from_buffer("uint8_t[]", octets)
        n = check(lib.rk_dissect(self._table, first, data, len(data), layers, MAX_LAYERS), "find headers")
        return [LayerPlace(row.header, row.offset, row.header_end, row.end) for row in layers[0:n]]

    def extract(self, batch: FrameBatch, first: int, columns: Sequence[ColumnTarget], row: int = 0) -> None:
        """Fill row `row` + i of each column from frame i of the batch; every frame starts with row `first`.

        Raises:
            ValueError: a column with fewer rows than that.
            EngineError: (EINVAL) a table whose rows point outside it, or a column of no known shape.
        """
        rows_n = row + len(batch)
        rows = []
        for column in columns:
            values = ffi.from_buffer("uint8_t[]", column.values, require_writable=True)
            present = ffi.from_buffer("uint8_t[]", column.present, require_writable=True)
            if len(values) < rows_n * (column.octets_n or column.item_len) or len(present) < rows_n:
                raise ValueError(f"a column of fewer than the {rows_n} rows that are to be filled")
            field = (column.at, column.width)
            rows.append((values, present, field, column.item_len, column.octets_n, column.part))
        targets = ffi.new("struct rk_column[]", rows)
        for start in range(0, len(batch), _SLICE_N):
            n = min(_SLICE_N, len(batch) - start)
            result = lib.rk_extract(
                self._table, first, batch.handle, start, n, targets, len(columns), row + start
            )
            check(result, "extract columns")

    def count_chains(self, batch: FrameBatch, first: int, chains: Chains) -> None:
        """Add the frames of a batch to `chains`; every frame starts with row `first`."""
        result = lib.rk_count_chains(self._table, first, batch.handle, chains.handle, len(chains.handle))
        chains.left_out += check(result, "count headers")

    def picker(self, first: int, fields: Sequence[PickedField]) -> Callable[[ReadableBuffer], list[Any]]:
        """A function that gives the fields of one frame, which starts with row `first`: integers, or bytes
        where `octets_n` is not 0, and None where the frame has no such field.

        Each is one call into C. Not for several threads at a time.

        Raises: EngineError as `extract`; what the function is given has to be a buffer.
        """
        n = len(fields)
        values = ffi.new("uint64_t[]", n)
        present = ffi.new("uint8_t[]", n)
        octets = {i: ffi.new("uint8_t[]", field.octets_n) for i, field in enumerate(fields) if field.octets_n}
        targets = ffi.new("struct rk_column[]", n)
        for i, field in enumerate(fields):
            targets[i].values = octets.get(i, values + i)
            targets[i].present = present + i
            targets[i].field = (field.at, field.width)
            targets[i].item_len, targets[i].octets_n = 0 if field.octets_n else 8, field.octets_n
            targets[i].part = field.part
        empty = ffi.new("struct rk_batch *")
        check(lib.rk_extract(self._table, first, empty, 0, 0, targets, n, 0), "pick fields")
        pick, unpack, views = lib.rk_pick, ffi.unpack, list(octets.items())

        def picked(data: ReadableBuffer) -> list[Any]:
            # cffi passes bytes as they are; it would take a list of integers as well.
            frame = data if type(data) is bytes else ffi.from_buffer("uint8_t[]", data)
            # Through self, which keeps alive what the table points to.
            found = pick(self._table, first, frame, len(frame), targets, n)
            row: list[Any] = unpack(values, n)
            for i, place in views:
                row[i] = bytes(ffi.buffer(place))
            if found < n:
                row = [value if there else None for value, there in zip(row, unpack(present, n))]
            return row

        return picked


class Chains:
    """How many frames have which headers, in which order; `left_out` are those of ever more kinds."""

    def __init__(self, capacity: int = 4096) -> None:
        self.handle = ffi.new("struct rk_chain[]", capacity)
        self.left_out = 0

    def rows(self) -> list[tuple[tuple[int, ...], int, int]]:
        """For each chain the rows of its headers, outermost first, its frames, their octets on the wire."""
        return [
            (tuple(ffi.unpack(row.headers, row.headers_n)), row.packets, row.octets)
            for row in self.handle
            if row.packets
        ]


def frame_rows(batch: FrameBatch) -> Any:
    """The records of a batch in place: a writable buffer of as many struct rk_frame as it holds frames.

    Whoever holds it must keep the batch alive, and see to it that nobody refills the batch meanwhile.
    """
    return ffi.buffer(batch.handle.frames, len(batch) * ffi.sizeof("struct rk_frame"))
