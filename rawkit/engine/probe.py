"""TCP and echo probes in bulk: batches filled from a template, answers recognised by a keyed hash."""

from __future__ import annotations

import re
import struct
from array import array
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from rawkit.engine.native import check, ffi, lib

if TYPE_CHECKING:
    from rawkit.engine.batch import FrameBatch

KEY_LEN = 16
MAC_LEN = 6
ADDRESS_LEN = 16
"""Octets of an address in replies; IPv4 uses the first four, the rest are zero."""

OPEN: int = lib.RK_PROBE_OPEN
CLOSED: int = lib.RK_PROBE_CLOSED
FILTERED: int = lib.RK_PROBE_FILTERED
DAMAGED: int = lib.RK_PROBE_DAMAGED

_REPLY = struct.Struct("=q16s16sHBBBBH")  # struct rk_probe_reply
_REPLIES_N = 256
assert _REPLY.size == ffi.sizeof("struct rk_probe_reply")

_UNANSWERED = re.compile(rb"\x00+")
_ABSENT = re.compile(rb"\x02+")
assert (lib.RK_BOARD_UNANSWERED, lib.RK_BOARD_ABSENT) == (0, 2)


class ProbeReply(NamedTuple):
    """An answer to a probe: `state` is OPEN (a SYN-ACK or an echo reply), CLOSED (a RST), FILTERED (an ICMP
    error, with its type and code), or DAMAGED (an echo reply with other data than were sent).

    `time_ns` is the frame's, `address` the target's, `reporter` whoever sent the answer, `hop_limit` the
    answer's; `port` is the sequence number of an echo, `window` a segment's.
    """

    time_ns: int
    address: bytes
    reporter: bytes
    port: int
    state: int
    hop_limit: int
    icmp_type: int
    icmp_code: int
    window: int


def read_replies(octets: Any, n: int) -> Iterator[ProbeReply]:
    """The first n of an array of `struct rk_probe_reply`, whose octets these are."""
    return map(ProbeReply._make, _REPLY.iter_unpack(octets[: n * _REPLY.size]))


class ProbePlan:
    """A scan as an index space: every port of every address, each at a position of its own.

    `packet` is the template: an IP packet with a TCP header; destination, port, lengths, checksums
    and the cookie are filled in per probe, the cookie as sequence number or, where the ACK flag is set, as
    acknowledgement. Or it is an echo request; then the ports are sequence numbers, and the cookie is the
    first 8 octets of the data. `spans` are consecutive addresses of one IP version, as the first (octets) and
    how many, ascending; `ports` ascend too. `link` is put before the packet (an Ethernet header, or nothing);
    `next_hops`, a row of 6 octets for each address where there are any, are its destination, zero for
    addresses that nobody has. `key` (16 octets) makes the cookies: whoever does not know it cannot forge an
    answer. With a `seed` the positions are in a random order, else addresses follow one another, each with
    all its ports.

    Raises: ValueError for what does not fit together.
    """

    def __init__(
        self,
        packet: bytes,
        spans: Sequence[tuple[bytes, int]],
        ports: Sequence[int],
        key: bytes,
        link: bytes = b"",
        next_hops: bytes = b"",
        seed: int | None = None,
    ) -> None:
        if len(key) != KEY_LEN:
            raise ValueError(f"a key of {KEY_LEN} octets is needed, this has {len(key)}")
        numbers = ffi.from_buffer("uint16_t[]", struct.pack(f"={len(ports)}H", *ports))
        if not lib.rk_probe_ports_ascend(numbers, len(ports)):
            raise ValueError("ports have to ascend")
        ends = [int.from_bytes(first, "big") + n for first, n in spans]
        if any(int.from_bytes(first, "big") < end for (first, _), end in zip(spans[1:], ends)):
            raise ValueError("spans have to ascend")
        self.addresses_n = sum(n for _, n in spans)
        if next_hops and len(next_hops) != MAC_LEN * self.addresses_n:
            raise ValueError(f"next hops: {len(next_hops)} octets for {self.addresses_n} addresses")
        self.ports_n = len(ports)
        self.probes_n = self.addresses_n * self.ports_n
        """How many probes there are."""
        if self.probes_n >= 1 << 63:
            raise ValueError(f"{self.probes_n} probes are more than 2**63 - 1")
        self.address_len = len(spans[0][0]) if spans else 4
        rows = ffi.new("struct rk_span[]", len(spans))
        before = 0
        for row, (first, n) in zip(rows, spans):
            ffi.memmove(row.first, first, len(first))
            row.before, row.n = before, n
            before += n
        # The struct only points to these.
        self._kept: tuple[Any, ...] = (
            ffi.from_buffer("uint8_t[]", packet),
            ffi.from_buffer("uint8_t[]", link),
            rows,
            numbers,
            ffi.from_buffer("uint8_t[]", next_hops) if next_hops else ffi.NULL,
        )
        self.handle = plan = ffi.new("struct rk_probe_plan *")
        plan.packet, plan.link, plan.spans, plan.ports, plan.next_hops = self._kept
        plan.packet_len, plan.link_len = len(packet), len(link)
        plan.spans_n, plan.addresses_n, plan.ports_n = len(spans), self.addresses_n, self.ports_n
        ffi.memmove(plan.key, key, KEY_LEN)
        if seed is not None and self.probes_n:
            lib.rk_perm_init(ffi.addressof(plan, "order"), self.probes_n, seed)
        self._replies = ffi.new("struct rk_probe_reply[]", _REPLIES_N)
        self._octets = ffi.buffer(self._replies)
        self._next = ffi.new("uint32_t *")
        self._address = ffi.new("uint8_t[]", ADDRESS_LEN)
        self._port = ffi.new("uint16_t *")

    def fill(self, batch: FrameBatch, first: int, n: int) -> int:
        """Fill the batch, emptied first, with the probes at positions [first, first + n); how many fitted.

        Raises: EngineError (EINVAL) for a template of another kind, a range outside the plan.
        """
        return check(lib.rk_probe_fill(self.handle, batch.refill(), first, n), "fill with probes")

    def target(self, position: int) -> tuple[bytes, int]:
        """The address (octets) and the port of the probe at a position.

        Raises: EngineError (EINVAL), as `fill`.
        """
        check(lib.rk_probe_target(self.handle, position, self._address, self._port), "find a probe's target")
        return bytes(ffi.buffer(self._address, self.address_len)), self._port[0]

    def match(self, batch: FrameBatch, link_skip: int = 0) -> list[ProbeReply]:
        """The answers among the batch's IP packets, each with `link_skip` octets before it.

        Any probe's answer is one, also of other plans with the same key and template.
        """
        replies: list[ProbeReply] = []
        self._next[0] = 0
        while self._next[0] < len(batch):
            n = check(
                lib.rk_probe_match(
                    self.handle, batch.handle, link_skip, self._next[0], self._replies, _REPLIES_N, self._next
                ),
                "match answers",
            )
            replies += read_replies(self._octets, n)
        return replies


class Timing:
    """How long answers take, and how many come. Boards that are worked on together may share one."""

    def __init__(self) -> None:
        self.handle = ffi.new("struct rk_timing *")

    @property
    def timed(self) -> int:
        """How many answers to probes sent once were timed."""
        return int(self.handle.rtt_n)

    @property
    def slowest_ns(self) -> int:
        """The longest of these times."""
        return int(self.handle.rtt_max_ns)

    @property
    def rtt_sum_ns(self) -> int:
        """All of these times together."""
        return int(self.handle.rtt_sum_ns)

    def begin_epoch(self, now_ns: int) -> None:
        """From now on answers count for another epoch."""
        lib.rk_timing_begin_epoch(self.handle, now_ns)

    @property
    def epoch_answers(self) -> list[int]:
        """How many answers came to what was last sent in each of the latest 4 epochs, the newest first."""
        return list(self.handle.epoch_answers)


class Board:
    """Some probes of a plan, and which are still without an answer: row i is the one at position
    `first + i * step`. 10 octets a row; `timed` keeps the round-trip times, for 8 more.

    Probes go out in rounds: a round passes over all that are unanswered, in the order of their rows.
    """

    def __init__(
        self,
        plan: ProbePlan,
        rows_n: int,
        first: int = 0,
        step: int = 1,
        *,
        timing: Timing | None = None,
        timed: bool = False,
    ) -> None:
        self.plan = plan
        self.timing = timing or Timing()
        self.rows_n, self.first, self.step = rows_n, first, step
        self._states = bytearray(rows_n)
        self._probes = ffi.new("uint8_t[]", max(rows_n, 1))
        self._sent_ns = ffi.new("int64_t[]", max(rows_n, 1))
        self.handle = board = ffi.new("struct rk_board *")
        board.first, board.step, board.rows_n, board.left = first, step, rows_n, rows_n
        self._states_view = ffi.from_buffer("uint8_t[]", self._states, require_writable=True)
        board.timing = self.timing.handle
        board.states, board.probes, board.sent_ns = self._states_view, self._probes, self._sent_ns
        self.rtts_ns = array("q", [-1]) * (rows_n if timed else 0)
        """Of each row whose answer was timed; -1 of others."""
        self._rtts_view = ffi.from_buffer("int64_t[]", self.rtts_ns, require_writable=True)
        board.rtt_ns = self._rtts_view if timed else ffi.NULL
        self._filled = ffi.new("uint32_t[]", 1)
        self.cursor = 0
        """The row from which on nothing was sent in this round."""
        self.round = 0
        """The number of this round, from 0."""

    @property
    def left(self) -> int:
        """How many rows are unanswered."""
        return int(self.handle.left)

    @property
    def counted(self) -> int:
        """How many answers were only counted."""
        return int(self.handle.counted)

    @property
    def duplicates(self) -> int:
        """How many answers came to rows that had one."""
        return int(self.handle.duplicates)

    @property
    def round_over(self) -> bool:
        """Every unanswered probe went out in this round."""
        return self.handle.left == 0 or self.cursor >= self.rows_n

    def fill(self, batch: FrameBatch, n: int) -> int:
        """Fill the batch, emptied first, with the next unanswered probes, n at most; 0: the round is over.

        To send them, see `rawkit.engine.proberun`.

        Raises: EngineError (EINVAL) as `ProbePlan.fill`.
        """
        if len(self._filled) < batch.capacity:
            self._filled = ffi.new("uint32_t[]", batch.capacity)
        plan = self.plan.handle
        filled_n = check(
            lib.rk_board_fill(plan, self.handle, batch.refill(), self.cursor, n, self._filled),
            "fill with probes",
        )
        if filled_n:
            self.cursor = self._filled[filled_n - 1] + 1
        elif n > 0:
            self.cursor = self.rows_n
        return filled_n

    def next_round(self) -> None:
        self.round += 1
        self.cursor = 0

    def probes(self, row: int) -> int:
        """How often a row's probe went out (255: that often or more)."""
        return int(self._probes[row])

    def sent_ns(self, row: int) -> int:
        """When a row's probe last went out."""
        return int(self._sent_ns[row])

    def target(self, row: int) -> tuple[bytes, int]:
        """The address (octets) and port of a row."""
        return self.plan.target(self.first + row * self.step)

    def unanswered(self) -> Iterator[int]:
        """The rows without an answer, but for those whose address nobody has."""
        for run in _UNANSWERED.finditer(self.states):
            yield from range(*run.span())

    def absent(self) -> Iterator[int]:
        """The rows whose address nobody has."""
        for run in _ABSENT.finditer(self.states):
            yield from range(*run.span())

    @property
    def states(self) -> bytes:
        """What is known of each row: an octet that `resume` takes."""
        return bytes(self._states)

    def resume(self, states: bytes, round: int, cursor: int) -> None:
        """Go on where another board, of the same rows, had come to. What it sent counts as sent once.

        Raises: ValueError for states of another number of rows.
        """
        if len(states) != self.rows_n or not 0 <= cursor <= self.rows_n:
            raise ValueError(
                f"states of {len(states)} rows, cursor {cursor}, on a board of {self.rows_n} rows"
            )
        # Whether somebody has an address is found out anew.
        self._states[:] = states.replace(b"\2", b"\0")
        self.handle.left = self._states.count(0)
        self.round, self.cursor = round, cursor
        sent_n = self.rows_n if round else cursor
        ffi.buffer(self._probes)[:sent_n] = b"\1" * sent_n
