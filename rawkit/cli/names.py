"""Host names of addresses, looked up on the side."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

_THREADS_MAX = 32


def look_up(address: str) -> str:
    """The name that the system's resolver has for an address, "" when it has none."""
    try:
        return socket.getnameinfo((address, 0), socket.NI_NAMEREQD)[0]
    except OSError:
        return ""


class Names:
    """Names of addresses, each looked up once, in a thread that nobody has to wait for: resolvers are slow.

    At most 32 look-ups are under way at once; an address that is asked for meanwhile has no name yet.
    """

    def __init__(self, look_up: Callable[[str], str] = look_up) -> None:
        self._look_up = look_up
        self._found: dict[str, str] = {}
        self._under_way: dict[str, threading.Event] = {}

    def get(self, address: str, end_ns: int = 0) -> str:
        """The name of an address, "" when it has none or none is known by `end_ns` (monotonic)."""
        if address not in self._found and address not in self._under_way:
            if sum(not done.is_set() for done in self._under_way.values()) >= _THREADS_MAX:
                return ""
            done = self._under_way[address] = threading.Event()
            threading.Thread(target=self._run, args=(address, done), daemon=True).start()
        if address not in self._found:
            self._under_way[address].wait(max(end_ns - time.monotonic_ns(), 0) / 1e9)
        return self._found.get(address, "")

    def _run(self, address: str, done: threading.Event) -> None:
        self._found[address] = self._look_up(address)
        done.set()

    def label(self, address: str, end_ns: int = 0) -> str:
        """ "name (address)", or the address alone."""
        name = self.get(address, end_ns)
        return f"{name} ({address})" if name else address
