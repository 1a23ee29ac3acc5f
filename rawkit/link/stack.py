"""A transport stack in user space: endpoints of one protocol on one carrier, and what drives them.

`Stack.step` does all there is to do now and never waits; `run` waits in between for one stack or several, and
the facades for blocking sockets and for asyncio call `step` from their own loops.
"""

from __future__ import annotations

import errno
import os
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Self

import rawkit.engine.checksum  # noqa: F401  # from here on the wire's checksums are computed in C
from rawkit.engine import bulk as fast
from rawkit.engine.aio import wait_readable
from rawkit.engine.native import deadline, monotonic_ns
from rawkit.errors import EngineError, TargetError
from rawkit.link.carrier import Carrier, Flow, Trouble
from rawkit.link.demux import SHIM, Numbering, numbering, shim_ports, with_ports
from rawkit.link.wiretrace import WireTrace
from rawkit.transport import bulk as together
from rawkit.transport.bulk import places
from rawkit.transport.chance import Substream
from rawkit.transport.clockwork import Clockwork
from rawkit.transport.driver import App, Driver
from rawkit.transport.endpoint import Endpoint
from rawkit.transport.events import Connected, Path, PeerClosed, Unreachable
from rawkit.transport.keyed import PortAllocator

together.use(fast.cut, fast.coalesce)

HALF_OPEN_NS = 30 * 10**9
"""How long an exchange that somebody began may say nothing before it is forgotten."""


class LinkDriver(Driver):
    """A driver whose packets leave by a stack's carrier."""

    def __init__(self, stack: Stack, flow: Flow, endpoint: Endpoint, app: App, path: Path) -> None:
        rng = Substream(stack.seed, "endpoint", stack.name, stack.opened)
        super().__init__(stack.name, stack.clock, endpoint, app, rng, [path], stack.trace)
        self.stack, self.flow, self.path = stack, flow, path
        self.shim = SHIM.pack(flow.local_port, flow.remote_port) if stack.shimmed else b""
        self.listener: Listener | None = None
        """What it was begun by, where another host began it."""
        self.received = 0
        """Packets that came for it."""
        self.acted = False
        """Whether it has asked for anything at all."""

    def send(self, octets: bytes, path: Path, ecn: int, at_ns: int) -> None:
        self.acted = True
        if at_ns and at_ns > self.clock.now:
            self.send_later(octets, path, ecn, at_ns)
            return
        self.sent += 1
        if self.trace is not None:
            self.stack.trace_sent(octets, path, ecn)
        self.stack.carrier.send(self.shim + octets if self.shim else octets, path, ecn)

    def do(self, operation: Any) -> None:
        super().do(operation)
        self.stack.stirred()

    def set_timer(self, name: str, at_ns: int, path: Path) -> None:
        self.acted = True
        super().set_timer(name, at_ns, path)

    def deliver(self, data: bytes) -> None:
        self._begin()
        super().deliver(data)

    def tell(self, notice: Any) -> None:
        if isinstance(notice, (Connected, PeerClosed)):
            self._begin()
        super().tell(notice)

    def _begin(self) -> None:
        self.acted = True
        if self.listener is not None and self in self.listener.half_open:
            self.listener.begin(self)

    def finish(self) -> None:
        super().finish()
        self.stack.forget(self)


class Listener:
    """Makes an endpoint for each exchange that others begin with a local port.

    `on_begun(driver)` is called when one is connected, or has delivered something. Until then it is one of at
    most `backlog` exchanges; when there are more the oldest is forgotten, and so is one that says nothing for
    `HALF_OPEN_NS`. `most` bounds those that have begun.
    """

    def __init__(
        self,
        stack: Stack,
        local: str,
        port: int,
        protocol: Callable[[], Endpoint],
        app: Callable[[], App],
        on_begun: Callable[[LinkDriver], None],
        backlog: int,
        most: int,
    ) -> None:
        self.stack, self.local, self.port = stack, local, port
        self.protocol, self.app, self.on_begun = protocol, app, on_begun
        self.backlog, self.most = backlog, most
        self.half_open: OrderedDict[LinkDriver, int] = OrderedDict()
        self.children: set[LinkDriver] = set()

    def begin(self, driver: LinkDriver) -> None:
        """An exchange that another host began is real."""
        del self.half_open[driver]
        self.children.add(driver)
        self.on_begun(driver)

    def close(self) -> None:
        """Begin no more; what has begun goes on."""
        if self.stack.listeners.pop((self.local, self.port), None) is not None:
            self.stack.carrier.release(self.port)
        for driver in list(self.half_open):
            self.stack.forget(driver)


class Stack:
    """Endpoints of one protocol on one carrier.

    Packets belong to an exchange by addresses and ports: the carrier's own (UDP), those of the protocol's
    header (roles src_port and dst_port, or conn_id), or with `ports` those of four octets that are put in
    front of each packet (source, destination). Without any there is one exchange for each pair of addresses.
    Looked for are the exchange itself, a listener on the address and port, a listener on the port alone;
    what belongs to none goes to `on_unmatched(octets, flow)`, and is counted.

    With `bulk`, packets of an exchange whose octets follow each other reach the endpoint as one, whose
    `count` says how many they were; so there are fewer acknowledgements, too. It needs a header that
    `rawkit.transport.bulk` knows how to read, and is off where there is a trace.

    `seed` decides what endpoints draw (None: nobody can guess it), `trace` notes everything, under `name`.

    Raises:
        TargetError: packets of this protocol cannot be told apart as asked.
    """

    def __init__(
        self,
        carrier: Carrier,
        protocol: type[Endpoint],
        *,
        ports: bool = False,
        bulk: bool = False,
        name: str = "",
        seed: int | None = None,
        trace: WireTrace | None = None,
        on_unmatched: Callable[[bytes, Flow], None] | None = None,
    ) -> None:
        self.carrier, self.trace = carrier, trace
        self.name = name or carrier.local or carrier.name
        self.clock = Clockwork()
        self.clock.now = monotonic_ns()
        self.seed = int.from_bytes(os.urandom(8), "big") if seed is None else seed
        self.shimmed = ports and not carrier.has_ports
        how = None
        if not carrier.has_ports:
            how = Numbering(shim_ports) if ports else numbering(protocol.header)
        self._ports = how.ports if how else None
        self._wide = how is not None and how.by_number
        where = places(protocol.header) if bulk and trace is None and not self.shimmed else None
        self._places = where.packed() if where else b""
        self.drivers: dict[Flow, LinkDriver] = {}
        self.listeners: dict[tuple[str, int], Listener] = {}
        self.counts: Counter[str] = Counter()
        """Packets that reached no endpoint, by reason."""
        self.opened = 0
        """Exchanges so far."""
        self._on_unmatched = on_unmatched
        bits = min(how.bits, 16) if how else 16
        self._allocator = PortAllocator(os.urandom(16), 3 << bits - 2, (1 << bits) - 1)
        self.closed = False
        self.on_stir: Callable[[], None] | None = None
        """Called when an application has asked for something: whoever drives the stack need not wait then."""
        self._stepping = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """End everything at once, without a word to the peers, and close the carrier."""
        self.closed = True
        self.drivers.clear()
        self.listeners.clear()
        self.carrier.close()

    # ---- exchanges ----------------------------------------------------------------------------------

    @property
    def has_ports(self) -> bool:
        """Whether exchanges have ports here."""
        return self.carrier.has_ports or self._ports is not None

    def connect(
        self,
        endpoint: Endpoint,
        remote: str,
        remote_port: int = 0,
        app: App | None = None,
        local_port: int = 0,
    ) -> LinkDriver:
        """Begin an exchange, as the client; it goes on when the stack is driven.

        Raises:
            EngineError: there is no way there; EADDRINUSE: there is such an exchange already.
            TargetError: the address, or a port, makes no sense here.
        """
        if not self.has_ports and (remote_port or local_port):
            raise TargetError(f"packets of {type(endpoint).__name__} have no ports on {self.carrier.name}")
        path = self._path(Flow("", local_port, remote, remote_port))
        if self._ports is not None and not local_port:
            path.local_port = self._free_port(path)
            if self._wide:
                path.remote_port = path.local_port
        elif self._ports is not None:
            self._claim(local_port)
        try:
            driver = self._add(self._flow_of(path), endpoint, app or App(), path)
        except EngineError:
            self.carrier.release(path.local_port)
            raise
        self._now()
        driver.open("client")
        return driver

    def _path(self, flow: Flow) -> Path:
        path = self.carrier.path(flow)
        if self.shimmed:
            path.overhead += SHIM.size
        return path

    def _flow_of(self, path: Path) -> Flow:
        if self._wide:
            return Flow("", path.local_port, "", path.local_port)
        return Flow(path.local, path.local_port, path.remote, path.remote_port)

    def _free_port(self, path: Path) -> int:
        def usable(port: int) -> bool:
            path.local_port = port
            taken = self._flow_of(path) in self.drivers or ("", port) in self.listeners
            return not taken and self.carrier.claim(port)

        local, remote = path.local.encode(), path.remote.encode()
        found = self._allocator.allocate(local, remote, path.remote_port & 0xFFFF, usable)
        if found is None:
            raise EngineError(
                errno.EADDRNOTAVAIL, "connect", f"to {path.remote}", "all local ports are taken"
            )
        return found

    def listen(
        self,
        protocol: Callable[[], Endpoint],
        app: Callable[[], App],
        on_begun: Callable[[LinkDriver], None],
        *,
        local: str = "",
        port: int = 0,
        backlog: int = 128,
        most: int = 65536,
    ) -> Listener:
        """Begin an endpoint, as the server, for each exchange that another host begins.

        `local` "" is any address. On a protocol without ports `port` is 0.

        Raises:
            EngineError: EADDRINUSE: somebody listens there already.
            TargetError: there are no ports here, or the carrier has another one.
        """
        own = getattr(self.carrier, "port", None)
        if own is not None:
            if port not in (0, own):
                raise TargetError(f"the carrier has port {own}, not {port}")
            port = own
        elif port and not self.has_ports:
            raise TargetError("packets of this protocol have no ports")
        if (local, port) in self.listeners:
            raise EngineError(errno.EADDRINUSE, "listen", f"on {local or 'any address'}, port {port}")
        self._claim(port)
        listener = Listener(self, local, port, protocol, app, on_begun, backlog, most)
        self.listeners[local, port] = listener
        return listener

    def _claim(self, port: int) -> None:
        if not self.carrier.claim(port):
            raise EngineError(
                errno.EADDRINUSE, "keep the kernel silent", f"about port {port}", "another program has it"
            )

    def _add(self, flow: Flow, endpoint: Endpoint, app: App, path: Path) -> LinkDriver:
        if flow in self.drivers:
            raise EngineError(errno.EADDRINUSE, "connect", path.remote, "there is such an exchange already")
        self.opened += 1
        driver = self.drivers[flow] = LinkDriver(self, flow, endpoint, app, path)
        return driver

    def forget(self, driver: LinkDriver) -> None:
        """Packets for it are for nobody from now on."""
        driver.done = True
        if self.drivers.get(driver.flow) is driver:
            del self.drivers[driver.flow]
            self.carrier.release(driver.path.local_port)
        if driver.listener is not None:
            driver.listener.half_open.pop(driver, None)
            driver.listener.children.discard(driver)
        for path in driver.paths:
            self.carrier.forget(path)

    # ---- time and packets -----------------------------------------------------------------------------

    def _now(self) -> int:
        now = self.clock.now = monotonic_ns()
        return now

    @property
    def next_ns(self) -> int | None:
        """When the stack has something to do even if nothing comes; None for never."""
        return self.clock.next_ns

    def step(self) -> bool:
        """Do what there is to do now: take what has come, run timers that are due, send. True when anything
        came, and more may be there.
        """
        self._stepping = True
        try:
            arrived = self.carrier.receive()
            now = self._now()
            if self._places:
                self._arrive_together(arrived)
            else:
                arrive = self._arrive
                for octets, flow, ecn in arrived:
                    arrive(octets, flow, ecn)
            self.clock.catch_up(now)
            self.carrier.flush()
            if self.carrier.troubles:
                self._tell_troubles()
                self.carrier.flush()
        finally:
            self._stepping = False
        return bool(arrived)

    def stirred(self) -> None:
        """An application has asked for something."""
        if not self._stepping:
            self._now()
            if self.on_stir is not None:
                self.on_stir()

    def _arrive_together(self, arrived: list[tuple[bytes, Flow, int]]) -> None:
        at, end = 0, len(arrived)
        while at < end:
            n, payload = together.coalesce(arrived, at, self._places)
            octets, flow, ecn = arrived[at]
            driver = self._driver(flow, octets) if n > 1 else None
            if (
                driver is None
                or getattr(driver.endpoint, "unit", "octets") != "octets"
                or not driver.take_together(octets, payload, n, driver.path, ecn)
            ):
                for octets, flow, ecn in arrived[at : at + n]:
                    self._arrive(octets, flow, ecn)
            else:
                driver.received += n
            at += n

    def _driver(self, flow: Flow, octets: bytes) -> LinkDriver | None:
        """The exchange that a packet belongs to, if there is one."""
        found = flow if self._ports is None else with_ports(flow, self._ports, octets)
        return None if found is None else self.drivers.get(self._key(found))

    def _key(self, flow: Flow) -> Flow:
        return Flow("", flow.local_port, "", flow.local_port) if self._wide else flow

    def _arrive(self, octets: bytes, flow: Flow, ecn: int) -> None:
        if self._ports is not None:
            found = with_ports(flow, self._ports, octets)
            if found is None:
                self.counts["too short"] += 1
                return
            flow = found
            if self.shimmed:
                octets = octets[4:]
        driver = self.drivers.get(self._key(flow))
        fresh = driver is None
        if driver is None:
            driver = self._begin(flow, octets)
            if driver is None:
                return
        driver.received += 1
        if self.trace is not None:
            self.trace.arrived(self.clock.now, self.name, flow.remote, flow.local, octets, ecn)
        driver.take(octets, driver.path, ecn)
        if fresh and not driver.acted:
            self.forget(driver)  # it was no beginning of anything
            self.counts["no beginning"] += 1

    def _listener(self, local: str, port: int) -> Listener | None:
        found = self.listeners.get((local, port)) or self.listeners.get(("", port))
        if found is None and self._wide:
            found = self.listeners.get((local, 0)) or self.listeners.get(("", 0))
        return found

    def _begin(self, flow: Flow, octets: bytes) -> LinkDriver | None:
        listener = self._listener(flow.local, flow.local_port)
        if listener is None:
            self.counts["unmatched"] += 1
            if self._on_unmatched is not None:
                self._on_unmatched(octets, flow)
            return None
        if len(listener.children) >= listener.most:
            self.counts["too many exchanges"] += 1
            return None
        try:
            path = self._path(flow)
        except EngineError:
            self.counts["no way back"] += 1
            return None
        if len(listener.half_open) >= listener.backlog:
            self.counts["backlog full"] += 1
            self.forget(next(iter(listener.half_open)))
        driver = self._add(self._flow_of(path), listener.protocol(), listener.app(), path)
        self.carrier.claim(path.local_port)
        driver.listener = listener
        listener.half_open[driver] = self.clock.now
        self.clock.at(self.clock.now + HALF_OPEN_NS, self._expire, (listener, driver))
        driver.open("server")
        return driver

    def _expire(self, what: tuple[Listener, LinkDriver]) -> None:
        listener, driver = what
        if driver in listener.half_open:
            self.forget(driver)
            self.counts["never begun"] += 1

    def trace_sent(self, octets: bytes, path: Path, ecn: int) -> None:
        """Note a packet that leaves."""
        assert self.trace is not None
        self.trace.sent(self.clock.now, self.name, path.local, path.remote, octets, ecn)

    def _tell_troubles(self) -> None:
        troubles, self.carrier.troubles = self.carrier.troubles, []
        for trouble in troubles:
            driver = self._driver_of(trouble)
            if driver is None:
                self.counts["trouble of others"] += 1
            elif trouble.mtu:
                driver.narrow(driver.path, trouble.mtu)
            else:
                driver.feed(Unreachable(driver.path, trouble.reason))
                driver.app.on_trouble(driver, trouble.reason)

    def _driver_of(self, trouble: Trouble) -> LinkDriver | None:
        flow = trouble.flow
        if self._ports is not None and trouble.quoted:
            found = with_ports(flow, self._ports, trouble.quoted, quoted=True)
            if found is None:
                return None
            flow = found
        flow = self._key(flow)
        driver = self.drivers.get(flow)
        if driver is None and not flow.local:  # the error queue does not say which of our addresses it was
            same = (d for f, d in self.drivers.items() if f[1:] == flow[1:])
            driver = next(same, None)
        return driver


def run(
    stacks: Sequence[Stack], until: Callable[[], bool] = lambda: False, timeout: float | None = None
) -> bool:
    """Drive stacks, in this thread, until `until()`, or for `timeout` seconds; whether it was `until`."""
    end_ns = deadline(timeout)
    descriptors = [fd for stack in stacks for fd in stack.carrier.descriptors()]
    while not until():
        busy = False
        for stack in stacks:
            busy |= stack.step()
        now = monotonic_ns()
        if now >= end_ns:
            return until()
        if not busy and not until():
            times = [stack.next_ns for stack in stacks]
            wait_readable(descriptors, min([end_ns, *(at for at in times if at is not None)]))
    return True
