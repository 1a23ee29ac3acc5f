"""One blocking socket for many peers, with an endpoint for each, for protocols that carry messages."""

from __future__ import annotations

import errno
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from rawkit.engine.native import monotonic_ns
from rawkit.link.carrier import Carrier
from rawkit.link.sockets import Address, BaseSocket
from rawkit.link.stack import LinkDriver
from rawkit.transport.driver import App, Driver
from rawkit.transport.endpoint import Endpoint
from rawkit.transport.events import Close, Closed, PeerClosed, Reset, Write


class _Peer(App):
    """The application's end of one of many exchanges with one socket."""

    def __init__(self, owner: DatagramSocket) -> None:
        super().__init__()
        self.owner = owner
        self.closing = self.said_close = False

    def on_data(self, driver: Driver, data: bytes) -> None:
        self.owner._deliver(driver, data)

    def on_notice(self, driver: Driver, notice: Any) -> None:
        if isinstance(notice, (Closed, Reset)):
            self.closing = False
        if isinstance(notice, (PeerClosed, Reset)):
            self.owner._lose(driver)
            self.close(driver)

    def close(self, driver: Driver) -> None:
        """Write no more; once is enough."""
        if not self.said_close and not driver.done:
            self.said_close = self.closing = True
            driver.do(Close())


class DatagramSocket(BaseSocket):
    """One socket for many peers, with an endpoint for each, for protocols that carry messages.

    It is a server for whoever sends, on `port`, and a client for whomever one sends to. `most` bounds the
    peers, `most_waiting` the messages that nobody has taken yet: what comes then is dropped, and counted in
    `dropped`.
    """

    def __init__(
        self,
        protocol: Callable[[], Endpoint],
        carrier: Carrier,
        port: int = 0,
        *,
        ports: bool = False,
        most: int = 4096,
        most_waiting: int = 65536,
    ) -> None:
        super().__init__(protocol, carrier, None, ports)
        self._peers: dict[Address, LinkDriver] = {}
        self._waiting: deque[tuple[bytes, Address]] = deque()
        self._most_waiting = most_waiting
        self.dropped = 0
        """Messages that were delivered, and found no room here."""
        self._news = threading.Condition(self._service.lock)
        self._service.waiters.add(self._news)
        try:
            with self._service.hold() as stack:
                self._listener = stack.listen(
                    protocol, lambda: _Peer(self), self._begun, port=port, backlog=most, most=most
                )
        except BaseException:
            self._closed = True
            raise

    def __repr__(self) -> str:
        return f"<DatagramSocket over {self._carrier.name}, {len(self._peers)} peers>"

    def _begun(self, driver: LinkDriver) -> None:
        self._peers[driver.path.remote, driver.path.remote_port] = driver

    def _deliver(self, driver: Driver, data: bytes) -> None:
        if len(self._waiting) >= self._most_waiting:
            self.dropped += 1
            return
        path = driver.paths[0]
        self._waiting.append((data, (path.remote, path.remote_port)))
        self._news.notify()

    def _lose(self, driver: Driver) -> None:
        path = driver.paths[0]
        if self._peers.get((path.remote, path.remote_port)) is driver:
            del self._peers[path.remote, path.remote_port]

    @property
    def peers(self) -> list[Address]:
        """Who has an endpoint now."""
        with self._service.lock:
            return list(self._peers)

    def sendto(self, message: bytes, address: Address) -> int:
        """Send a message to a peer, who need not be known yet; the number of octets.

        Raises:
            OSError: there is no way there.
        """
        self._live()
        with self._service.hold() as stack:
            driver = self._peers.get(address)
            if driver is None or driver.done:
                driver = stack.connect(
                    self._protocol(), address[0], address[1], _Peer(self), local_port=self._local_port()
                )
                self._peers[address] = driver
            driver.do(Write(bytes(message)))
        return len(message)

    def _local_port(self) -> int:
        return 0 if self._carrier.has_ports else self._listener.port

    def recvfrom(self) -> tuple[bytes, Address]:
        """The next message, and who sent it.

        Raises:
            TimeoutError, BlockingIOError: none came in time.
        """
        self._live()
        end_ns = self._end_ns()
        with self._service.lock:
            while not self._waiting:
                if self._service.over:
                    raise OSError(
                        errno.ENETDOWN, "recvfrom: the carrier is closed"
                    ) from self._service.failure
                left = end_ns - monotonic_ns()
                if left <= 0:
                    if end_ns == 0:
                        raise BlockingIOError(errno.EAGAIN, "recvfrom")
                    raise TimeoutError(errno.ETIMEDOUT, "recvfrom timed out")
                self._news.wait(min(left / 1e9, 0.1))
            return self._waiting.popleft()

    def getsockname(self) -> Address:
        """The local address and port."""
        return self._listener.local or self._carrier.local, self._listener.port

    def close(self) -> None:
        """Close all exchanges; what was written still goes out."""
        if self._closed:
            return
        self._closed = True
        with self._service.hold():
            if self._service.over:
                return
            self._listener.close()
            for driver in list(self._peers.values()):
                driver.app.close(driver)  # type: ignore[attr-defined]
            self._peers.clear()
