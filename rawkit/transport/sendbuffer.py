"""What was written and is not acknowledged, so that any part of it can be sent, and sent again."""

from __future__ import annotations


class SendBuffer:
    """Octets between the first that is not acknowledged (`start`) and the last written (`end`).

    Offsets do not wrap. Writing and releasing cost what is written or released; reading copies what is read.
    """

    __slots__ = ("_octets", "capacity", "end", "start")

    def __init__(self, start: int = 0, capacity: int | None = None) -> None:
        self._octets = bytearray()
        self.start = start
        self.end = start
        """One past the last octet written."""
        self.capacity = capacity
        """The most octets to hold; None for no limit."""

    @property
    def room(self) -> int:
        """Octets that may be written now; 2**62 without a limit."""
        return 2**62 if self.capacity is None else max(self.capacity - len(self._octets), 0)

    def write(self, data: bytes) -> int:
        """Put octets at the end, as many as there is room for; returns how many."""
        taken = min(len(data), self.room)
        self._octets += data if taken == len(data) else data[:taken]
        self.end += taken
        return taken

    def read(self, offset: int, length: int) -> bytes:
        """Up to `length` octets from an offset on.

        Raises:
            ValueError: they were released.
        """
        if offset < self.start:
            raise ValueError(f"octets from {offset} were released, up to {self.start}")
        at = offset - self.start
        return bytes(self._octets[at : at + length])

    def release(self, offset: int) -> None:
        """Everything before `offset` is acknowledged; what is not written yet cannot be."""
        count = offset - self.start
        if count > len(self._octets):
            count = len(self._octets)
        if count > 0:
            del self._octets[:count]
            self.start += count
