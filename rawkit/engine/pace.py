"""Sending frames each at its own moment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rawkit.engine.native import check, deadline, ffi, lib, slice_end

if TYPE_CHECKING:
    from rawkit.engine.batch import FrameBatch
    from rawkit.engine.sockets import PacketSocket

SPIN_NS = 100_000
"""Default for the last stretch before each frame that is spent spinning instead of sleeping, in nanoseconds.

Sleeping ends 50 to 80 us late with the usual timer slack.
"""


class PacedSender:
    """Sends rows of a batch on a packet socket, none before it is due.

    Moments are absolute, so a late frame does not delay the ones after it; frames that are overdue go
    out at once, together.
    """

    def __init__(self, socket: PacketSocket, spin_ns: int = SPIN_NS) -> None:
        """`spin_ns` trades processor time for punctuality; 0 only sleeps."""
        if not 0 <= spin_ns < 2**63:
            raise ValueError(f"spin_ns is {spin_ns}; it must be 0 or more")
        self.socket = socket
        self.spin_ns = spin_ns

    def send(
        self,
        batch: FrameBatch,
        due_ns: Sequence[int],
        first: int = 0,
        n: int | None = None,
        timeout: float | None = None,
    ) -> list[int]:
        """Send frames [first, first + n) (n None: all that follow), frame i not before `due_ns[i]`.

        `due_ns` has one row per frame of the batch, in nanoseconds of the monotonic clock.  Returns, for
        each frame that was dealt with, the monotonic time just before it was handed to the kernel, or a
        negative errno where it was refused (-EMSGSIZE: too long, -ENOBUFS: queue full).  The list is
        shorter than n when `timeout` (seconds) passed first: go on from there.

        Raises:
            EngineError: the interface is down (ENETDOWN) or gone (ENXIO), and no frame was dealt with.
        """
        if n is None:
            n = len(batch) - first
        if first < 0 or n < 0 or first + n > min(len(batch), len(due_ns)):
            raise ValueError(
                f"frames [{first}, {first + n}) of a batch of {len(batch)} with {len(due_ns)} moments"
            )
        end_ns = deadline(timeout)
        due = ffi.new("int64_t[]", due_ns)
        sent = ffi.new("int64_t[]", len(due))
        done = 0
        while done < n:
            with self.socket.sending() as handle:
                result = lib.rk_pace_send(
                    handle, batch.handle, first + done, n - done, due, sent, self.spin_ns, slice_end(end_ns)
                )
            if result < 0 and done > 0:
                break  # the next call meets it again
            done += check(result, "send", self.socket.name)
            if done < n and end_ns <= lib.rk_monotonic_ns():
                break
        return list(sent[first : first + done])


def wait_until(due_ns: int, spin_ns: int = SPIN_NS) -> None:
    """Wait until the monotonic clock shows `due_ns`, spinning for the last `spin_ns`."""
    while True:
        end_ns = slice_end(due_ns)
        lib.rk_pace_wait(end_ns, spin_ns if end_ns == due_ns else 0)
        if due_ns <= lib.rk_monotonic_ns():
            return
