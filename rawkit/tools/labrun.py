"""A transfer between the two hosts of a lab, over a carrier of one's choice, and a capture of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from rawkit.engine.sockets import PacketSocket
from rawkit.lab import Lab
from rawkit.link import UDP, Carrier, Outcome, RawIP, transfer
from rawkit.pcap import create_pcap
from rawkit.transport.endpoint import Endpoint

if TYPE_CHECKING:
    from rawkit.lab.host import Host

CARRIERS: dict[str, Callable[[Host, int, int], Carrier]] = {
    "raw": lambda host, version, number: RawIP(number, version=version),
    "udp": lambda host, version, number: UDP(version=version),
}
"""What makes a carrier for a host of the lab: (host, 4 or 6, protocol number)."""


def run_in_lab(
    protocol: Callable[[], Endpoint],
    lab: Lab,
    over: str = "raw",
    *,
    version: int = 4,
    number: int = 253,
    capture: str | None = None,
    octets: int = 20_000,
    back: int = 0,
    seed: int = 0,
    timeout: float = 60.0,
    trace: bool = False,
) -> Outcome:
    """Send octets from host a to host b and back; `rawkit.link.transfer` has the rest.

    `over` is one of `CARRIERS`, `capture` a file for what passes host a's interface (pcapng, or pcap by its
    name).
    """
    make = CARRIERS[over]
    with lab.a:
        client = make(lab.a, version, number)
        watch = None if capture is None else _Watch(lab.a.interface, capture)
    with lab.b:
        server = make(lab.b, version, number)
    remote = server.local or str(lab.b.ipv4 if version == 4 else lab.b.ipv6)
    try:
        return transfer(
            protocol,
            client,
            server,
            remote,
            octets=octets,
            back=back,
            seed=seed,
            timeout=timeout,
            trace=trace,
        )
    finally:
        if watch is not None:
            watch.stop()


class _Watch:
    """Writes what passes an interface of the calling thread's namespace to a file, until stopped."""

    def __init__(self, interface: str, path: str) -> None:
        self._socket = PacketSocket(interface, buffer_len=64 << 20)
        self._file = create_pcap(path, self._socket.linktype)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rawkit lab capture")
        self._thread.start()

    def _run(self) -> None:
        while not self._over.is_set():
            for frame in self._socket.frames(timeout=0.05):
                self._file.write(frame)

    def stop(self) -> None:
        """Write what has been seen, and close the file."""
        self._over.set()
        self._thread.join()
        self._socket.close()
        self._file.close()
