"""Driving a core that never waits: lanes of sockets, steps that never block, two ways to wait between them.

A core (`tools.exchanger`, `tools.tracer`) says what to send and makes events of what comes. A lane holds the
sockets for what leaves, and is heard, the same way. A `Session` moves between them.
"""

from __future__ import annotations

import errno
import time
from collections.abc import AsyncIterator, Generator, Hashable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any, Generic, Protocol, Self, TypeVar

from rawkit.engine.aio import Waits, wait_readable
from rawkit.engine.batch import KERNEL_TIME, FrameBatch
from rawkit.engine.filter import Filter
from rawkit.engine.sockets import PacketSocket, RawIPSocket
from rawkit.engine.stamps import TransmitStamps
from rawkit.errors import EngineError
from rawkit.tools.departure import Departure, open_sender
from rawkit.tools.roundtrip import Moment

SEND_AT_ONCE = 64
"""Packets between looks at what came: the receive buffer holds the answers to many times that."""

_BUFFER_LEN = 4 << 20
_BATCHES_AT_ONCE = 16  # of what came, between looks at what else there is to do

Event = TypeVar("Event")
AnyEvent = TypeVar("AnyEvent", covariant=True)


class Core(Protocol[AnyEvent]):
    """What decides, without I/O. Times are the monotonic clock's, in nanoseconds."""

    def due_ns(self) -> int | None:
        """When there is something to do besides receiving (0: now); None: it is over."""
        ...

    def next(self, now_ns: int, at_most: int) -> list[int]:
        """The numbers of packets to send now. Each is to be followed by `sent`, `failed` or `refused`."""
        ...

    def octets(self, number: int) -> bytes:
        """What to send."""
        ...

    def sent(self, number: int, moment: Moment) -> Any:
        """It is on its way; `moment` was taken right before. Returns an event with its `attempt`."""
        ...

    def departed(self, number: int, attempt: int, time_ns: int) -> None:
        """The kernel's own stamp on an attempt."""
        ...

    def refused(self, numbers: Sequence[int], error: EngineError, now_ns: int) -> Iterable[AnyEvent]:
        """Queues are full."""
        ...

    def failed(self, number: int, error: EngineError, now_ns: int) -> AnyEvent:
        """It cannot be sent."""
        ...

    def received(self, octets: bytes, linktype: int, seen: Moment, stamp_ns: int | None) -> AnyEvent | None:
        """The event that these octets are, if they are one.

        `stamp_ns` is the kernel's stamp on their arrival, `seen` a moment after they were received.
        """
        ...

    def expired(self, now: Moment) -> Iterable[AnyEvent]:
        """What was not answered in time."""
        ...


class Lane:
    """A socket that sends and one that receives, for what leaves as `departure` does; closed by `stack`.

    `protocol` is the EtherType to hear, `octets_max` the length of the longest packet that will be sent.
    With `own`, a raw IP socket, that one does both, and nothing is stamped as it leaves.
    """

    def __init__(
        self,
        departure: Departure,
        stack: ExitStack,
        octets_max: int,
        protocol: int = 0,
        filter: Filter | None = None,
        own: RawIPSocket | None = None,
    ) -> None:
        self._linktype = departure.linktype
        self._ifindex = departure.ifindex
        self._sender: PacketSocket | RawIPSocket
        self.receiver: PacketSocket | RawIPSocket
        if own is not None:
            stack.enter_context(own)
            self._sender, self.receiver = own, own
        else:
            # What goes out is not wanted; on the loopback it comes in as well, and so does the answer.
            self.receiver = PacketSocket(
                departure.ifindex or None,
                cooked=departure.is_ip,
                protocol=protocol,
                filter=filter,
                ignore_outgoing=True,
                buffer_len=_BUFFER_LEN,
            )
            stack.enter_context(self.receiver)
            self._sender = open_sender(departure)
            stack.enter_context(self._sender)
        self._out = FrameBatch(SEND_AT_ONCE, SEND_AT_ONCE * octets_max)
        # Of each attempt of each packet.
        self._stamps: TransmitStamps[tuple[int, int]] | None = None
        if own is None:
            self._stamps = TransmitStamps(self._sender.fileno(), self._sender.name)

    def ignore_path_mtu(self) -> None:
        """Of a lane of IP packets: send up to the interface's MTU, whatever the kernel believes of a path."""
        assert isinstance(self._sender, RawIPSocket)
        self._sender.ignore_path_mtu()

    def descriptors(self) -> list[int]:
        """What to wait for."""
        return [] if self.receiver.closed else [self.receiver.fileno()]

    def dropped(self) -> int:
        """How much was lost because the receive buffer was full."""
        return self.receiver.counters().dropped

    def forget(self, batch: FrameBatch) -> None:
        """Throw away what has come; where more comes all the time, for 10 ms."""
        give_up_ns = time.monotonic_ns() + 10_000_000
        while self.receiver.receive(batch, 0) and time.monotonic_ns() < give_up_ns:
            pass
        if self._stamps is not None:
            self._stamps.refused()

    def send(self, core: Core[Event], numbers: Sequence[int]) -> Iterator[Event]:
        """Send what the core has chosen."""
        self._out.clear()
        self._out.extend([core.octets(number) for number in numbers])
        if self._ifindex:
            for i in range(len(numbers)):
                self._out.handle.frames[i].ifindex = self._ifindex
        events: list[Event] = []
        done = 0
        while done < len(numbers):
            moment = Moment.now()
            try:
                accepted = self._sender.send_batch(self._out, done, timeout=0)
                if accepted == 0:
                    raise EngineError(errno.EAGAIN, "send", self._sender.name, "the send buffer stayed full")
            except EngineError as error:
                self._take_stamps(core)
                if self._stamps is not None:
                    self._stamps.refused()
                if error.errno in (errno.EAGAIN, errno.ENOBUFS):
                    events += core.refused(numbers[done:], error, moment.monotonic_ns)
                    break
                events.append(core.failed(numbers[done], error, moment.monotonic_ns))
                done += 1
                continue
            for number in numbers[done : done + accepted]:
                sent = core.sent(number, moment)
                if self._stamps is not None:
                    self._stamps.sent((number, sent.attempt))
                events.append(sent)
            done += accepted
        # Only now: whoever gets an event may do anything before the next one is asked for.
        yield from events

    def receive(self, core: Core[Event], batch: FrameBatch) -> Generator[Event, None, bool]:
        """The events in what has come, or in much of it: returns whether there may be more."""
        for _ in range(_BATCHES_AT_ONCE):
            if self.receiver.closed or self.receiver.receive(batch, 0) == 0:
                return False
            # What is answered has left before, and so has its stamp.
            self._take_stamps(core)
            seen = Moment.now()
            for record, octets in list(zip(batch.records(), batch)):
                stamp_ns = record.time_ns if record.flags & KERNEL_TIME else None
                # This process may have woken up long after the packet came, and after others should have.
                yield from core.expired(seen if stamp_ns is None else seen.at(stamp_ns))
                event = core.received(octets, self._linktype, seen, stamp_ns)
                if event is not None:
                    yield event
        return True

    def _take_stamps(self, core: Core[Event]) -> None:
        if self._stamps is not None:
            for (number, attempt), time_ns in self._stamps.take():
                core.departed(number, attempt, time_ns)


class AnyLane(Protocol):
    """What a session asks of a lane; see `Lane`."""

    def descriptors(self) -> list[int]: ...
    def dropped(self) -> int: ...
    def forget(self, batch: FrameBatch) -> None: ...
    def send(self, core: Core[Event], numbers: Sequence[int]) -> Iterator[Event]: ...
    def receive(self, core: Core[Event], batch: FrameBatch) -> Generator[Event, None, bool]: ...


class Session(Generic[Event]):
    """Iterate over it for what happens, as it happens; `async for` does the same in a running asyncio loop.

    What arrives is heard from the moment the object is made. Use it in a `with` block, or call `close`.
    A subclass opens lanes, and says which one a packet takes.
    """

    def __init__(self) -> None:
        self._in = FrameBatch(256, 1 << 19)
        self._waits = Waits()
        self._dropped = 0
        self._lanes: dict[Hashable, AnyLane] = {}
        self._opened = ExitStack()

    def _start(self) -> Core[Event]:
        """The core of an iteration that begins."""
        raise NotImplementedError

    def _lane_of(self, number: int) -> Hashable:
        """The lane that packet `number` takes."""
        raise NotImplementedError

    @property
    def dropped(self) -> int:
        """Packets that may have been answers, and were lost because the receive buffer was full."""
        return self._dropped + sum(lane.dropped() for lane in self._lanes.values())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the sockets; an iteration that is under way ends. May be called twice."""
        self._waits.end()
        self._dropped = self.dropped
        self._lanes = {}
        self._opened.close()

    def __iter__(self) -> Iterator[Event]:
        core = self._start()
        while self._lanes and core.due_ns() is not None:
            yield from self._step(core)
            if descriptors := self._descriptors():
                wait_readable(descriptors, core.due_ns() or 0)

    async def __aiter__(self) -> AsyncIterator[Event]:
        core = self._start()
        while self._lanes and core.due_ns() is not None:
            for event in self._step(core):
                yield event
            if descriptors := self._descriptors():
                left_ns = (core.due_ns() or 0) - time.monotonic_ns()
                await self._waits.ready(descriptors, max(left_ns, 0) / 1e9)

    def _descriptors(self) -> list[int]:
        return [descriptor for lane in self._lanes.values() for descriptor in lane.descriptors()]

    def _step(self, core: Core[Event]) -> Iterator[Event]:
        """Do all there is to do now, without waiting."""
        numbers: dict[Hashable, list[int]] = {}
        for number in core.next(time.monotonic_ns(), SEND_AT_ONCE):
            numbers.setdefault(self._lane_of(number), []).append(number)
        for way, group in numbers.items():
            if way in self._lanes:  # not closed meanwhile
                yield from self._lanes[way].send(core, group)
        # What is overdue now and not among what has arrived did not come in time. A later moment would count
        # answers as lost that came while this process, or who takes the events, was busy.
        now = Moment.now()
        for lane in list(self._lanes.values()):
            if self._lanes and (yield from lane.receive(core, self._in)):
                return
        yield from core.expired(now)
