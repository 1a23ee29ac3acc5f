"""Joins an endpoint to a clock, to a trace and to the application above it, in whichever world they are."""

from __future__ import annotations

from collections import deque
from typing import Any

from rawkit.transport.chance import Substream
from rawkit.transport.clockwork import Clockwork
from rawkit.transport.endpoint import Endpoint
from rawkit.transport.events import Fired, MtuChanged, Open, Path, Role
from rawkit.transport.trace import Trace


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

    def on_trouble(self, driver: Driver, reason: str) -> None:
        """The network says that packets do not get through; the endpoint has been told."""


class _Timer:
    """A named timer of an endpoint."""

    __slots__ = ("armed_ns", "due_ns", "name", "path")

    def __init__(self, name: str, path: Path) -> None:
        self.name, self.path = name, path
        self.due_ns: int | None = None
        """When it fires; None when it is not set."""
        self.armed_ns: int | None = None
        """When it is looked at."""


class Driver:
    """Feeds one endpoint with what happens to it, and does what it asks for, as soon as it asks.

    `name` is what the trace calls this side. A subclass knows how packets leave (`send`), and calls `take`
    with those that arrive.
    """

    def __init__(
        self,
        name: str,
        clock: Clockwork,
        endpoint: Endpoint,
        app: App,
        rng: Substream,
        paths: list[Path],
        trace: Trace | None,
    ) -> None:
        self.name, self.clock, self.endpoint, self.app = name, clock, endpoint, app
        self.paths, self.trace = paths, trace
        self.done = False
        self.sent = 0
        """Packets sent."""
        endpoint.use(rng, tracing=trace is not None)
        self._timers: dict[tuple[str, Path], _Timer] = {}
        self._queue: deque[Any] = deque()
        self._acting = False

    # ---- what happens to it -----------------------------------------------------------------------

    def open(self, role: Role) -> None:
        """Begin, now."""
        self.feed(Open(role, self.paths[0]))

    def do(self, operation: Any) -> None:
        """The application asks for something; it happens now, after what is being done already."""
        if self.trace is not None:
            data = getattr(operation, "data", b"")
            self.trace.say(self.clock.now, "app", self.name, type(operation).__name__, data)
        self.feed(operation)

    def take(self, octets: bytes, path: Path, ecn: int) -> None:
        """A packet has arrived: transport header and payload."""
        if not self.done:
            self._acting = True
            self.endpoint.arrive(self.clock.now, self, octets, path, ecn)
            if self._queue:
                self._catch_up()
            self._acting = False

    def take_together(self, octets: bytes, payload: bytes, count: int, path: Path, ecn: int) -> bool:
        """Packets that follow each other have arrived; as `Endpoint.arrive_together`."""
        if self.done:
            return True
        self._acting = True
        taken = self.endpoint.arrive_together(self.clock.now, self, octets, payload, count, path, ecn)
        if self._queue:
            self._catch_up()
        self._acting = False
        return taken

    def narrow(self, path: Path, mtu: int) -> None:
        """The network says that a path takes IP packets of `mtu` octets only."""
        if mtu < path.mtu and not self.done:
            path.mtu = mtu
            self.feed(MtuChanged(path, mtu))

    @property
    def timers(self) -> dict[str, int]:
        """The timers that run, by name, and when they are due."""
        running = [(timer.due_ns, timer.name) for timer in self._timers.values() if timer.due_ns is not None]
        return {name: due_ns for due_ns, name in sorted(running)}

    def feed(self, event: Any) -> None:
        """Let something happen to the endpoint, after what is happening already."""
        if self._acting:
            # An application reacts to what is being delivered: the handler finishes first.
            self._queue.append(event)
        elif not self.done:
            self._acting = True
            self.endpoint.happen(self.clock.now, event, self)
            if self._queue:
                self._catch_up()
            self._acting = False

    def _catch_up(self) -> None:
        while self._queue and not self.done:
            self.endpoint.happen(self.clock.now, self._queue.popleft(), self)

    # ---- what it asks for: an `Actor` ---------------------------------------------------------------

    def send(self, octets: bytes, path: Path, ecn: int, at_ns: int) -> None:
        """Send a packet, or see to it that it is sent later (`send_later`)."""
        raise NotImplementedError

    def send_later(self, octets: bytes, path: Path, ecn: int, at_ns: int) -> None:
        """Send a packet when its time comes."""
        self.clock.at(at_ns, self._send_due, (octets, path, ecn))

    def _send_due(self, what: tuple[bytes, Path, int]) -> None:
        self.send(*what, 0)

    def set_timer(self, name: str, at_ns: int, path: Path) -> None:
        timer = self._timers.get((name, path))
        if timer is None:
            timer = self._timers[name, path] = _Timer(name, path)
        timer.due_ns = at_ns
        # One that is moved later is looked at when the earlier time comes: most never fire.
        if timer.armed_ns is None or at_ns < timer.armed_ns:
            self._arm(timer, at_ns)

    def cancel_timer(self, name: str, path: Path) -> None:
        timer = self._timers.get((name, path))
        if timer is not None:
            timer.due_ns = None

    def deliver(self, data: bytes) -> None:
        if self.trace is not None:
            self.trace.say(self.clock.now, "deliver", self.name, "", data)
        self.app.on_data(self, data)

    def tell(self, notice: Any) -> None:
        if self.trace is not None:
            self.trace.say(self.clock.now, "tell", self.name, repr(notice))
        self.app.on_notice(self, notice)

    def metric(self, values: dict[str, float]) -> None:
        if self.trace is not None:
            self.trace.say(self.clock.now, "metric", self.name, fields=values)

    def note(self, name: str, fields: dict[str, Any]) -> None:
        if self.trace is not None:
            self.trace.say(self.clock.now, "note", self.name, name, fields=fields)

    def finish(self) -> None:
        self.done = True
        for timer in self._timers.values():
            timer.due_ns = None
        if self.trace is not None:
            self.trace.say(self.clock.now, "done", self.name)

    def _arm(self, timer: _Timer, at_ns: int) -> None:
        timer.armed_ns = at_ns
        self.clock.at(at_ns, self._fire, (timer, at_ns))

    def _fire(self, what: tuple[_Timer, int]) -> None:
        timer, armed_ns = what
        if timer.armed_ns != armed_ns:
            return  # armed again, earlier
        timer.armed_ns = None
        due_ns = timer.due_ns
        if due_ns is None:
            return
        if due_ns > armed_ns:
            self._arm(timer, max(due_ns, self.clock.now))  # in real time it may be late already
            return
        timer.due_ns = None
        if self.trace is not None:
            self.trace.say(self.clock.now, "timer", self.name, timer.name)
        self.feed(Fired(timer.name, timer.path))
