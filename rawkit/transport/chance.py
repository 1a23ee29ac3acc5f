"""Random numbers that depend on a key and a position only: the k-th draw of a stream is a function of k.

So a stream that is used more, or less, changes no other, and the k-th packet of a link meets the same fate in
every run with that seed, whatever the protocol does. The generator is SplitMix64 (Steele, Lea, Flood 2014),
which is cheap enough to be evaluated at any position.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b, shake_128
from math import log
from typing import TypeVar

T = TypeVar("T")

_MASK = 2**64 - 1
_GAMMA = 0x9E3779B97F4A7C15


def stream_key(*parts: int | str) -> int:
    """64 bits from a seed and names; no two lists of parts give the same but by chance."""
    text = "\0".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def draw(key: int, position: int) -> int:
    """64 random bits at a position (0, 1, ...) of the stream `key`."""
    z = (key + (position + 1) * _GAMMA) & _MASK
    z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ z >> 27) * 0x94D049BB133111EB) & _MASK
    return z ^ z >> 31


def chance(key: int, position: int) -> float:
    """A number in 0 <= x < 1 at a position of the stream."""
    return (draw(key, position) >> 11) * 2.0**-53


class Substream:
    """One stream read in order; `position` says how many draws were made."""

    __slots__ = ("key", "position")

    def __init__(self, *parts: int | str) -> None:
        self.key = stream_key(*parts)
        self.position = 0

    def bits(self) -> int:
        """The next 64 random bits."""
        self.position += 1
        return draw(self.key, self.position - 1)

    def random(self) -> float:
        """The next number in 0 <= x < 1."""
        return (self.bits() >> 11) * 2.0**-53

    def below(self, n: int) -> int:
        """The next integer in 0 .. n - 1, n at most 2**64; biased by less than n / 2**64."""
        return self.bits() * n >> 64

    def exponential(self, mean: float) -> float:
        """The next number of an exponential distribution."""
        return -mean * log(1.0 - self.random())

    def octets(self, n: int) -> bytes:
        """`n` random octets, for one draw."""
        return shake_128(self.bits().to_bytes(8, "big")).digest(n)

    def choice(self, items: Sequence[T]) -> T:
        """One of the items."""
        return items[self.below(len(items))]
