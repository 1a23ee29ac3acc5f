"""How many ports a scan has missed, estimated from when the others were found.

A port that would have answered is missed when all its probes, or their answers, were lost. How often that
happens shows in the rounds: with a loss of one in ten, the second round finds a tenth of what the first did
(removal sampling: Zippin, "The removal method of population estimation", J. Wildl. Manage. 22, 1958).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

_ENOUGH = 50  # answers, to tell the loss from


class Missed(NamedTuple):
    """How many were missed, as far as one can tell, and the ends of an interval of 95 %."""

    expected: float
    low: int
    high: int


def estimate(found: Sequence[int], of: int, rest: int) -> Missed | None:
    """`found` is how many answers came to each round of probes, of which `of` count; `rest` had none.

    None when nothing is known: nothing answered, or there was but one round.
    """
    if rest == 0:
        return Missed(0.0, 0, 0)
    if len(found) < 2 or not sum(found):
        return None
    # While the pace was still being found, the first round may have lost more than the others.
    later = found[1:] if len(found) > 2 and sum(found[1:]) >= _ENOUGH else found
    total, rounds = sum(later), len(later)
    late = sum(number * n for number, n in enumerate(later))
    # Nearly two standard errors of a Poisson variable, and more where it is small.
    margin = 1.8 * math.sqrt(late + 1) + 1
    counting = total * of / sum(found)
    likely, least, most = (
        counting * _odds(_loss(max(0.0, late + by) / max(total, 1), rounds), rounds)
        for by in (0.0, -margin, margin)
    )
    return Missed(min(likely, rest), min(_poisson(least, 0.025), rest), min(_poisson(most, 0.975), rest))


def expected_more(found: Sequence[int]) -> float:
    """How many answers further rounds would bring, if each finds the same share of what is left."""
    if len(found) < 2 or not found[-1]:
        return 0.0
    share = min(found[-1] / max(found[-2], 1), 0.9)
    return found[-1] * share / (1 - share)


def _loss(mean: float, rounds: int) -> float:
    """The probability that a probe stays without answer, if answers came in round `mean` on average."""
    low, high = 0.0, 0.999
    for _ in range(50):
        loss = (low + high) / 2
        missed = loss**rounds
        if loss / (1 - loss) - rounds * missed / (1 - missed) < mean:
            low = loss
        else:
            high = loss
    return low


def _odds(loss: float, rounds: int) -> float:
    """How many are missed for each that is found."""
    return loss**rounds / (1 - loss**rounds)


def _poisson(mean: float, probability: float) -> int:
    """The smallest number that a Poisson variable exceeds with no more than 1 - probability."""
    if mean > 500:
        side = 1.96 if probability > 0.5 else -1.96
        return max(0, round(mean + side * math.sqrt(mean)))
    k, term = 0, math.exp(-mean)
    total = term
    while total < probability:
        k += 1
        term *= mean / k
        total += term
    return k
