"""What a sender with selective acknowledgements delivers where losses are independent: a Markov chain.

The oracle of check 27 outside the range of the PFTK formula, which supposes that a loss takes the rest of its
round with it, that fewer than three duplicates mean a time-out, and that nothing is sent until it comes. With
independent losses, SACK (RFC 6675) and limited transmit (RFC 3042)

- n packets that leave at once arrive at once a round trip later: a round. With a loss, each that arrives
  after it lets one more go, so that three arrive in the end, unless a round brings nothing: an idle time-out;
- three arrivals begin a recovery: the window is half of n, of which those that were let go are no part (RFC
  5681 section 3.2, step 2). A recovery takes a round, and one more if one of those that went out before it
  began is lost too;
- if one of those that go out during it is lost, then another recovery follows it at once;
- it ends without a time-out unless one packet is lost twice: the first (retransmission lost, p) or any of the
  others that are out then, n + 1 of them (p * p each);
- meanwhile the window goes on being sent, but for that packet, so such a time-out costs little of the rate:
  it is not idle.

Rounded as little as can be: windows are multiples of half a segment, and a second time-out in a row takes as
long as the first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from math import comb, sqrt

State = tuple[float, float]
"""Window and, in slow start, where that ends (0 otherwise, or REPAIR), in segments."""

REPAIR = -1.0
"""In a recovery that follows another one, so that all that goes out is sent during it."""

Step = tuple[float, State, float, float]
"""Probability, the next state, segments sent, and round trips taken."""


def arrive(out: int, p: float) -> Iterator[tuple[int, float]]:
    """How many of `out` packets may arrive, and with what probability."""
    return ((n, comb(out, n) * (1 - p) ** n * p ** (out - n)) for n in range(out + 1))


@cache
def duplicates(need: int, out: int, p: float) -> tuple[float, float, float]:
    """The probability that `need` more arrive if each of `out` that does lets one go; with it, the rounds and
    the segments sent.
    """
    if need <= 0 or out == 0:
        return float(need <= 0), 0.0, 0.0
    certain = rounds = sent = 0.0
    for n, chance in arrive(out, p):
        if n:
            then = duplicates(need - n, n, p)
            certain += chance * then[0]
            rounds += chance * (then[0] + then[1])
            sent += chance * (n * then[0] + then[2])
    return certain, rounds, sent


def steps(window: float, end: float, p: float, timeout: float) -> Iterator[Step]:
    """What may become of a round that begins with a full window."""
    n = int(window)
    if end == REPAIR:
        mended, clean = (1 - p) * (1 - p * p) ** (2 * n), (1 - p) ** n
        yield mended * clean, (window, 0), n, 1
        yield mended * (1 - clean), (halved(window), REPAIR), n, 1
        yield 1 - mended, (1, halved(window)), (window - 1) * timeout, timeout
        return
    grown = min(window + n, end) if end else min(window + n / window, 5 / sqrt(p))  # which it seldom reaches
    yield (1 - p) ** n, (round(2 * grown) / 2, end if grown < end else 0), n, 1
    half = max(n / 2, 2)
    for before in range(n):  # arrive before the first loss
        for after, chance in arrive(n - 1 - before, p):
            lost = (1 - p) ** before * p * chance
            certain, rounds, sent = duplicates(3 - after, before + after, p)
            if certain < 1:
                out = before + after
                yield lost * (1 - certain), (1, halved(out)), n + out, timeout
            if not certain:
                continue
            rounds, sent = rounds / certain, sent / certain
            mended = (1 - p) * (1 - p * p) ** (n + 1)
            once = (1 - p) ** (before + 2)
            for more, share in ((0, once), (1, 1 - once)):
                clean = (1 - p) ** (half if more else max(half - before - 3, 0))
                chance = lost * certain * mended * share
                repair = n + sent + max(half, before + 3) + more * half
                yield chance * clean, (half, 0), repair, 2 + rounds + more
                yield chance * (1 - clean), (halved(half), REPAIR), repair, 2 + rounds + more
            stall = n + sent + (half - 1) * timeout
            yield lost * certain * (1 - mended), (1, halved(half)), stall, 1 + rounds + timeout


def halved(window: float) -> float:
    """After a loss event, at least two segments."""
    return max(round(window) / 2, 2)


def segments_per_round(p: float, timeout: float) -> float:
    """Segments delivered per round trip, where each is lost with probability p and a time-out takes
    `timeout` round trips.
    """
    rewards: dict[State, tuple[float, float]] = {}
    moves: dict[State, dict[State, float]] = {}
    todo: list[State] = [(1, 2)]
    while todo:
        state = todo.pop()
        if state in moves:
            continue
        moves[state] = defaultdict(float)
        sent = rounds = 0.0
        for chance, then, n, took in steps(*state, p, timeout):
            if chance > 1e-9:
                moves[state][then] += chance
                sent, rounds = sent + chance * n, rounds + chance * took
        rewards[state] = sent, rounds
        todo += moves[state]
    share = dict.fromkeys(moves, 1 / len(moves))
    for _ in range(600):
        then_share: dict[State, float] = defaultdict(float)
        for state, part in share.items():
            for then, chance in moves[state].items():
                then_share[then] += part * chance
        share = then_share
    sent = sum(part * rewards[state][0] for state, part in share.items())
    return (1 - p) * sent / sum(part * rewards[state][1] for state, part in share.items())
