"""Choosing frames by a tcpdump expression, whatever their link types."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rawkit.engine import Filter, FrameBatch
    from rawkit.wire.frame import Frame


class Selection:
    """The frames that a tcpdump expression matches; "" matches all.

    A file may mix link types and an expression means different instructions on each, so it is compiled
    once for each that occurs, and at once for `linktype`.

    Raises:
        FilterError: the expression does not compile; `matches` and `choose` too, for another link type.
    """

    def __init__(self, expression: str, linktype: int = 1) -> None:
        self.expression = expression
        self._filters: dict[int, Filter] = {}
        if expression:
            self._filter(linktype)

    def choose(self, batch: FrameBatch) -> bytearray:
        """For each frame of a batch 1 when it matches, else 0; they have the batch's link type."""
        if not self.expression:
            return bytearray(b"\1") * len(batch)
        return self._filter(batch.linktype).match_batch(batch)

    def matches(self, frame: Frame) -> bool:
        if not self.expression:
            return True
        return self._filter(frame.linktype).matches(frame.data, frame.wire_len)

    def _filter(self, linktype: int) -> Filter:
        filter = self._filters.get(linktype)
        if filter is None:
            from rawkit.engine import compile_filter

            filter = self._filters[linktype] = compile_filter(self.expression, linktype)
        return filter
