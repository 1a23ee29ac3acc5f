"""Processes in a host's namespace that never outlive the lab."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from rawkit.engine.namespace import Namespace
from rawkit.engine.native import check, lib

_GRACE_S = 1.0
"""How long processes may take to end on SIGTERM before SIGKILL ends them."""


class Processes:
    """Starts processes and ends them all when closed; if this process dies first, the kernel kills them.

    The kernel's promise (prctl(2), PR_SET_PDEATHSIG) is about the thread that forked, so that one thread,
    which lives as long as this object, does all the forking.
    """

    def __init__(self) -> None:
        self._started: list[subprocess.Popen[Any]] = []
        self._forker = ThreadPoolExecutor(1, "rawkit lab", initializer=_block_signals)

    def spawn(self, argv: Sequence[str], namespace: Namespace, **popen: Any) -> subprocess.Popen[Any]:
        """A process in `namespace`; `popen` goes to `subprocess.Popen`, whose exceptions come back."""
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        return self._forker.submit(self._spawn, argv, namespace, mask, popen).result()

    def _spawn(
        self, argv: Sequence[str], namespace: Namespace, mask: set[Any], popen: dict[str, Any]
    ) -> subprocess.Popen[Any]:
        parent = os.getpid()
        prepare_more = popen.pop("preexec_fn", None)

        def prepare() -> None:
            # Forking ends the other threads, and with one of them its visits to hosts (`with host:`), which
            # on their end go back to where that thread was before: here, that is into its network.
            check(lib.rk_ns_enter(namespace.fileno(), lib.RK_NS_NET), "enter a network namespace")
            check(lib.rk_ns_die_with_parent(parent), "tie a process to its parent")
            # A process starts with the signal mask of the thread that forked it: give it the caller's.
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            if prepare_more is not None:
                prepare_more()

        with namespace.enter(), warnings.catch_warnings():
            # Python 3.12 warns of forking with several threads, where another one may hold a lock. What runs
            # between fork and exec here takes none.
            warnings.simplefilter("ignore", DeprecationWarning)
            process = subprocess.Popen(argv, preexec_fn=prepare, **popen)
        self._started = [*(p for p in self._started if p.poll() is None), process]
        return process

    def close(self) -> None:
        """End what still runs: SIGTERM, and after a second SIGKILL."""
        running = [process for process in self._started if process.poll() is None]
        for process in running:
            process.terminate()
        end = time.monotonic() + _GRACE_S
        for process in running:
            try:
                process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._forker.shutdown()
        self._started = []


def _block_signals() -> None:
    # Signals are for the main thread, where Python runs its handlers.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
