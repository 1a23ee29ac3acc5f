"""Exchanges without I/O: the schedule, and what an answer is credited to, by a clock moved by hand."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from rawkit.errors import EngineError
from rawkit.tools.departure import LINKTYPE_IPV4, Departure
from rawkit.tools.exchanger import Answer, ExchangeConfig, Exchanger, Sent
from rawkit.tools.roundtrip import Moment
from rawkit.wire import UDP, ICMPEcho, IPv4, Packet

MS = 1_000_000
EPOCH = 1_700_000_000_000_000_000
US, THEM = "192.0.2.1", "192.0.2.2"


def at(ms: float) -> Moment:
    return Moment(EPOCH + int(ms * MS), int(ms * MS))


def departure(packet: Packet) -> Departure:
    return Departure(packet, bytes(packet), "", 0, LINKTYPE_IPV4)


def echo(seq: int) -> Departure:
    return departure(IPv4(src=US, dst=THEM) / ICMPEcho(id=1, seq=seq))


def reply(seq: int) -> bytes:
    return bytes(IPv4(src=THEM, dst=US) / ICMPEcho(type=0, id=1, seq=seq))


def exchanger(*departures: Departure, **config: Any) -> Exchanger:
    return Exchanger(departures, ExchangeConfig(**{"timeout_ns": 100 * MS} | config))


def send(core: Exchanger, ms: float, at_most: int = 64) -> list[int]:
    numbers = core.next(at(ms).monotonic_ns, at_most)
    for number in numbers:
        assert isinstance(core.sent(number, at(ms)), Sent)
    return numbers


def arrive(core: Exchanger, octets: bytes, ms: float) -> Answer | None:
    return core.received(octets, LINKTYPE_IPV4, at(ms), at(ms).realtime_ns)


def due_ms(core: Exchanger) -> float | None:
    due_ns = core.due_ns()
    return None if due_ns is None else due_ns / MS


def test_each_is_sent_once_and_it_ends_with_the_last_answer() -> None:
    core = exchanger(echo(0), echo(1), echo(2))
    assert due_ms(core) == 0
    assert send(core, 10, at_most=2) == [0, 1]
    assert send(core, 11) == [2]
    assert due_ms(core) == 110
    for seq in (2, 0, 1):
        answer = arrive(core, reply(seq), 20 + seq)
        assert answer is not None
        assert (answer.number, answer.rtt_ns, answer.stamp) == (
            seq,
            {0: 10, 1: 11, 2: 11}[seq] * MS,
            "kernel",
        )
    assert list(core.expired(at(22))) == []
    assert core.due_ns() is None
    assert [outcome.answer is not None for outcome in core.outcomes] == [True] * 3


def test_what_is_not_answered_is_repeated_and_then_given_up() -> None:
    core = exchanger(echo(0), echo(1), retries=2)
    send(core, 0)
    assert arrive(core, reply(1), 5) is not None
    for attempt in (1, 2):
        assert due_ms(core) == 100 * attempt
        assert list(core.expired(at(100 * attempt))) == []
        assert send(core, 100 * attempt) == [0]
    assert due_ms(core) == 300
    assert list(core.expired(at(299))) == []
    (event,) = core.expired(at(300))
    assert event.outcome is core.outcomes[0]
    assert core.due_ns() is None
    assert [ns - EPOCH for ns in core.outcomes[0].sent_ns] == [0, 100 * MS, 200 * MS]


def test_an_answer_belongs_to_the_last_attempt_before_it() -> None:
    core = exchanger(echo(0), retries=1, linger_ns=500 * MS)
    send(core, 0)
    list(core.expired(at(100)))
    send(core, 100)
    # Both arrive after the second attempt was made; the kernel saw the first one before.
    first = core.received(reply(0), LINKTYPE_IPV4, at(130), at(99.5).realtime_ns)
    second = arrive(core, reply(0), 130)
    assert first is not None
    assert second is not None
    assert (first.attempt, first.rtt_ns, first.duplicate) == (1, 99.5 * MS, False)
    assert (second.attempt, second.rtt_ns, second.duplicate) == (2, 30 * MS, True)
    assert core.outcomes[0].answers == [first, second]


def test_late_answers_are_credited_while_it_lingers() -> None:
    core = exchanger(echo(0), linger_ns=50 * MS)
    send(core, 0)
    assert len(list(core.expired(at(100)))) == 1
    assert due_ms(core) == 150
    late = arrive(core, reply(0), 149)
    assert late is not None
    assert (late.late, late.duplicate, late.rtt_ns) == (True, False, 149 * MS)
    again = arrive(core, reply(0), 149.5)
    assert again is not None
    assert (again.late, again.duplicate) == (False, True)
    assert due_ms(core) == 150
    assert list(core.expired(at(150))) == []
    assert core.due_ns() is None


def test_a_request_that_waits_to_be_repeated_is_not_when_its_answer_came() -> None:
    core = exchanger(echo(0), retries=5)
    send(core, 0)
    list(core.expired(at(100)))
    assert arrive(core, reply(0), 101) is not None
    assert send(core, 102) == []
    list(core.expired(at(102)))
    assert core.due_ns() is None


def test_nothing_is_an_answer_before_it_was_asked_for() -> None:
    core = exchanger(echo(0), rate=10.0)
    assert arrive(core, reply(0), 0) is None
    send(core, 1)
    assert arrive(core, reply(0), 2) is not None


def test_the_kernels_stamps_on_both_ends() -> None:
    core = exchanger(echo(0), echo(1), echo(2))
    send(core, 10)
    core.departed(0, 1, at(10.5).realtime_ns)
    core.departed(1, 1, at(9).realtime_ns)  # before it was sent: not about this one
    for seq, rtt_ms, stamp in ((0, 9.5, "kernel"), (1, 10, "user"), (2, 10, "user")):
        answer = arrive(core, reply(seq), 20)
        assert answer is not None
        assert (answer.rtt_ns, answer.tx_stamp) == (rtt_ms * MS, stamp)
    assert core.outcomes[0].sent_ns == [at(10.5).realtime_ns]


def test_a_rate_is_kept() -> None:
    core = exchanger(*map(echo, range(5)), rate=100.0)
    sent = [number for ms in range(41) for number in send(core, 1000 + ms)]
    assert sent == [0, 1, 2, 3, 4]
    assert [ns - at(1000).realtime_ns for outcome in core.outcomes for ns in outcome.sent_ns] == [
        0, 10 * MS, 20 * MS, 30 * MS, 40 * MS,
    ]  # fmt: skip


def test_full_queues_are_tried_again_for_as_long_as_an_answer_is_worth() -> None:
    core = exchanger(echo(0), echo(1), echo(2))
    full = EngineError(errno.ENOBUFS, "send")
    assert core.next(0, 64) == [0, 1, 2]
    core.sent(0, at(0))
    assert list(core.refused([1, 2], full, at(1).monotonic_ns)) == []
    assert send(core, 1.5) == []
    assert due_ms(core) == 2
    assert core.next(at(2).monotonic_ns, 1) == [1]
    core.sent(1, at(2))
    assert core.next(at(101).monotonic_ns, 64) == [2]
    (event,) = core.refused([2], full, at(101).monotonic_ns)
    assert event.outcome.error is full
    assert due_ms(core) == 100


def test_one_that_cannot_be_sent_holds_up_no_other() -> None:
    core = exchanger(echo(0), echo(1))
    assert core.next(0, 64) == [0, 1]
    error = EngineError(errno.EMSGSIZE, "send")
    assert core.failed(0, error, 0).outcome.error is error
    core.sent(1, at(0))
    assert arrive(core, reply(0), 1) is None
    assert arrive(core, reply(1), 1) is not None
    list(core.expired(at(1)))
    assert core.due_ns() is None


def test_a_request_that_comes_in_over_the_loopback_answers_no_other() -> None:
    there = departure(IPv4(src=US, dst=US) / UDP(sport=5, dport=6) / b"x")
    back = departure(IPv4(src=US, dst=US) / UDP(sport=6, dport=5) / b"y")
    core = exchanger(there, back)
    send(core, 0)
    assert arrive(core, there.octets, 1) is None
    assert arrive(core, back.octets, 1) is None
    assert arrive(core, bytes(IPv4(src=US, dst=US) / UDP(sport=5, dport=6) / b"z"), 1) is not None


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"timeout_ns": 0}, "timeout"),
        ({"retries": -1}, "retries"),
        ({"rate": 0.0}, "rate"),
        ({"linger_ns": -1}, "linger"),
    ],
)
def test_numbers_that_make_no_sense(config: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        ExchangeConfig(**config)
