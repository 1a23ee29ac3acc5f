"""Numbers that outsiders cannot guess: first sequence numbers (RFC 6528) and local ports (RFC 6056).

Keys come from the caller: secret and random on a real host, derived from the seed in a simulation.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2s


def _keyed_hash(key: bytes, *parts: bytes) -> int:
    """32 bits of keyed BLAKE2s; each part goes with its length, so that no two lists of parts look alike."""
    digest = blake2s(key=key, digest_size=4)
    for part in parts:
        digest.update(len(part).to_bytes(4, "big") + part)
    return int.from_bytes(digest.digest(), "big")


def _check_key(key: bytes) -> bytes:
    if not 16 <= len(key) <= 32:
        raise ValueError(f"the key must have 16 to 32 octets, got {len(key)}")
    return key


class Isn:
    """First sequence numbers (32 bits): 4 us clock plus a keyed hash of the connection (RFC 6528).

    Raises:
        ValueError: a key that has not 16 to 32 octets.
    """

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = _check_key(key)

    def number(self, now_ns: int, local: bytes, sport: int, remote: bytes, dport: int) -> int:
        """M + F(local address, local port, remote address, remote port, key), addresses as wire octets."""
        ports = sport.to_bytes(2, "big") + dport.to_bytes(2, "big")
        return (now_ns // 4000 + _keyed_hash(self._key, local, remote, ports)) % 2**32


class PortAllocator:
    """Local ports by double hash (RFC 6056 section 3.3.4, algorithm 4); `table` 1 gives algorithm 3.

    Raises:
        ValueError: a key that has not 16 to 32 octets, a range of ports that is none, or an empty table.
    """

    __slots__ = ("_counters", "_first", "_key", "_n")

    def __init__(self, key: bytes, first: int = 49152, last: int = 65535, *, table: int = 64) -> None:
        if not 0 < first <= last < 65536 or table < 1:
            raise ValueError(f"bad ports {first}..{last} or table of {table}")
        self._key = _check_key(key)
        self._first, self._n = first, last - first + 1
        self._counters = [0] * table

    def allocate(self, local: bytes, remote: bytes, dport: int, usable: Callable[[int], bool]) -> int | None:
        """The next port for this destination that is `usable` (free, not in TIME-WAIT); None when none is.

        `usable` is asked at most once per port of the range.
        """
        port = dport.to_bytes(2, "big")
        offset = _keyed_hash(self._key, b"F", local, remote, port)
        index = _keyed_hash(self._key, b"G", local, remote, port) % len(self._counters)
        for _ in range(self._n):
            candidate = self._first + (offset + self._counters[index]) % self._n
            self._counters[index] = (self._counters[index] + 1) % self._n
            if usable(candidate):
                return candidate
        return None
