"""Blocking sockets over endpoints: the verbs and errors of Berkeley sockets, for any protocol of one's own.

with RawIP(253) as carrier, Socket(GoBackN, carrier) as sock:
    sock.connect(("192.0.2.1", 0))
    sock.sendall(b"hello")
    print(sock.recv(1000))
"""

from __future__ import annotations

import errno
import os
import threading
import warnings
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self, TypeAlias

from rawkit.engine.native import deadline, monotonic_ns
from rawkit.link.carrier import REFUSALS, Carrier
from rawkit.link.service import Service, service_of
from rawkit.link.stack import LinkDriver, Listener
from rawkit.transport.driver import App, Driver
from rawkit.transport.endpoint import Endpoint
from rawkit.transport.events import (
    Abort,
    Close,
    Closed,
    Connected,
    PeerClosed,
    Read,
    Reset,
    Writable,
    Write,
)

Address: TypeAlias = tuple[str, int]

HIGH_WATER = 256 * 1024
"""Octets that an endpoint may hold unsent before `send` waits."""


@dataclass(frozen=True, slots=True)
class Info:
    """How an exchange stands, as TCP_INFO tells it: times in seconds, sizes in octets.

    What the protocol does not keep is None: `srtt`, `rto`, `cwnd`, `ssthresh`, `in_flight`.
    """

    state: str
    """ "connecting", "open", "closing", "closed" or "reset"."""
    srtt: float | None
    rto: float | None
    cwnd: float | None
    ssthresh: float | None
    in_flight: float | None
    path_mtu: int
    packets_sent: int
    packets_received: int
    octets_written: int
    octets_delivered: int
    backlog: int
    dropped: dict[str, int]
    """Packets that came and were no sound ones, by reason."""


class _End(App):
    """The application's end of an exchange: what was delivered, and what the endpoint said."""

    def __init__(self, service: Service) -> None:
        super().__init__()
        self.service = service
        self.news = threading.Condition(service.lock)
        self.data: deque[bytes] = deque()
        self.connected = self.ended = self.closed = self.closing = False
        self.error: OSError | None = None
        self.trouble = ""
        self.delivered = self.written = 0
        service.waiters.add(self.news)

    def on_data(self, driver: Driver, data: bytes) -> None:
        self.connected = True
        self.data.append(data)
        self.delivered += len(data)
        self.news.notify_all()

    def on_notice(self, driver: Driver, notice: Any) -> None:
        if isinstance(notice, Connected):
            self.connected = True
        elif isinstance(notice, PeerClosed):
            self.ended = True
        elif isinstance(notice, Closed):
            self.closed, self.closing = True, False
        elif isinstance(notice, Reset):
            self.closing = False
            self.error = self.error or _reset(notice.reason, self.connected, self.trouble)
        elif not isinstance(notice, Writable):
            return
        self.news.notify_all()

    def on_trouble(self, driver: Driver, reason: str) -> None:
        self.trouble = reason
        if not self.connected and reason in REFUSALS:
            self.error = ConnectionRefusedError(errno.ECONNREFUSED, reason)
        self.news.notify_all()

    def wait(self, condition: Callable[[], bool], end_ns: int, what: str) -> None:
        """Wait, with the lock, until the condition holds.

        Raises:
            BlockingIOError, TimeoutError: it did not in time.
            OSError: the exchange, or the carrier, has failed.
        """
        while not condition():
            if self.error is not None:
                raise self.error
            if self.service.over:
                raise OSError(errno.ENETDOWN, f"{what}: the carrier is closed") from self.service.failure
            left = end_ns - monotonic_ns()
            if left <= 0:
                if end_ns == 0:
                    raise BlockingIOError(errno.EAGAIN, what)
                raise TimeoutError(errno.ETIMEDOUT, f"{what} timed out")
            # In slices: signal handlers run in between.
            self.news.wait(min(left / 1e9, 0.1))


def _reset(reason: str, connected: bool, trouble: str) -> OSError:
    if reason == "no answer":
        if trouble and not connected:
            return OSError(errno.EHOSTUNREACH, trouble)
        return TimeoutError(errno.ETIMEDOUT, reason)
    kind = ConnectionAbortedError if reason == "aborted" else ConnectionResetError
    code = errno.ECONNABORTED if reason == "aborted" else errno.ECONNRESET
    return kind(code, f"connection reset: {reason}")


class BaseSocket:
    """What sockets of both kinds have."""

    def __init__(
        self,
        protocol: Callable[[], Endpoint],
        carrier: Carrier,
        service: Service | None,
        ports: bool,
        bulk: bool = False,
    ) -> None:
        self._protocol, self._carrier = protocol, carrier
        self._closed = True  # until there is something to close
        kind = protocol if isinstance(protocol, type) else type(protocol())
        self._service = service or service_of(carrier, kind, ports=ports, bulk=bulk)
        self._timeout: float | None = None
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        raise NotImplementedError

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
            self.close()

    def settimeout(self, seconds: float | None) -> None:
        """How long calls wait: None for ever, 0 not at all (BlockingIOError)."""
        deadline(seconds)  # raises ValueError where it makes no sense
        self._timeout = seconds

    def gettimeout(self) -> float | None:
        """What `settimeout` set."""
        return self._timeout

    def _end_ns(self) -> int:
        return 0 if self._timeout == 0 else deadline(self._timeout)

    def _live(self) -> None:
        if self._closed:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))


class Socket(BaseSocket):
    """A stream, or messages, over endpoints that `protocol` makes, on a carrier.

    The carrier's packets are handled by a thread of their own, which all its sockets share, so that
    acknowledgements and repetitions go on whatever the program does. `ports` puts ports in front of packets
    of a protocol that has none, `bulk` is the stack's; a carrier's first socket decides both. Closing a
    socket does not wait; closing its carrier, and the end of the program, give what was written some seconds
    to arrive. Errors are those of Python's sockets.
    """

    def __init__(
        self,
        protocol: Callable[[], Endpoint],
        carrier: Carrier,
        *,
        ports: bool = False,
        bulk: bool = False,
    ) -> None:
        super().__init__(protocol, carrier, None, ports, bulk)
        self._reset()

    def _reset(self) -> None:
        self._bound: Address | None = None
        self._driver: LinkDriver | None = None
        self._end: _End | None = None
        self._listener: Listener | None = None
        self._accepted: deque[LinkDriver] = deque()
        self._arrival: threading.Condition | None = None
        self._shut = False
        self._left = b""

    @classmethod
    def _of(cls, parent: Socket, driver: LinkDriver) -> Socket:
        self = cls.__new__(cls)
        BaseSocket.__init__(self, parent._protocol, parent._carrier, parent._service, False)
        self._reset()
        self._driver, self._end = driver, driver.app  # type: ignore[assignment]
        return self

    def __repr__(self) -> str:
        state = "closed" if self._closed else "listening" if self._listener else self._state()
        return f"<Socket over {self._carrier.name}, {state}>"

    # ---- beginning ----------------------------------------------------------------------------------

    def bind(self, address: Address) -> None:
        """The local address ("" for any) and port of `listen`, and of `connect`.

        Raises:
            OSError: EINVAL: the socket has one already.
        """
        self._live()
        if self._bound or self._driver or self._listener:
            raise OSError(errno.EINVAL, "the socket has its address already")
        self._bound = address

    def listen(self, backlog: int = 128) -> None:
        """Take what others begin; `accept` gives it, `backlog` may wait.

        Raises:
            OSError: EADDRINUSE: somebody listens there.
            TargetError: ports make no sense here.
        """
        self._live()
        if self._driver or self._listener:
            raise OSError(errno.EINVAL, "the socket is in use")
        local, port = self._bound or ("", 0)
        with self._service.hold() as stack:
            self._arrival = threading.Condition(self._service.lock)
            self._service.waiters.add(self._arrival)
            self._listener = stack.listen(
                self._protocol,
                lambda: _End(self._service),
                self._begun,
                local=local,
                port=port,
                backlog=backlog,
            )

    def _begun(self, driver: LinkDriver) -> None:
        self._accepted.append(driver)
        assert self._arrival is not None
        self._arrival.notify_all()

    def accept(self) -> tuple[Socket, Address]:
        """A socket for the next exchange that another host began, and that host's address.

        Raises:
            OSError: EINVAL: the socket does not listen. TimeoutError, BlockingIOError.
        """
        self._live()
        if self._listener is None or self._arrival is None:
            raise OSError(errno.EINVAL, "accept: the socket does not listen")
        end_ns = self._end_ns()
        with self._service.lock:
            while not self._accepted:
                if self._closed or self._service.over:
                    raise OSError(errno.EBADF, "accept: closed meanwhile") from self._service.failure
                left = end_ns - monotonic_ns()
                if left <= 0:
                    if end_ns == 0:
                        raise BlockingIOError(errno.EAGAIN, "accept")
                    raise TimeoutError(errno.ETIMEDOUT, "accept timed out")
                self._arrival.wait(min(left / 1e9, 0.1))
            driver = self._accepted.popleft()
        return Socket._of(self, driver), (driver.path.remote, driver.path.remote_port)

    def connect(self, address: Address) -> None:
        """Begin an exchange with a server, and wait until the endpoint says that it is connected.

        Where an endpoint does nothing when it is opened there is nothing to wait for.

        Raises:
            ConnectionRefusedError: nobody is there (ICMP). TimeoutError: no answer. OSError: EISCONN, others.
        """
        self._live()
        if self._driver or self._listener:
            raise OSError(errno.EISCONN, "the socket is connected, or listens")
        port = self._bound[1] if self._bound else 0
        with self._service.hold() as stack:
            self._end = _End(self._service)
            try:
                self._driver = stack.connect(
                    self._protocol(), address[0], address[1], self._end, local_port=port
                )
            except BaseException:
                self._end = None
                raise
            if not self._driver.acted:
                self._end.connected = True
            stack.stirred()
        try:
            with self._service.lock:
                end = self._end
                end.wait(lambda: end.connected, self._end_ns(), "connect")
        except BlockingIOError:
            raise BlockingIOError(errno.EINPROGRESS, os.strerror(errno.EINPROGRESS)) from None
        except OSError:
            with self._service.hold() as stack:
                stack.forget(self._driver)
            self._driver = self._end = None  # one may try again
            raise

    # ---- data ---------------------------------------------------------------------------------------

    def _connected(self) -> tuple[LinkDriver, _End]:
        self._live()
        if self._driver is None or self._end is None:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        return self._driver, self._end

    def send(self, data: bytes) -> int:
        """Write octets (in message modes: one message), all of them; waits while the endpoint holds much.

        Returns how many: all.

        Raises:
            BrokenPipeError: after `shutdown`. ConnectionResetError, TimeoutError and others of OSError.
        """
        driver, end = self._connected()
        if self._shut:
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
        with self._service.hold():
            end.wait(lambda: driver.endpoint.backlog <= HIGH_WATER, self._end_ns(), "send")
            if end.error is not None:
                raise end.error
            if driver.done:
                raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
            driver.do(Write(bytes(data)))
            end.written += len(data)
        return len(data)

    def sendall(self, data: bytes) -> None:
        """Write octets, in pieces, so that no more than is good for the endpoint waits in it."""
        with memoryview(data) as view:
            for at in range(0, max(len(view), 1), HIGH_WATER):
                self.send(bytes(view[at : at + HIGH_WATER]))

    def recv(self, most: int) -> bytes:
        """At least one and at most `most` octets; b"" when the peer has closed."""
        data = self._take(most)
        self._read(len(data))
        return data

    def recv_message(self) -> bytes | None:
        """The next message as it was delivered, however long; None when the peer has closed."""
        with self._service.lock:
            _, end = self._connected()
            end.wait(lambda: bool(end.data or end.ended), self._end_ns(), "recv")
            if not end.data:
                return None
            data = end.data.popleft()
        self._read(len(data))
        return data

    def recv_into(self, buffer: bytearray | memoryview, most: int = 0) -> int:
        """Fill the beginning of a buffer; the number of octets, 0 when the peer has closed."""
        with memoryview(buffer).cast("B") as view:
            data = self.recv(most or len(view))
            view[: len(data)] = data
        return len(data)

    def _take(self, most: int) -> bytes:
        if most < 0:
            raise ValueError("negative buffersize in recv")
        with self._service.lock:
            _, end = self._connected()
            end.wait(lambda: bool(end.data or end.ended), self._end_ns(), "recv")
            pieces, size = [], 0
            while end.data and size < most:
                pieces.append(end.data.popleft())
                size += len(pieces[-1])
            data = b"".join(pieces)
            if size > most:
                end.data.appendleft(data[most:])
            return data[:most]

    def _read(self, octets: int) -> None:
        driver, _ = self._connected()
        if octets and not getattr(driver.endpoint, "auto_read", True):
            with self._service.hold():
                if not driver.done:
                    driver.do(Read(octets))

    # ---- the end ------------------------------------------------------------------------------------

    def shutdown(self) -> None:
        """Write no more; reading goes on. The peer is told when all has arrived."""
        driver, end = self._connected()
        with self._service.hold():
            if not self._shut and not driver.done and end.error is None:
                self._shut = True
                end.closing = True
                driver.do(Close())

    def abort(self) -> None:
        """Give up at once, and tell the peer if the protocol can. Then close."""
        driver, end = self._connected()
        with self._service.hold() as stack:
            if not driver.done:
                end.closing = False
                driver.do(Abort())
            stack.carrier.flush()
            if not driver.done:
                stack.forget(driver)
        self._shut = True
        self.close()

    def close(self) -> None:
        """Write no more, read no more. What was written still goes out, as long as the carrier is open."""
        if self._closed:
            return
        if self._driver is not None and not self._service.over:
            self.shutdown()
        self._closed = True
        with self._service.hold():
            if self._listener is not None and self._arrival is not None:
                self._listener.close()
                self._arrival.notify_all()
                for driver in self._accepted:
                    self._service.stack.forget(driver)

    def wait_closed(self) -> None:
        """Wait until the endpoint says that all that was written has arrived and the peer has closed too.

        Raises:
            TimeoutError, ConnectionResetError: as `recv`.
        """
        if self._end is not None:
            with self._service.lock:
                end = self._end
                end.wait(lambda: end.closed, self._end_ns(), "wait_closed")

    # ---- what is known ------------------------------------------------------------------------------

    def getsockname(self) -> Address:
        """The local address and port."""
        self._live()
        if self._driver is not None:
            return self._driver.path.local, self._driver.path.local_port
        if self._listener is not None:
            return self._listener.local or self._carrier.local, self._listener.port
        return self._bound or ("", 0)

    def getpeername(self) -> Address:
        """The peer's address and port.

        Raises:
            OSError: ENOTCONN.
        """
        driver, _ = self._connected()
        return driver.path.remote, driver.path.remote_port

    def _state(self) -> str:
        end = self._end
        if end is None:
            return "closed"
        if end.error is not None:
            return "reset"
        if end.closed:
            return "closed"
        return "closing" if self._shut else "open" if end.connected else "connecting"

    def info(self) -> Info:
        """How the exchange stands."""
        driver, end = self._connected()
        with self._service.lock:
            found = driver.endpoint.metrics() if driver.acted else {}
            return Info(
                self._state(),
                found.get("srtt"),
                found.get("rto"),
                found.get("cwnd"),
                found.get("ssthresh"),
                found.get("in_flight"),
                driver.path.mtu,
                driver.sent,
                driver.received,
                end.written,
                end.delivered,
                driver.endpoint.backlog,
                dict(driver.endpoint.dropped),
            )
