"""The link relay: an emulated wire between two interfaces, with delay and seeded loss, running in C."""

from __future__ import annotations

import signal
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from warnings import warn

from rawkit.engine.native import check, ffi, lib

_SEED_MASK = 2**64 - 1


@dataclass(frozen=True, slots=True)
class LinkDirection:
    """What one direction of a link does to frames.

    `delay_ns` is how long each is held, `loss` the probability (0..1) that it is lost, `seed` the start of
    the generator that decides, `queue_n` how many frames may be under way at once. `interval_ns` is how long
    each keeps the wire's entrance busy: those that come meanwhile wait, as at a bottleneck.
    """

    delay_ns: int = 0
    loss: float = 0.0
    seed: int = 0
    queue_n: int = 10_000
    interval_ns: int = 0


@dataclass(frozen=True, slots=True)
class LinkCounters:
    """What became of the frames of one direction.

    `received` = `sent` + `lost` + `queue_full` + `refused` (by the kernel, on sending) + those still under
    way. `overflow` counts frames that the kernel dropped before the relay saw them.
    """

    received: int
    sent: int
    lost: int
    queue_full: int
    refused: int
    overflow: int


class LinkRelay:
    """A running relay between two interfaces of the calling thread's namespace, until closed.

    Raises:
        PermissionDenied: CAP_NET_RAW is missing.
        UnknownInterface: an index belongs to no interface.
        EngineError: a direction is out of range (EINVAL), or no memory for its queue.
    """

    def __init__(self, ifindex_a: int, ifindex_b: int, a_to_b: LinkDirection, b_to_a: LinkDirection) -> None:
        self._handle: Any = None
        self._results: list[int] = []
        self._subject = f"interfaces {ifindex_a} and {ifindex_b}"
        out = ffi.new("struct rk_link **")
        directions = ffi.new(
            "struct rk_link_direction[2]",
            [
                (d.delay_ns, d.loss, d.seed & _SEED_MASK, d.queue_n, 0, d.interval_ns)
                for d in (a_to_b, b_to_a)
            ],
        )
        check(
            lib.rk_link_open(out, ifindex_a, ifindex_b, directions),
            "open link relay",
            self._subject,
            needs="CAP_NET_RAW",
        )
        self._handle = out[0]
        self._thread = threading.Thread(
            target=_run, args=(self._handle, self._results), name="rawkit link relay", daemon=True
        )
        self._thread.start()

    def counters(self) -> tuple[LinkCounters, LinkCounters]:
        """What happened so far, a to b and b to a.

        Raises:
            ValueError: the relay is closed.
        """
        if self._handle is None:
            raise ValueError("the link relay is closed")
        out = ffi.new("struct rk_link_counters[2]")
        lib.rk_link_read(self._handle, out)
        a_to_b, b_to_a = (
            LinkCounters(c.received, c.sent, c.lost, c.queue_full, c.refused, c.overflow) for c in out
        )
        return a_to_b, b_to_a

    def close(self) -> None:
        """Stop; frames under way are gone. Closing twice is harmless.

        Raises:
            UnknownInterface, EngineError: the relay had ended before, because an interface went away.
        """
        handle, self._handle = self._handle, None
        if handle is None:
            return
        lib.rk_link_stop(handle)
        self._thread.join()
        lib.rk_link_close(handle)
        check(self._results[0], "relay frames", self._subject)

    def __enter__(self) -> LinkRelay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if self._handle is not None:
            warn(f"unclosed link relay between {self._subject}", ResourceWarning, source=self, stacklevel=1)
            self.close()


def _run(handle: Any, results: list[int]) -> None:
    """The relay's thread. Knows nothing of the LinkRelay, so that a forgotten one is still collected."""
    # Signals are for the threads that can act on them: Python's handlers run in the main thread, which one
    # delivered here would not wake.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    results.append(lib.rk_link_run(handle))
