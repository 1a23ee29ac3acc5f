"""Writing to a file in a thread of its own, from where the octets lie, while who gave them goes on."""

from __future__ import annotations

import _thread
import os
from collections import deque
from contextlib import suppress
from queue import SimpleQueue


class Piece:
    """Octets for a place in a file, which has `packets` packets when they are written.

    `done` of them are written; `error` is what kept out the rest.
    """

    def __init__(self, octets: memoryview, at: int, packets: int) -> None:
        self.octets = octets
        self.at = at
        self.end = at + len(octets)
        self.packets = packets
        self.done = 0
        self.error: OSError | None = None
        self._lock = _thread.allocate_lock()

    def write(self, descriptor: int) -> None:
        """Write what is not written yet; when another thread is at it, wait until that has."""
        with self._lock:
            while self.done < len(self.octets) and self.error is None:
                try:
                    # In one call: each needs the interpreter's lock twice; a fifth slower with 128 KiB.
                    self.done += os.pwrite(descriptor, self.octets[self.done :], self.at + self.done)
                except OSError as error:
                    self.error = error

    def give_up(self) -> None:
        """Have nothing more of it written, from now on."""
        with self._lock:
            self.error = self.error or OSError()


class Behind:
    """Writes pieces of a file one after the other, in the order in which they are put.

    `pieces` are those that nobody has waited for yet; who waits for one (`Piece.write`), the first of them
    first, writes it himself when the thread has not come to it. So all goes well without the thread too.
    """

    def __init__(self, descriptor: int) -> None:
        self.pieces: deque[Piece] = deque()
        self._queue: SimpleQueue[Piece | None] = SimpleQueue()
        with suppress(RuntimeError):  # too many threads, or the interpreter is about to end
            _thread.start_new_thread(_write_pieces, (self._queue, descriptor))

    def put(self, octets: memoryview, at: int, packets: int) -> Piece:
        """Have a `Piece` written; its octets must stay as they are until it is, or given up."""
        piece = Piece(octets, at, packets)
        self.pieces.append(piece)
        self._queue.put(piece)
        return piece

    def close(self) -> None:
        """Give up what is not written, and end the thread: it uses the file no more."""
        for piece in self.pieces:
            piece.give_up()
        self.pieces.clear()
        self._queue.put(None)


def _write_pieces(pieces: SimpleQueue[Piece | None], descriptor: int) -> None:
    while (piece := pieces.get()) is not None:
        piece.write(descriptor)
        del piece  # and with it the octets, while waiting for the next
