"""Connect scans: the kernel's own TCP opens each connection, so no privilege is needed.

Many sockets connect at the same time, each without waiting; what becomes of them is read from the error the
kernel leaves on the socket. A connection that comes about is reset at once, so that neither side keeps it in
TIME_WAIT.
"""

from __future__ import annotations

import errno
import os
import resource
import selectors
import socket
import struct
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address
from itertools import islice

from rawkit.addr import IPAddress
from rawkit.clock import Clock
from rawkit.errors import EngineError, PermissionDenied, RawkitError, UnknownInterface
from rawkit.tools.scan.config import CLOSED, FILTERED, NO_ANSWER, OPEN, PortResult, ScanConfig
from rawkit.tools.scan.pace import Patience, RatePace
from rawkit.tools.scan.tally import Tally
from rawkit.tools.scan.waiting import Wait

_SOCKETS_MAX = (
    1000  # more gain nothing: the kernel answers for itself within microseconds, the net within them
)
_HOSTS_AT_ONCE = 256
_STARTS_AT_ONCE = 32  # between looks at answers, whose times would be late otherwise
_FDS_SPARE = 32  # left to the rest of the program
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # struct linger

_OUT_OF_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_VERDICTS = {
    0: (OPEN, "connected"),
    errno.ECONNREFUSED: (CLOSED, "refused"),
    errno.ECONNRESET: (CLOSED, "reset"),
    errno.EHOSTUNREACH: (FILTERED, "host unreachable"),
    errno.ENETUNREACH: (FILTERED, "network unreachable"),
    errno.EHOSTDOWN: (FILTERED, "host down"),
    errno.EADDRNOTAVAIL: (FILTERED, "no local address"),
    errno.EACCES: (FILTERED, "prohibited"),
    errno.EPERM: (FILTERED, "prohibited"),
    errno.ETIMEDOUT: (FILTERED, NO_ANSWER),
}


@dataclass(slots=True)
class _Attempt:
    """A connection on its way, or one that still has to start."""

    address: IPAddress
    port: int
    probes: int = 0
    sock: socket.socket | None = None
    started_ns: int = 0


def connect_scan(config: ScanConfig, tally: Tally, clock: Clock) -> Generator[PortResult | Wait]:
    """Results in the order in which they become known. Closing the iterator closes all sockets.

    Sockets are opened as the scan goes on. To do that in a network namespace that the thread has left would
    need a privilege, and elsewhere they would meet other hosts: it raises RawkitError then.
    """
    fresh = _attempts(config)
    again: deque[_Attempt] = deque()  # no longer than the number of sockets
    in_flight: dict[int, _Attempt] = {}  # by descriptor, oldest first
    limit = _sockets_limit()
    rate = config.effective_rate
    pace = RatePace(rate) if rate is not None else None
    patience = Patience(config.timeout_ns)
    waiting = True  # there may be attempts that have not started
    namespace = _namespace()

    with selectors.EpollSelector() as selector:

        def finish(attempt: _Attempt, error: int, now_ns: int) -> PortResult:
            state, reason = _VERDICTS.get(error, (FILTERED, os.strerror(error).lower()))
            rtt_ns = None
            if attempt.probes == 1 and error != errno.ETIMEDOUT:
                rtt_ns = now_ns - attempt.started_ns
                patience.seen(rtt_ns)
            assert attempt.sock is not None
            if state == OPEN and _is_self_connected(attempt.sock):
                state, reason = CLOSED, "self-connect"
            reporter = attempt.address if state != FILTERED else None
            attempt.sock.close()
            return PortResult(
                attempt.address,
                attempt.port,
                state,
                reason,
                None,
                reporter,
                rtt_ns,
                attempt.probes,
                answers=int(reporter is not None),
            )

        try:
            while waiting or again or in_flight:
                if _namespace() != namespace:
                    raise RawkitError("connect scan: the thread has left the network namespace it began in")
                allowed = min(pace.allowed(clock.now_ns()) if pace else limit, _STARTS_AT_ONCE)
                while (waiting or again) and len(in_flight) < limit and allowed > 0:
                    upcoming = again.popleft() if again else next(fresh, None)
                    if upcoming is None:
                        waiting = False
                        break
                    attempt = upcoming
                    error = _start(attempt, config.interface, clock)
                    if error in _OUT_OF_ROOM and not in_flight:
                        raise EngineError(error, "connect", str(attempt.address))
                    if error in _OUT_OF_ROOM or (error == errno.EADDRNOTAVAIL and in_flight):
                        # Descriptors or local ports are short: go on with as many as there are now.
                        if attempt.sock is not None:
                            attempt.sock.close()
                        limit = len(in_flight)
                        again.appendleft(attempt)
                        break
                    allowed -= 1
                    tally.probes += 1
                    attempt.probes += 1
                    if pace:
                        pace.sent(1, clock.now_ns())
                    if error == errno.EINPROGRESS:
                        assert attempt.sock is not None
                        in_flight[attempt.sock.fileno()] = attempt
                        selector.register(attempt.sock, selectors.EVENT_WRITE)
                    else:
                        yield finish(attempt, error, clock.now_ns())

                # What is overdue now and not ready did not come in time. A later moment would count answers
                # as lost that came while whoever takes the results was busy.
                late_ns = clock.now_ns() - patience.wait_ns
                timeout = _timeout(in_flight, waiting or again, limit, pace, patience, clock)
                yield Wait((selector.fileno(),), timeout)
                ready = selector.select(0)
                now_ns = clock.now_ns()
                for key, _ in ready:
                    attempt = in_flight.pop(key.fd)
                    selector.unregister(key.fd)
                    assert attempt.sock is not None
                    yield finish(attempt, attempt.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), now_ns)
                while in_flight and (attempt := next(iter(in_flight.values()))).started_ns <= late_ns:
                    assert attempt.sock is not None
                    del in_flight[attempt.sock.fileno()]
                    selector.unregister(attempt.sock)
                    if attempt.probes > config.retries:
                        yield finish(attempt, errno.ETIMEDOUT, now_ns)
                    else:
                        attempt.sock.close()
                        again.append(attempt)
        finally:
            for attempt in in_flight.values():
                if attempt.sock is not None:
                    attempt.sock.close()


def _attempts(config: ScanConfig) -> Iterator[_Attempt]:
    """All that is to be tried, in turns of some 128 to 256 hosts, so that none has more than its share."""
    targets, count = iter(config.targets), config.targets.count
    turns = -(-count // _HOSTS_AT_ONCE)
    for turn in range(turns):
        hosts = list(islice(targets, count * (turn + 1) // turns - count * turn // turns))
        yield from (_Attempt(address, port) for port in config.ports for address in hosts)


def _start(attempt: _Attempt, interface: str, clock: Clock) -> int:
    """Begin to connect; gives what the kernel said: EINPROGRESS, another error, or 0 for done."""
    family = socket.AF_INET if isinstance(attempt.address, IPv4Address) else socket.AF_INET6
    try:
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    except OSError as error:
        if error.errno in _OUT_OF_ROOM:
            return error.errno
        raise EngineError(error.errno or 0, "open TCP socket") from None
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        if interface:
            _bind_to_interface(sock, interface)
        attempt.started_ns = clock.now_ns()
        # getaddrinfo would be asked for anything else than a plain address, and a zone goes in as a number.
        zone = getattr(attempt.address, "scope_id", None)
        if zone:
            number = int(zone) if zone.isdigit() else _interface_number(zone)
            error_number = sock.connect_ex((str(attempt.address).partition("%")[0], attempt.port, 0, number))
        else:
            error_number = sock.connect_ex((str(attempt.address), attempt.port))
    except BaseException:
        sock.close()
        raise
    attempt.sock = sock
    return error_number


def _interface_number(name: str) -> int:
    try:
        return socket.if_nametoindex(name)
    except OSError:
        raise UnknownInterface(f"there is no interface named {name!r}") from None


def _bind_to_interface(sock: socket.socket, interface: str) -> None:
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
    except PermissionError as error:
        raise PermissionDenied(
            error.errno or errno.EPERM,
            "bind TCP socket",
            interface,
            "needs CAP_NET_RAW on kernels before 5.7",
        ) from None
    except OSError:
        raise UnknownInterface(f"there is no interface named {interface!r}") from None


def _is_self_connected(sock: socket.socket) -> bool:
    """Whether the kernel chose the target port as source port, on the target address.

    Both SYNs then cross (RFC 9293 section 3.5, simultaneous open) and the socket talks to itself. The
    kernel gives out no port that something listens on, so nothing does.
    """
    with suppress(OSError):  # already reset by the other side, which is another then
        return bool(sock.getsockname()[:2] == sock.getpeername()[:2])
    return False


def _namespace() -> int:
    """A number for the thread's network namespace."""
    return os.stat("/proc/thread-self/ns/net").st_ino


def _sockets_limit() -> int:
    """How many sockets may be open at once, by what the process is allowed and has."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _SOCKETS_MAX
    with suppress(OSError):
        soft -= len(os.listdir("/proc/self/fd"))
    return max(1, min(_SOCKETS_MAX, soft - _FDS_SPARE))


def _timeout(
    in_flight: dict[int, _Attempt],
    more: object,
    limit: int,
    pace: RatePace | None,
    patience: Patience,
    clock: Clock,
) -> float:
    """Seconds until something has to be done besides looking at answers."""
    now_ns = clock.now_ns()
    due_ns = []
    if in_flight:
        due_ns.append(next(iter(in_flight.values())).started_ns + patience.wait_ns)
    if more and len(in_flight) < limit:
        due_ns.append(pace.due_ns() if pace else now_ns)
    return max(0, min(due_ns, default=now_ns) - now_ns) / 1e9
