"""Choosing frames by a tcpdump expression, whatever their link types."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rawkit.wire.frame import Frame

if TYPE_CHECKING:
    from rawkit.engine import Filter


class Selection:
    """The frames that a tcpdump expression matches; "" matches all.

    A file may mix link types and an expression means different instructions on each, so it is compiled
    once for each that occurs.

    Raises:
        FilterError: the expression does not compile.
    """

    def __init__(self, expression: str) -> None:
        self.expression = expression
        self._filters: dict[int, Filter] = {}

    def matches(self, frame: Frame) -> bool:
        if not self.expression:
            return True
        filter = self._filters.get(frame.linktype)
        if filter is None:
            from rawkit.engine import compile_filter

            filter = self._filters[frame.linktype] = compile_filter(self.expression, frame.linktype)
        return filter.matches(frame.data, frame.wire_len)
