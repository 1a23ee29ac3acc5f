"""Send packets, and pair each with what answers it.

Answers are recognised by `Packet.answers`: replies of the protocols rawkit knows, and ICMP errors that quote
a request. `exchange` does it all, `aexchange` does it in a running asyncio loop; an `Exchange` tells what
happens while it happens, to `for` and to `async for`. What they share (`tools.exchanger`) never waits.

The kernel is a party to this. It does not know of a connection that a packet of ours opens, and answers a
SYN-ACK with a RST of its own after the SYN-ACK was handed to us: exchanges work, but a handshake needs a
socket that holds the port, or an address that is not the kernel's. On a raw IP socket the kernel also fills
in the total length and the header checksum of IPv4, and the identification where it is 0; to send those
wrong, start with `Ether`.
"""

from __future__ import annotations

import errno
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Self, overload

from rawkit.bulk.answerfilter import answer_filter
from rawkit.engine.aio import Waits, wait_readable
from rawkit.engine.batch import KERNEL_TIME, FrameBatch
from rawkit.engine.filter import Filter
from rawkit.engine.interface import LINKTYPE_ETHERNET
from rawkit.engine.sockets import ETH_P_ALL, PacketSocket
from rawkit.engine.stamps import TransmitStamps
from rawkit.errors import EngineError
from rawkit.tools.departure import LINKTYPE_IPV4, Departure, open_sender, prepare
from rawkit.tools.exchanger import Answer as Answer
from rawkit.tools.exchanger import ExchangeConfig as ExchangeConfig
from rawkit.tools.exchanger import ExchangeEvent as ExchangeEvent
from rawkit.tools.exchanger import Exchanger
from rawkit.tools.exchanger import Outcome as Outcome
from rawkit.tools.exchanger import Sent as Sent
from rawkit.tools.exchanger import Unanswered as Unanswered
from rawkit.tools.roundtrip import Moment
from rawkit.units import parse_duration
from rawkit.wire.header import Header
from rawkit.wire.packet import Packet

_SEND_AT_ONCE = (
    64  # requests between looks at what came: the receive buffer holds the answers to many times that
)
_BUFFER_LEN = 4 << 20
_BATCHES_AT_ONCE = 16  # of what came, between looks at what else there is to do
_ETHER_LEN = 14
_ARP = 0x0806
_IP_VERSIONS = {0x0800: 4, 0x86DD: 6}


@overload
def exchange(  # type: ignore[overload-overlap]  # a packet iterates over its headers
    packets: Packet | Header,
    *,
    timeout: float = ...,
    retries: int = ...,
    rate: float | None = ...,
    linger: float = ...,
    interface: str | None = ...,
) -> Answer | None: ...
@overload
def exchange(
    packets: Iterable[Packet | Header],
    *,
    timeout: float = ...,
    retries: int = ...,
    rate: float | None = ...,
    linger: float = ...,
    interface: str | None = ...,
) -> list[Outcome]: ...
def exchange(
    packets: Packet | Header | Iterable[Packet | Header],
    *,
    timeout: float = 1.0,
    retries: int = 0,
    rate: float | None = None,
    linger: float = 0.0,
    interface: str | None = None,
) -> Answer | list[Outcome] | None:
    """Send a packet and return the first that answers it, None if none does; or send many, and tell of each.

        answer = rawkit.exchange(IPv4(dst="192.0.2.1") / TCP(sport=40000, dport=80, flags="S"))
        if answer is not None and TCP in answer: ...
        for outcome in rawkit.exchange(probes, retries=2):
            print(outcome.request, outcome.answer)

    An answer is waited for `timeout` seconds, and then the packet is sent again, up to `retries` times.
    `rate` limits packets per second. For `linger` seconds after the last packet was answered or given up,
    duplicates and late answers are listened for. ICMP errors that quote a request are answers too.

    Listening begins before anything is sent. Where no interface is named, answers to an IP packet are heard
    on all of them: they need not come the way the request went, and this host's own "host unreachable" comes
    over the loopback.

    Raises: `TargetError` for a packet that cannot be sent, `NoRoute`, `UnknownInterface`, `FieldError`,
    `PermissionDenied`; ValueError for a number that makes no sense; `EngineError` with the kernel's reason
    (of many packets only where it concerns all).
    """
    one, session = _open(packets, timeout, retries, rate, linger, interface)
    with session:
        for _ in session:
            pass
        return _one(session.outcomes[0]) if one else session.outcomes


@overload
async def aexchange(  # type: ignore[overload-overlap]
    packets: Packet | Header,
    *,
    timeout: float = ...,
    retries: int = ...,
    rate: float | None = ...,
    linger: float = ...,
    interface: str | None = ...,
) -> Answer | None: ...
@overload
async def aexchange(
    packets: Iterable[Packet | Header],
    *,
    timeout: float = ...,
    retries: int = ...,
    rate: float | None = ...,
    linger: float = ...,
    interface: str | None = ...,
) -> list[Outcome]: ...
async def aexchange(
    packets: Packet | Header | Iterable[Packet | Header],
    *,
    timeout: float = 1.0,
    retries: int = 0,
    rate: float | None = None,
    linger: float = 0.0,
    interface: str | None = None,
) -> Answer | list[Outcome] | None:
    """As `exchange`, while the running asyncio loop's other tasks go on.

    Routes and interfaces are looked up before anything is sent, about a millisecond each.
    """
    one, session = _open(packets, timeout, retries, rate, linger, interface)
    with session:
        async for _ in session:
            pass
        return _one(session.outcomes[0]) if one else session.outcomes


def _open(
    packets: Packet | Header | Iterable[Packet | Header],
    timeout: float,
    retries: int,
    rate: float | None,
    linger: float,
    interface: str | None,
) -> tuple[bool, Exchange]:
    one = isinstance(packets, (Packet, Header))
    config = ExchangeConfig(parse_duration(timeout), retries, rate, parse_duration(linger) if linger else 0)
    return one, Exchange(
        [packets] if isinstance(packets, (Packet, Header)) else packets, config, interface=interface
    )


def _one(outcome: Outcome) -> Answer | None:
    if outcome.error is not None:
        raise outcome.error
    return outcome.answer


class Exchange:
    """An exchange: iterate over it for what happens, `Sent`, `Answer` and `Unanswered`, as it happens.

        with Exchange(packets) as session:
            for event in session:
                ...
        session.outcomes

    `async for` does the same in a running asyncio loop. What arrives is heard from the moment the object is
    made. Iterating again sends all of it again. Use it in a `with` block, or call `close`.

    Raises: as `exchange`.
    """

    def __init__(
        self,
        packets: Iterable[Packet | Header],
        config: ExchangeConfig | None = None,
        *,
        interface: str | None = None,
    ) -> None:
        self.config = config or ExchangeConfig()
        self.departures = [prepare(packet, interface) for packet in packets]
        """The packets as they are sent."""
        self._core = Exchanger(self.departures, self.config)
        self._in = FrameBatch(256, 1 << 19)
        self._waits = Waits()
        self._dropped = 0
        self._lanes: dict[_Way, _Lane] = {}
        ways: dict[_Way, list[Departure]] = {}
        for departure in self.departures:
            ways.setdefault(_way(departure), []).append(departure)
        with ExitStack() as stack:
            for way, departures in ways.items():
                self._lanes[way] = _Lane(departures, way[2], stack)
            self._opened = stack.pop_all()

    @property
    def outcomes(self) -> list[Outcome]:
        """What became of each packet so far, in their order."""
        return self._core.outcomes

    @property
    def dropped(self) -> int:
        """Packets that may have been answers, and were lost because the receive buffer was full."""
        return self._dropped + sum(lane.receiver.counters().dropped for lane in self._lanes.values())

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

    def __iter__(self) -> Iterator[ExchangeEvent]:
        core = self._start()
        while self._lanes and core.due_ns() is not None:
            yield from self._step(core)
            if descriptors := self._descriptors():
                wait_readable(descriptors, core.due_ns() or 0)

    async def __aiter__(self) -> AsyncIterator[ExchangeEvent]:
        core = self._start()
        while self._lanes and core.due_ns() is not None:
            for event in self._step(core):
                yield event
            if descriptors := self._descriptors():
                left_ns = (core.due_ns() or 0) - time.monotonic_ns()
                await self._waits.ready(descriptors, max(left_ns, 0) / 1e9)

    def _descriptors(self) -> list[int]:
        return [lane.receiver.fileno() for lane in self._lanes.values()]

    def _start(self) -> Exchanger:
        if any(outcome.sent_ns or outcome.error for outcome in self._core.outcomes):
            self._core = Exchanger(self.departures, self.config)
            for lane in self._lanes.values():
                lane.forget(self._in)
        return self._core

    def _step(self, core: Exchanger) -> Iterator[ExchangeEvent]:
        """Do all there is to do now, without waiting."""
        numbers: dict[_Way, list[int]] = {}
        for number in core.next(time.monotonic_ns(), _SEND_AT_ONCE):
            numbers.setdefault(_way(self.departures[number]), []).append(number)
        for way, group in numbers.items():
            if way in self._lanes:  # not closed meanwhile
                yield from self._lanes[way].send(core, group)
        # What is overdue now and not among what has arrived did not come in time. A later moment would count
        # answers as lost that came while this process, or who takes the events, was busy.
        now = Moment.now()
        for lane in list(self._lanes.values()):
            for _ in range(_BATCHES_AT_ONCE):
                if not self._lanes or lane.receiver.receive(self._in, 0) == 0:
                    break
                yield from lane.received(core, self._in)
            else:
                return  # there may be more
        yield from core.expired(now)


_Way = tuple[int, int, int]
"""LINKTYPE_ number, interface and EtherType of what leaves, and is heard, the same way."""


def _way(departure: Departure) -> _Way:
    if departure.is_ip:
        return (
            departure.linktype,
            departure.ifindex,
            0x0800 if departure.linktype == LINKTYPE_IPV4 else 0x86DD,
        )
    protocol = ETH_P_ALL
    if departure.linktype == LINKTYPE_ETHERNET:
        ethertype = int.from_bytes(departure.octets[12:_ETHER_LEN], "big")
        # With tags, what is heard may be of another EtherType than what is sent.
        if ethertype in _IP_VERSIONS or ethertype == _ARP:
            protocol = ethertype
    return departure.linktype, departure.ifindex, protocol


class _Lane:
    """The sockets for what leaves the same way, closed by `stack`."""

    def __init__(self, departures: Sequence[Departure], protocol: int, stack: ExitStack) -> None:
        first = departures[0]
        self._departure = first
        # What goes out is not wanted; on the loopback it comes in as well, and so does the answer.
        self.receiver = stack.enter_context(
            PacketSocket(
                first.ifindex or None,
                cooked=first.is_ip,
                protocol=protocol,
                filter=_filter(departures, protocol),
                ignore_outgoing=True,
                buffer_len=_BUFFER_LEN,
            )
        )
        self._sender = stack.enter_context(open_sender(first))
        self._out = FrameBatch(_SEND_AT_ONCE, _SEND_AT_ONCE * max(len(d.octets) for d in departures))
        # Of each attempt of each request.
        self._stamps: TransmitStamps[tuple[int, int]] = TransmitStamps(
            self._sender.fileno(), self._sender.name
        )

    def forget(self, batch: FrameBatch) -> None:
        """Throw away what has come; where more comes all the time, for 10 ms."""
        give_up_ns = time.monotonic_ns() + 10_000_000
        while self.receiver.receive(batch, 0) and time.monotonic_ns() < give_up_ns:
            pass
        self._stamps.refused()

    def send(self, core: Exchanger, numbers: list[int]) -> Iterator[ExchangeEvent]:
        self._out.clear()
        self._out.extend([core.departures[number].octets for number in numbers])
        if self._departure.ifindex:
            for i in range(len(numbers)):
                self._out.handle.frames[i].ifindex = self._departure.ifindex
        events: list[ExchangeEvent] = []
        done = 0
        while done < len(numbers):
            moment = Moment.now()
            try:
                accepted = self._sender.send_batch(self._out, done, timeout=0)
                if accepted == 0:
                    raise EngineError(errno.EAGAIN, "send", self._sender.name, "the send buffer stayed full")
            except EngineError as error:
                self._take_stamps(core)
                self._stamps.refused()
                if error.errno in (errno.EAGAIN, errno.ENOBUFS):
                    events += core.refused(numbers[done:], error, moment.monotonic_ns)
                    break
                events.append(core.failed(numbers[done], error, moment.monotonic_ns))
                done += 1
                continue
            for number in numbers[done : done + accepted]:
                sent = core.sent(number, moment)
                self._stamps.sent((number, sent.attempt))
                events.append(sent)
            done += accepted
        # Only now: whoever gets an event may do anything before the next one is asked for.
        yield from events

    def received(self, core: Exchanger, batch: FrameBatch) -> Iterator[ExchangeEvent]:
        """The answers in a batch. What they answer has left before, and so has its stamp."""
        self._take_stamps(core)
        seen = Moment.now()
        linktype = self._departure.linktype
        for record, octets in list(zip(batch.records(), batch)):
            stamp_ns = record.time_ns if record.flags & KERNEL_TIME else None
            # This process may have woken up long after the packet came, and after others should have.
            yield from core.expired(seen if stamp_ns is None else seen.at(stamp_ns))
            answer = core.received(octets, linktype, seen, stamp_ns)
            if answer is not None:
                yield answer

    def _take_stamps(self, core: Exchanger) -> None:
        for (number, attempt), time_ns in self._stamps.take():
            core.departed(number, attempt, time_ns)


def _filter(departures: Sequence[Departure], protocol: int) -> Filter | None:
    version = _IP_VERSIONS.get(protocol)
    if version is None:
        return None
    link_len = 0 if departures[0].is_ip else _ETHER_LEN
    return answer_filter((departure.octets[link_len:] for departure in departures), version, link_len)
