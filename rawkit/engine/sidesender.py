"""Sending from a second processor: a thread that offers batches while its owner does something else."""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING

from rawkit.errors import EngineError

if TYPE_CHECKING:
    from rawkit.engine.batch import FrameBatch
    from rawkit.engine.sockets import PacketSocket, RawIPSocket

_Task = tuple["PacketSocket | RawIPSocket", "FrameBatch", int, float]


class SideSender:
    """One batch at a time: `start` hands it over, `result` says what became of it.

    On a virtual link what a frame sets off in the kernel, up to its answer, happens within the call that
    sends it, so that one processor does all the work of both sides.
    """

    def __init__(self) -> None:
        self._tasks: SimpleQueue[_Task | None] = SimpleQueue()
        self._results: SimpleQueue[int | EngineError] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="rawkit-send", daemon=True)
        self._thread.start()
        self.busy = False
        """Whether a batch was handed over whose result was not taken."""

    def start(self, sock: PacketSocket | RawIPSocket, batch: FrameBatch, n: int, timeout: float) -> None:
        """Send the first n frames, as `send_batch` does. Both belong to the thread until `result`."""
        self.busy = True
        self._tasks.put((sock, batch, n, timeout))

    def result(self, *, wait: bool = False) -> int | None:
        """How many were accepted; None while that is not known.

        Raises:
            EngineError: as `send_batch`.
        """
        if not self.busy or (not wait and self._results.empty()):
            return None
        result = self._results.get()
        self.busy = False
        if isinstance(result, EngineError):
            raise result
        return result

    def close(self) -> None:
        """End the thread, after the batch that it has. Closing twice is harmless."""
        self._tasks.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            sock, batch, n, timeout = task
            try:
                self._results.put(sock.send_batch(batch, 0, n, timeout=timeout))
            except EngineError as error:
                self._results.put(error)
