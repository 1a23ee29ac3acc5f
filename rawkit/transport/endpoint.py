"""`Endpoint`: the base of every transport protocol. Handlers that only say what they want done.

A protocol is a subclass with a header and up to five handlers. Whoever drives it (a simulation, a real
network, a test) calls `feed(now_ns, event)` and does what the actions returned say. Nothing in here waits,
reads a clock or draws a random number that was not handed in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Protocol

from rawkit.errors import FieldError, HeaderError, LocalProtocolError
from rawkit.transport.chance import Substream
from rawkit.transport.encoder import Encoder, encoder
from rawkit.transport.events import (
    Action,
    Arrival,
    CancelTimer,
    Closed,
    Deliver,
    Done,
    Fired,
    Metric,
    MtuChanged,
    Note,
    Notice,
    Open,
    Path,
    PathEvent,
    Role,
    Send,
    SetTimer,
    Tell,
    Unreachable,
)
from rawkit.wire import checksum
from rawkit.wire.field import AUTO, ChecksumRule, CRC32cRule
from rawkit.wire.generate import compiled
from rawkit.wire.header import Header
from rawkit.wire.layout import FieldInfo


class Packet:
    """A packet as `on_packet` gets it: parsed, its checksum verified."""

    __slots__ = ("count", "ecn", "header", "path", "payload")

    def __init__(self, header: Any, payload: bytes, path: Path, ecn: int) -> None:
        self.header = header
        self.payload = payload
        self.path = path
        self.ecn = ecn
        """The ECN codepoint of the IP header: 0 not capable, 1 and 2 capable, 3 congestion experienced."""
        self.count = 1
        """How many packets of the wire this stands for (more where a receiver coalesces)."""

    def __repr__(self) -> str:
        return f"Packet({self.header!r}, {len(self.payload)} octets)"


_new = object.__new__


class Actor(Protocol):
    """Does, or notes down, what handlers ask for: a method for each action of `rawkit.transport.events`."""

    def send(self, octets: bytes, path: Path, ecn: int, at_ns: int) -> None: ...
    def set_timer(self, name: str, at_ns: int, path: Path) -> None: ...
    def cancel_timer(self, name: str, path: Path) -> None: ...
    def deliver(self, data: bytes) -> None: ...
    def tell(self, notice: Any) -> None: ...
    def metric(self, values: dict[str, float]) -> None: ...
    def note(self, name: str, fields: dict[str, Any]) -> None: ...
    def finish(self) -> None: ...


class Recorder:
    """The actor behind `Endpoint.feed`: lists the actions."""

    def __init__(self) -> None:
        self.actions: list[Action] = []

    def send(self, octets: bytes, path: Path, ecn: int, at_ns: int) -> None:
        self.actions.append(Send(octets, path, ecn, at_ns))

    def set_timer(self, name: str, at_ns: int, path: Path) -> None:
        self.actions.append(SetTimer(name, at_ns, path))

    def cancel_timer(self, name: str, path: Path) -> None:
        self.actions.append(CancelTimer(name, path))

    def deliver(self, data: bytes) -> None:
        self.actions.append(Deliver(data))

    def tell(self, notice: Any) -> None:
        self.actions.append(Tell(notice))

    def metric(self, values: dict[str, float]) -> None:
        self.actions.append(Metric(values))

    def note(self, name: str, fields: dict[str, Any]) -> None:
        self.actions.append(Note(name, fields))

    def finish(self) -> None:
        self.actions.append(Done())


class _Refusal:
    """The actor of an endpoint that is done, or that nothing happens to."""

    def __getattr__(self, name: str) -> Any:
        raise LocalProtocolError(f"{name} after done, or outside a handler")


_REFUSAL: Any = _Refusal()


class Context:
    """What a handler may ask for, of whoever drives the endpoint."""

    __slots__ = ("_actor", "lingering", "now", "path", "rng", "tracing")

    def __init__(self) -> None:
        self.now = 0
        """The time, in integer nanoseconds."""
        self.rng = Substream(0, "endpoint")
        """The endpoint's own random numbers; the driver gives a stream derived from its seed."""
        self.path = Path("", "")
        """The path that the endpoint was opened on."""
        self.tracing = True
        """Whether anybody looks at metrics and remarks: without, they need not be made."""
        self.lingering = False
        """Whether all is over and the endpoint is there only to answer a peer who does not know it yet."""
        self._actor: Actor = _REFUSAL

    def send(
        self,
        header: Header | bytes,
        payload: bytes = b"",
        path: Path | None = None,
        ecn: int = 0,
        at: int = 0,
    ) -> None:
        """Send a packet, not before `at` (ns); lengths and checksum left at AUTO are filled in.

        Octets in place of the header are a packet as it is, from `Endpoint.encode`.

        Raises:
            LocalProtocolError: the packet is larger than the path takes, or the endpoint is done.
            FieldError: a value that the header cannot hold.
        """
        if path is None:
            path = self.path
        if header.__class__ is bytes:
            octets: bytes = header
        else:
            octets = header._pack(payload, path.lower, None) + payload  # type: ignore[union-attr]
        if len(octets) > path.mtu - path.overhead:
            raise LocalProtocolError(
                f"{path}: a packet of {len(octets)} octets, there is room for {path.room}"
            )
        self._actor.send(octets, path, ecn, at)

    def timer(
        self, name: str, *, at: int | None = None, after: int | None = None, path: Path | None = None
    ) -> None:
        """Set the timer `name` at a time, or after a duration (ns); one that runs already is moved.

        Raises:
            LocalProtocolError: a time in the past, or neither or both of `at` and `after`.
        """
        if after is not None and at is None:
            at = self.now + after
        elif at is None or after is not None:
            raise LocalProtocolError(f"timer {name!r}: give one of at= and after=")
        if at < self.now:
            raise LocalProtocolError(f"timer {name!r}: {self.now - at} ns in the past")
        self._actor.set_timer(name, at, self.path if path is None else path)

    def cancel(self, name: str, path: Path | None = None) -> None:
        """Stop the timer `name`; nothing happens when it does not run."""
        self._actor.cancel_timer(name, path or self.path)

    def deliver(self, data: bytes) -> None:
        """Hand octets, or one message, to the application."""
        self._actor.deliver(data)

    def event(self, notice: Notice) -> None:
        """Tell the application: `Connected()`, `PeerClosed()`, `Writable(n)`, or something of one's own."""
        self._actor.tell(notice)

    def metric(self, **values: float) -> None:
        """Values for the plots."""
        if self.tracing:
            self._actor.metric(values)

    def trace(self, name: str, **fields: Any) -> None:
        """A remark for the trace."""
        if self.tracing:
            self._actor.note(name, fields)

    def linger(self, after: int) -> None:
        """All is over: tell the application `Closed()`, and be done when so long (ns) after the last such
        call the timer "linger" is due, which `on_timer` does not see. Until then the endpoint answers a peer
        who asks again.
        """
        if not self.lingering:
            self.lingering = True
            self.event(Closed())
        self.timer("linger", after=after)

    def done(self) -> None:
        """The endpoint is finished: nothing may be asked for any more, and its timers are gone."""
        self._actor.finish()
        self._actor = _REFUSAL


class Endpoint:
    """Base of transport protocols: subclass it with `header=` and write handlers.

    A packet whose octets are no such header, are cut short or have a wrong checksum is dropped and counted in
    `dropped` by reason, whatever it contains: anyone can forge a packet. What a handler raises is a mistake
    of the protocol's author and goes through.

    Raises:
        TypeError: a subclass without a header.
    """

    header: ClassVar[type[Header]]
    """The header of this protocol's packets."""

    encode: Encoder
    """`encode(path, payload, **fields)` makes a packet's octets for `cx.send`, with no header in between."""

    _valid: ClassVar[Callable[[bytes, Header, Path], bool] | None]
    _is_sound: Callable[[bytes, Header, Path], bool] | None

    _cx: Context
    _parse: Callable[[bytes, int, int], tuple[Header, int, int]]
    dropped: Counter[str]
    """Packets that did not reach `on_packet`, by reason."""

    def __init_subclass__(cls, header: type[Header] | None = None, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if header is not None:
            cls.header = header
            cls.encode = encoder(header)
            validator = _validator(header)
            cls._valid = staticmethod(validator) if validator else None
        elif not hasattr(cls, "header"):
            raise TypeError(
                f"{cls.__name__}: which header? Write `class {cls.__name__}(Endpoint, header=...)`"
            )

    def __new__(cls, *arguments: Any, **keywords: Any) -> Any:
        self = super().__new__(cls)  # not in __init__, so that subclasses need not call ours
        self._cx = Context()
        self._parse, self._is_sound = compiled(cls.header)._parse, cls._valid
        self.dropped = Counter()
        return self

    def room(self, path: Path) -> int:
        """Octets of payload that fit a packet on `path` behind a header without options."""
        return path.room - self.header.min_len

    def pieces(self, path: Path, data: bytes) -> Iterator[bytes]:
        """`data` cut into payloads, each as large as fits a packet on `path`."""
        most = self.room(path)
        return (data[at : at + most] for at in range(0, len(data), most))

    # ---- what a protocol defines ------------------------------------------------------------------

    def on_open(self, cx: Context, role: Role) -> None:
        """The endpoint begins; `cx.path` is where to."""

    def on_packet(self, cx: Context, packet: Packet) -> None:
        """A sound packet arrived."""

    def on_timer(self, cx: Context, name: str, path: Path) -> None:
        """A timer is due, and no longer set."""

    def on_app(self, cx: Context, operation: Any) -> None:
        """The application wants something: `Write(data)`, `Close()`, ..., or an operation of one's own."""

    def on_path(self, cx: Context, event: PathEvent) -> None:
        """The network says something of a path."""

    @property
    def backlog(self) -> int:
        """Octets that were written and not sent yet, where the protocol counts them."""
        return 0

    def metrics(self) -> dict[str, float]:
        """How it stands, in the names and units of `cx.metric`: what a protocol has of srtt, rto, cwnd ..."""
        return {}

    # ---- what drives it -----------------------------------------------------------------------------

    def use(self, rng: Substream, *, tracing: bool = True) -> None:
        """Take this stream for `cx.rng`, and say whether metrics and remarks are wanted. Before the first
        event.
        """
        self._cx.rng, self._cx.tracing = rng, tracing

    def feed(self, now_ns: int, event: Any) -> list[Action]:
        """Let something happen at a time, and return what the endpoint wants done, in order.

        Events are those of `rawkit.transport.events`; anything else is an operation of the application.
        """
        recorder = Recorder()
        self.happen(now_ns, event, recorder)
        return recorder.actions

    def happen(self, now_ns: int, event: Any, actor: Actor) -> None:
        """As `feed`, but `actor` is told at once what the endpoint wants done; it must not feed it
        meanwhile.
        """
        kind = type(event)
        if kind is Arrival:
            self.arrive(now_ns, actor, *event)
            return
        cx = self._cx
        cx.now, cx._actor = now_ns, actor
        if kind is Fired:
            if cx.lingering and event.name == "linger":
                cx.done()
            else:
                self.on_timer(cx, *event)
        elif kind is Open:
            cx.path = event.path
            self.on_open(cx, event.role)
        elif kind is Unreachable or kind is MtuChanged:
            self.on_path(cx, event)
        else:
            self.on_app(cx, event)

    def arrive(self, now_ns: int, actor: Actor, octets: bytes, path: Path, ecn: int = 0) -> None:
        """As `happen` with `Arrival(octets, path, ecn)`."""
        try:
            parse = self._parse
            header, at, end = parse(octets, 0, len(octets))
            valid = self._is_sound
            # None: one Internet checksum over everything, with which all ones come out (RFC 1071).
            sound = checksum.add(0, octets) == 0xFFFF if valid is None else valid(octets, header, path)
        except HeaderError as error:
            self.dropped[type(error).__name__.lower()] += 1
            return
        if sound:
            cx = self._cx
            cx.now, cx._actor = now_ns, actor
            packet = _new(Packet)  # calling the class takes twice as long
            packet.header, packet.payload, packet.path, packet.ecn = header, octets[at:end], path, ecn
            packet.count = 1
            self.on_packet(cx, packet)
        else:
            self.dropped["checksum"] += 1

    def arrive_together(
        self, now_ns: int, actor: Actor, octets: bytes, payload: bytes, count: int, path: Path, ecn: int = 0
    ) -> bool:
        """As `arrive`, for `count` packets that follow each other, all found sound: `octets` is the first,
        `payload` what all of them carry. False where the header is longer than its least: then they have to
        come one by one.
        """
        header, at, _ = self._parse(octets, 0, len(octets))
        if at != self.header.min_len:
            return False
        cx = self._cx
        cx.now, cx._actor = now_ns, actor
        packet = Packet(header, payload, path, ecn)
        packet.count = count
        self.on_packet(cx, packet)
        return True


def soundness(header: type[Header]) -> Callable[[bytes, Header, Path], bool]:
    """The function of octets, the header parsed from them and the path they came on that says whether the
    checksums are right.
    """
    return _validator(header) or (lambda octets, parsed, path: checksum.add(0, octets) == 0xFFFF)


def _validator(header: type[Header]) -> Callable[[bytes, Header, Path], bool] | None:
    """A function that says whether the checksums in octets of this header are right.

    None for one Internet checksum over everything and nothing else, which `arrive` verifies itself.
    """
    checks = [
        (row, row.spec.rule) for row in header.fields if isinstance(row.spec.rule, (ChecksumRule, CRC32cRule))
    ]
    if not checks:
        return lambda octets, parsed, path: True
    if len(checks) == 1:
        rule = checks[0][1]
        plain = isinstance(rule, ChecksumRule) and not (
            rule.coverage or rule.skips[1] or rule.absent_when or not rule.payload
        )
        if plain and isinstance(rule, ChecksumRule):
            return _sum_with_addresses(header) if rule.pseudo_header else None
    rows = [row for row, _ in checks]
    return lambda octets, parsed, path: _built_again(octets, parsed, path, rows)


def _sum_with_addresses(header: type[Header]) -> Callable[[bytes, Header, Path], bool]:
    def valid(octets: bytes, parsed: Header, path: Path) -> bool:
        lower = path.lower_back
        pseudo = lower and lower.pseudo_header(lower._number_of(header), len(octets))
        # Without addresses the field was left 0, and there is nothing to verify.
        return not pseudo or checksum.add(checksum.add(0, pseudo), octets) == 0xFFFF

    return valid


def _built_again(octets: bytes, parsed: Header, path: Path, rows: list[FieldInfo]) -> bool:
    """Whether building the same header would give its checksum fields the values that they have."""
    found = {row.slot: getattr(parsed, row.slot) for row in rows}
    _, at, _ = type(parsed)._parse(octets, 0, len(octets))
    for slot, value in found.items():
        if value is not None:
            setattr(parsed, slot, AUTO)
    try:
        return parsed._pack(octets[at:], path.lower_back, None) == octets[:at]
    except FieldError:
        return False
    finally:
        for slot, value in found.items():
            setattr(parsed, slot, value)
