"""Recordings: what passes an interface while a test runs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rawkit.engine import Counters
    from rawkit.lab import Host
    from rawkit.tools.capture import Direction
    from rawkit.wire.frame import Frame
    from rawkit.wire.packet import Packet

BUFFER_LEN = 8 << 20
"""Octets that wait for a test to look at them."""

SLICE = 0.02
"""Seconds between two looks at the clock; what has arrived comes after half of that."""


class Recording:
    """What passes an interface from the moment this is made, in the kernel's order and with its times.

    Nothing runs beside the test: the kernel keeps what comes (BUFFER_LEN octets of it, `counters().dropped`
    says of how many frames there was no room) until the test asks. Iterating gives the packets that have come
    so far.

    Raises:
        UnknownInterface, FilterError, PermissionDenied
    """

    def __init__(
        self,
        where: Host | str,
        filter: str = "",
        *,
        direction: Direction = "inout",
        buffer_len: int = BUFFER_LEN,
    ) -> None:
        """`where` is a host of a lab, or the name of an interface where the test runs."""
        from rawkit.tools.capture import Capture

        name = where if isinstance(where, str) else where.interface
        with nullcontext() if isinstance(where, str) else where:
            self._capture = Capture(name, filter, direction=direction, buffer_len=buffer_len)
        self.title = name if isinstance(where, str) else f"{name} of host {where.name}"
        if filter:
            self.title += f", filter {filter!r}"
        self._batches = self._capture.batches(every=SLICE)
        self._frames: list[Frame] = []
        self._ended = False

    def wait(self, n: int, timeout: float = 1.0) -> list[Frame]:
        """The frames so far, as soon as there are `n` of them, or after `timeout` seconds."""
        end = time.monotonic() + timeout
        while len(self._frames) < n and not self._ended and time.monotonic() < end:
            self._take()
        return list(self._frames)

    def _take(self) -> None:
        """Add what has come; waits for something for a SLICE."""
        batch = next(self._batches, None)
        if batch is None:
            self._ended = True
        else:
            self._frames += batch.frames(interface_names=self._capture.names)

    def stop(self) -> list[Frame]:
        """End it, and give all frames: those that were under way too, for 20 ms."""
        self._capture.stop()
        while not self._ended:
            self._take()
        self._capture.close()
        return list(self._frames)

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._ended

    def packets(self) -> list[Packet]:
        """The packets that have come so far."""
        return [frame.packet() for frame in self.wait(len(self._frames) + 1, timeout=SLICE)]

    def __iter__(self) -> Iterator[Packet]:
        return iter(self.packets())

    def counters(self) -> Counters:
        """How many frames passed the filter, and how many of them were lost."""
        return self._capture.counters()

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write what there is so far to a capture file."""
        from rawkit.pcap import create_pcap

        with create_pcap(path, self._capture.linktype, filter=self._capture.filter, notes=True) as writer:
            for frame in self._frames:
                writer.write(frame)
        return Path(path)

    def close(self) -> None:
        """Let go of it, without looking at what has come since. Closing twice is harmless."""
        self._ended = True
        self._capture.close()

    def __enter__(self) -> Recording:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Recording of {self.title}: {len(self._frames)} frames>"
