"""SYN probes in bulk: batches filled from a template, answers recognised by a keyed hash."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from rawkit.engine.native import check, ffi, lib

if TYPE_CHECKING:
    from rawkit.engine.batch import FrameBatch

KEY_LEN = 16
MAC_LEN = 6
ADDRESS_LEN = 16
"""Octets of an address in a plan and in replies; IPv4 uses the first four, the rest are zero."""

OPEN: int = lib.RK_PROBE_OPEN
CLOSED: int = lib.RK_PROBE_CLOSED
FILTERED: int = lib.RK_PROBE_FILTERED

_REPLY = struct.Struct("=q16s16sHBBBB2x")  # struct rk_probe_reply
_REPLIES_N = 256
assert _REPLY.size == ffi.sizeof("struct rk_probe_reply")


class ProbeReply(NamedTuple):
    """An answer to a probe: `state` is OPEN, CLOSED or FILTERED, the latter with an ICMP type and code.

    `time_ns` is the frame's, `address` the target's, `reporter` whoever sent the answer, `hop_limit` the
    answer's.
    """

    time_ns: int
    address: bytes
    reporter: bytes
    port: int
    state: int
    hop_limit: int
    icmp_type: int
    icmp_code: int


class ProbePlan:
    """A SYN scan as an index space: probe i goes to address i // len(ports), port i % len(ports).

    `packet` is the template: an IP packet with a TCP header; destination, destination port, sequence number,
    lengths and checksums are filled in per probe. `link` is put before it (an Ethernet header, or nothing);
    `next_hops`, rows of 6 octets where there are any, are its destination for each address. `addresses` are
    rows of 16 octets. `key` (16 octets) makes the cookies: whoever does not know it cannot
    forge an answer.
    """

    def __init__(
        self,
        packet: bytes,
        addresses: bytes,
        ports: Sequence[int],
        key: bytes,
        link: bytes = b"",
        next_hops: bytes = b"",
    ) -> None:
        if len(key) != KEY_LEN:
            raise ValueError(f"a key of {KEY_LEN} octets is needed, this has {len(key)}")
        if len(addresses) % ADDRESS_LEN:
            raise ValueError(f"addresses are rows of {ADDRESS_LEN} octets, {len(addresses)} are no such rows")
        self.addresses_n = len(addresses) // ADDRESS_LEN
        if next_hops and len(next_hops) != MAC_LEN * self.addresses_n:
            raise ValueError(f"next hops: {len(next_hops)} octets for {self.addresses_n} addresses")
        self.ports_n = len(ports)
        # The struct only points to these.
        self._kept: tuple[Any, ...] = (
            ffi.from_buffer("uint8_t[]", packet),
            ffi.from_buffer("uint8_t[]", link),
            ffi.from_buffer("uint8_t[]", addresses),
            ffi.new("uint16_t[]", list(ports)),
            ffi.from_buffer("uint8_t[]", next_hops) if next_hops else ffi.NULL,
        )
        self._plan = ffi.new("struct rk_probe_plan *")
        plan = self._plan
        plan.packet, plan.link, plan.addresses, plan.ports, plan.next_hops = self._kept
        self._plan.packet_len = len(packet)
        self._plan.link_len = len(link)
        self._plan.addresses_n = self.addresses_n
        self._plan.ports_n = self.ports_n
        ffi.memmove(self._plan.key, key, KEY_LEN)
        self._replies = ffi.new("struct rk_probe_reply[]", _REPLIES_N)
        self._rows = ffi.buffer(self._replies)
        self._next = ffi.new("uint32_t *")

    def __len__(self) -> int:
        return self.addresses_n * self.ports_n

    def fill(self, batch: FrameBatch, index: int, n: int) -> int:
        """Fill the batch, emptied first, with probes [index, index + n); how many fitted.

        Raises EngineError (EINVAL) for a template that is no IP packet with TCP, or a range outside the plan.
        """
        return check(lib.rk_probe_fill(self._plan, batch.refill(), index, n), "fill with probes")

    def match(self, batch: FrameBatch, link_skip: int = 0) -> list[ProbeReply]:
        """The answers among the batch's IP packets, each with `link_skip` octets before it."""
        replies: list[ProbeReply] = []
        self._next[0] = 0
        while self._next[0] < len(batch):
            n = check(
                lib.rk_probe_match(
                    self._plan, batch.handle, link_skip, self._next[0], self._replies, _REPLIES_N, self._next
                ),
                "match answers",
            )
            replies += map(ProbeReply._make, _REPLY.iter_unpack(self._rows[: n * _REPLY.size]))
        return replies
