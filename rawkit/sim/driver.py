"""Joins an endpoint to a host of the simulated network, and to the application above it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from rawkit.sim.core import Clockwork
from rawkit.transport.chance import Substream
from rawkit.transport.endpoint import Endpoint
from rawkit.transport.events import (
    CancelTimer,
    Deliver,
    Done,
    Fired,
    Metric,
    MtuChanged,
    Note,
    Open,
    Path,
    Role,
    Send,
    SetTimer,
    Tell,
)

if TYPE_CHECKING:
    from rawkit.sim.link import Datagram
    from rawkit.sim.network import Host


class App:
    """What sits above an endpoint; a subclass reacts by `driver.do(operation)`. This one keeps what it
    gets.
    """

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.notices: list[Any] = []

    def on_data(self, driver: Driver, data: bytes) -> None:
        """Octets, or one message, were delivered."""
        self.received.append(data)

    def on_notice(self, driver: Driver, notice: Any) -> None:
        """The endpoint said something."""
        self.notices.append(notice)


class Driver:
    """Feeds one endpoint with what happens to it, and does what it asks for."""

    def __init__(
        self, host: Host, port: int, endpoint: Endpoint, app: App, rng: Substream, paths: list[Path]
    ) -> None:
        self.host, self.port, self.endpoint, self.app = host, port, endpoint, app
        self.clock: Clockwork = host.network.clock
        self.trace = host.network.trace
        self.paths = paths
        self.done = False
        self.sent = 0
        """Packets sent."""
        self.arrived = 0
        self.late = 0
        """Packets that arrived when the endpoint was done."""
        endpoint.use(rng, tracing=self.trace is not None)
        self._peers = {path: host.network.host_at(path.remote) for path in paths}
        self._path_from = {path.remote: path for path in paths}
        self._timers: dict[tuple[str, Path], int] = {}
        self._armed: dict[tuple[str, Path], int] = {}
        self._queue: deque[Any] = deque()
        self._acting = False

    # ---- what happens to it -----------------------------------------------------------------------

    def open(self, role: Role) -> None:
        """Begin, now."""
        self._feed(Open(role, self.paths[0]))

    def do(self, operation: Any) -> None:
        """The application asks for something; it happens now, after what is being done already."""
        if self.trace is not None:
            data = getattr(operation, "data", b"")
            self.trace.say(self.clock.now, "app", self.host.name, type(operation).__name__, data)
        self._feed(operation)

    def arrive(self, datagram: Datagram) -> None:
        """A packet for this endpoint has come to its host."""
        if self.trace is not None:
            self.trace.add(self.clock.now, "arrive", self.host.name, datagram)
        if self.done:
            self.late += 1
            return
        self.arrived += 1
        path = self._path_from.get(datagram.src.address) or self._path_from.get(datagram.dst.address)
        if path is not None:
            self._acting = True
            self._perform(self.endpoint.arrive(self.clock.now, datagram.octets, path, datagram.ecn))
            if self._queue:
                self._catch_up()
            self._acting = False

    def too_large(self, datagram: Datagram, mtu: int) -> None:
        """A router's answer (ICMP, fragmentation needed): the path takes only `mtu` octets."""
        path = self._path_from.get(datagram.dst.address)
        if path is not None and mtu < path.mtu and not self.done:
            path.mtu = mtu
            self._feed(MtuChanged(path, mtu))

    @property
    def timers(self) -> dict[str, int]:
        """The timers that run, by name, and when they are due."""
        return {name: due for (name, _), due in sorted(self._timers.items(), key=lambda item: item[1])}

    # ---- what it asks for -------------------------------------------------------------------------

    def _feed(self, event: Any) -> None:
        if (
            self._acting
        ):  # an application reacts to what is being delivered: what was asked for before goes first
            self._queue.append(event)
            return
        if not self.done:
            self._now(event)

    def _now(self, event: Any) -> None:
        self._acting = True
        self._perform(self.endpoint.feed(self.clock.now, event))
        if self._queue:
            self._catch_up()
        self._acting = False

    def _catch_up(self) -> None:
        while self._queue and not self.done:
            self._perform(self.endpoint.feed(self.clock.now, self._queue.popleft()))

    def _perform(self, actions: list[Any]) -> None:
        for action in actions:
            kind = type(action)
            if kind is Send:
                octets, path, ecn, at_ns = action
                if at_ns > self.clock.now:
                    self.clock.at(at_ns, self._send_later, action)
                else:
                    self.sent += 1
                    self.host.send(octets, len(octets) + path.overhead, self._peers[path], self.port, ecn)
            elif kind is SetTimer:
                name, due, path = action
                key = name, path
                self._timers[key] = due
                armed = self._armed.get(key)
                # One that is moved later is looked at when the earlier time comes: most never fire.
                if armed is None or due < armed:
                    self._armed[key] = due
                    self.clock.at(due, self._fire, (key, due))
            elif kind is Deliver:
                if self.trace is not None:
                    self.trace.say(self.clock.now, "deliver", self.host.name, "", action.data)
                self.app.on_data(self, action.data)
            elif kind is CancelTimer:
                self._timers.pop((action.name, action.path), None)
            elif kind is Tell:
                if self.trace is not None:
                    self.trace.say(self.clock.now, "tell", self.host.name, repr(action.notice))
                self.app.on_notice(self, action.notice)
            elif kind is Done:
                self.done = True
                self._timers.clear()
                if self.trace is not None:
                    self.trace.say(self.clock.now, "done", self.host.name)
            elif self.trace is not None and kind is Metric:
                self.trace.say(self.clock.now, "metric", self.host.name, fields=action.values)
            elif self.trace is not None and kind is Note:
                self.trace.say(self.clock.now, "note", self.host.name, action.name, fields=action.fields)

    def _send_later(self, action: Send) -> None:
        octets, path, ecn, _ = action
        self.sent += 1
        self.host.send(octets, len(octets) + path.overhead, self._peers[path], self.port, ecn)

    def _fire(self, what: tuple[tuple[str, Path], int]) -> None:
        key, armed = what
        if self._armed.get(key) != armed:
            return  # armed again, earlier
        due = self._timers.get(key)
        if due is None:
            del self._armed[key]
        elif due > armed:
            self._armed[key] = due
            self.clock.at(due, self._fire, (key, due))
        else:
            del self._armed[key], self._timers[key]
            if self.trace is not None:
                self.trace.say(self.clock.now, "timer", self.host.name, key[0])
            self._feed(Fired(*key))
