"""Flow control: how much a receiver has room for, and a sender may use (RFC 9293 sections 3.8.4 to 3.8.6)."""

from __future__ import annotations


class FlowWindow:
    """The receiver's side: which window to announce. Numbers are octets, or messages.

    What was announced is never taken back, and the right edge moves only by steps worth sending for: a
    segment, or half the buffer (silly window avoidance, RFC 9293 section 3.8.6.2.2). `bits` and `shift` are
    those of the header field: it holds the window divided by 2**shift, rounded down.
    """

    __slots__ = ("_edge", "_most", "_shift", "_step")

    def __init__(
        self, capacity: int, segment: int, *, start: int = 0, bits: int = 16, shift: int = 0
    ) -> None:
        if capacity < 1 or segment < 1:
            raise ValueError(f"capacity ({capacity}) and segment ({segment}) must be at least 1")
        self._step = min(segment, max(capacity // 2, 1))
        self._shift, self._most = shift, (1 << bits) - 1
        self._edge = start

    def announce(self, expected: int, free: int) -> int:
        """The value for the header field, with `free` units of room from the number `expected` on."""
        if expected + free >= self._edge + self._step:
            self._edge = expected + free
        value = (self._edge - expected) >> self._shift
        return self._most if value > self._most else value if value > 0 else 0

    def worth_telling(self, expected: int, free: int) -> bool:
        """Whether the window opened so far that the sender should hear of it unasked."""
        return expected + free >= self._edge + self._step


class SendWindow:
    """The sender's side: how far the peer lets it go, and when to ask whether a closed window has opened."""

    __slots__ = ("edge", "probes")

    def __init__(self, start: int = 0) -> None:
        self.edge = start
        """The first number that may not be sent."""
        self.probes = 0
        """Window probes since the window was last open."""

    def on_ack(self, ack: int, window: int) -> bool:
        """An acknowledgement came with a window (in units, unscaled); whether the edge moved.

        An old one that arrives late cannot pull the edge back.
        """
        if ack + window <= self.edge:
            return False
        self.edge = ack + window
        self.probes = 0
        return True

    def probe_after_ns(self, rto_ns: int, most_ns: int = 60 * 10**9) -> int:
        """How long to wait before the next probe: first a time-out, then twice as long each time."""
        return min(rto_ns << min(self.probes, 16), most_ns)
