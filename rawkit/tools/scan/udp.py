"""UDP scans: requests that servers answer, and ICMP errors for ports that nobody listens on; no privilege.

A datagram to an open port that its server does not understand has no answer, so silence has to be told apart
from an error that was not sent (`asking`).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack

from rawkit.addr import IPAddress
from rawkit.clock import Clock
from rawkit.engine.errorqueue import DatagramSocket
from rawkit.tools.scan.asking import Asking, Heard
from rawkit.tools.scan.config import CLOSED, FILTERED, OPEN, OPEN_FILTERED, PortResult, ScanConfig
from rawkit.tools.scan.icmp import icmp_reason
from rawkit.tools.scan.payloads import payload
from rawkit.tools.scan.tally import Tally
from rawkit.tools.scan.waiting import Wait

_PORT_UNREACHABLE = {4: (3, 3), 6: (1, 4)}


def udp_scan(
    config: ScanConfig, tally: Tally, clock: Clock, notify: Callable[[str], object]
) -> Generator[PortResult | Wait]:
    """Results in the order in which they become known. `notify` is told of hosts whose limit takes long.

    Raises: EngineError when the source port is taken, or the kernel refuses to open a socket.
    """
    with ExitStack() as stack:
        carriers = {}
        for version in sorted({span.version for span in config.targets.spans}):
            sock = stack.enter_context(DatagramSocket(version, config.source_port, config.interface))
            carriers[version] = _Datagrams(sock, config.contact.encode())
        yield from Asking(config, tally, clock, notify, carriers).results()


class _Datagrams:
    """UDP requests of one IP version; `contact` is said where nothing else is usual."""

    protocol = "udp"
    silent = OPEN_FILTERED
    exact = False  # whoever guesses a port of ours can send something to it

    def __init__(self, sock: DatagramSocket, contact: bytes) -> None:
        self._sock, self._contact = sock, contact
        self._zoned: dict[bytes, IPAddress] = {}  # those asked that have a zone, which sockets do not tell

    def fileno(self) -> int:
        return self._sock.fileno()

    def ask(self, address: IPAddress, port: int, attempt: int) -> None:
        if getattr(address, "scope_id", None):
            self._zoned[address.packed] = address
        self._sock.send(address, port, payload(port, attempt, self._contact))

    def arrivals(self) -> Iterator[Heard]:
        for datagram in self._sock.arrivals():
            address = self._zoned.get(datagram.address.packed) or datagram.address
            reporter = address if datagram.reporter == datagram.address else datagram.reporter
            icmp = datagram.icmp
            state, reason = OPEN, "udp-response"
            if icmp is not None:
                # RFC 1122 section 3.2.2.1: only the host itself knows of its ports.
                closed = icmp == _PORT_UNREACHABLE[address.version] and reporter is address
                state, reason = CLOSED if closed else FILTERED, icmp_reason(address.version, *icmp)
            yield Heard(
                address,
                datagram.port,
                state,
                reason,
                reporter,
                datagram.hop_limit,
                datagram.time_ns,
                icmp is not None,
            )
