"""IP fragments: cutting a packet to an MTU, and putting datagrams together again (RFC 791, RFC 8200).

Both work on whole packets and hold no clock and no randomness: the caller passes the time, and the number
that marks a datagram's fragments is the packet's own, or given.
"""

from __future__ import annotations

import zlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from struct import Struct
from typing import NamedTuple

from rawkit.errors import SplitError
from rawkit.wire import checksum as _checksum
from rawkit.wire.ethernet import Dot1Q
from rawkit.wire.field import AUTO
from rawkit.wire.header import Header
from rawkit.wire.ipv4 import IPv4
from rawkit.wire.ipv6 import IPv6
from rawkit.wire.packet import Packet

_SECOND = 1_000_000_000
_MAX_LEN = 65535
_FRAGMENT_COST = 200
"""Octets of memory charged for a fragment besides its own: what Python spends on holding one."""

_V4_HEADER, _V6_HEADER = 20, 40
_PLACE = Struct(">HHH")  # IPv4 total length, identification, flags and offset: octets 2..8
_FRAGMENT = Struct(">BBHI")  # the IPv6 fragment header
_MF, _OFFSET = 0x2000, 0x1FFF
_NOT_ECT, _CE = 0, 3

_HOP_BY_HOP, _ROUTING, _FRAGMENT_NUMBER, _DESTINATION = 0, 43, 44, 60
_BEFORE_FRAGMENT = {_HOP_BY_HOP, _ROUTING, _DESTINATION}
_MAY_LEAD = {*_BEFORE_FRAGMENT, _FRAGMENT_NUMBER, AUTO}

# Octets of the upper header that the first fragment must hold. IPv4: up to the flags (RFC 1858 section 3.1);
# IPv6: the whole header (RFC 8200 section 4.5), of anything unknown one octet.
_LEAST_V4 = {6: 16}
_LEAST_V6 = {6: 20, 17: 8, 58: 8}


def fragment(packet: Packet, mtu: int, id: int | None = None) -> list[Packet]:
    """The packet as IP fragments of at most `mtu` octets each, link headers not counted.

    Link headers are repeated on every fragment, and a trailer (Ethernet padding) is left out. Checksums above
    IP are computed once, over the whole packet. A packet that fits comes back as it is, alone; one that is a
    fragment already is cut further. Every other field keeps its value, the identification too: `id` gives
    another. IPv6 packets have none of their own; there the default is the CRC-32 of the packet, so that
    different packets get different numbers. (Mind that the kernel numbers packets with an IPv4 `id` of 0
    itself, each one differently, when they are sent over a raw IP socket.)

    IPv4 options go with all fragments or the first alone, as their copied bit says (RFC 791 section 3.1). The
    IPv6 fragment header follows the routing header, or the hop-by-hop options, or else the fixed header
    (RFC 8200 section 4.5).

    Raises:
        SplitError: DF is set; the MTU leaves no room for data; the packet has no IP header, a length field
            that contradicts its octets, or a source address still to be chosen.
        FieldError: the packet cannot be built.
    """
    links, ip, octets = _from_ip(packet)
    if ip is None:
        raise SplitError("fragment: the packet has no IP header")
    if id is not None and id >> (16 if isinstance(ip, IPv4) else 32):
        raise SplitError(f"fragment: id {id} does not fit the identification of {type(ip).__name__}")
    if len(octets) <= mtu:
        return [packet]
    if ip.src is AUTO:
        raise SplitError("fragment: set the source address first, upper checksums are computed with it")
    cut = _cut_v4 if isinstance(ip, IPv4) else _cut_v6
    pieces = cut(octets, mtu, id)
    return [_with_links(links, type(ip), piece) for piece in pieces]


def _from_ip(packet: Packet) -> tuple[list[Header], IPv4 | IPv6 | None, bytes]:
    """The headers before the first IP header, that header, and its octets with all that follow."""
    layers = packet.layers
    for i, header in enumerate(layers):
        if isinstance(header, (IPv4, IPv6)):
            return list(layers[:i]), header, b"".join(packet._headers()[i:]) + packet.payload
        if header.is_network:
            break
    return [], None, b""


def _with_links(links: Sequence[Header], first: type[Header], octets: bytes) -> Packet:
    parsed = Packet.parse(octets, first=first)
    return Packet([link.replace() for link in links]) / parsed if links else parsed


def _cut_v4(octets: bytes, mtu: int, id: int | None) -> Iterator[bytes]:
    header_len = (octets[0] & 15) * 4
    total_len, own_id, place = _PLACE.unpack_from(octets, 2)
    # The total length of a packet that the kernel has not cut yet may be 0.
    if not _V4_HEADER <= header_len <= len(octets) or total_len not in (0, len(octets)):
        raise SplitError(
            f"fragment: the IPv4 header says {header_len} octets of {total_len}, but there are {len(octets)}"
        )
    if place & IPv4.DF << 13:
        raise SplitError(f"fragment: {len(octets)} octets, MTU {mtu}, and DF is set")
    data = octets[header_len:]
    base = place & _OFFSET
    if base * 8 + len(data) + header_len > _MAX_LEN:
        raise SplitError(f"fragment: the datagram would be {base * 8 + len(data) + header_len} octets long")
    first = octets[:header_len]
    later = octets[:_V4_HEADER] + _copied(octets[_V4_HEADER:header_len])
    at = 0
    while at < len(data):
        header = bytearray(later if at else first)
        piece, last = _next_piece(data, at, mtu, len(header))
        header[0] = header[0] & 0xF0 | len(header) // 4
        flags = place & ~(_MF | _OFFSET) | (place & _MF if last else _MF)
        _PLACE.pack_into(
            header, 2, len(header) + len(piece), own_id if id is None else id, flags | base + at // 8
        )
        yield _sealed(header) + piece
        at += len(piece)


def _next_piece(data: bytes, at: int, mtu: int, header_len: int) -> tuple[bytes, bool]:
    """The data of the fragment that starts at `at`, and whether it is the last."""
    room = mtu - header_len
    if len(data) - at <= room:
        return data[at:], True
    if room < 8:
        raise SplitError(f"fragment: an MTU of {mtu} has no room for 8 octets after headers of {header_len}")
    return data[at : at + (room & ~7)], False


def _copied(options: bytes) -> bytes:
    """The IPv4 options whose copied bit is set (RFC 791 section 3.1), padded to whole words."""
    kept = b""
    at = 0
    while at < len(options) and options[at] != 0:
        if options[at] == 1:
            at += 1
            continue
        length = options[at + 1] if at + 1 < len(options) else 0
        if length < 2 or at + length > len(options):
            raise SplitError(f"fragment: the IPv4 options are damaged at octet {at}")
        if options[at] & 0x80:
            kept += options[at : at + length]
        at += length
    return kept + bytes(-len(kept) % 4)


def _sealed(header: bytearray) -> bytes:
    """The IPv4 header with its checksum."""
    header[10:12] = bytes(2)
    header[10:12] = _checksum.checksum(header).to_bytes(2, "big")
    return bytes(header)


class _Extension(NamedTuple):
    """An IPv6 extension header: its number, where it starts and ends, where its number stands."""

    number: int
    at: int
    end: int
    number_at: int


def _extensions(octets: bytes) -> Iterator[_Extension]:
    """The headers that may come before a fragment header, and that one, up to where they are whole."""
    number_at, at = 6, _V6_HEADER
    while at + 8 <= len(octets):
        number = octets[number_at]
        if number == _FRAGMENT_NUMBER:
            yield _Extension(number, at, at + 8, number_at)
            return
        if number not in _BEFORE_FRAGMENT:
            return
        end = at + 8 + octets[at + 1] * 8
        if end > len(octets):
            return
        yield _Extension(number, at, end, number_at)
        number_at, at = at, end


def _cut_v6(octets: bytes, mtu: int, id: int | None) -> Iterator[bytes]:
    payload_len = int.from_bytes(octets[4:6], "big")
    if payload_len != len(octets) - _V6_HEADER:
        raise SplitError(
            f"fragment: the IPv6 header says that {payload_len} octets follow, "
            f"but {len(octets) - _V6_HEADER} do"
        )
    head_len, number_at, data_at = _V6_HEADER, 6, _V6_HEADER
    number, base, more, own_id = octets[6], 0, 0, zlib.crc32(octets)
    for extension in _extensions(octets):
        if extension.number == _FRAGMENT_NUMBER:
            head_len, number_at, data_at = extension.at, extension.number_at, extension.end
            number, _, place, own_id = _FRAGMENT.unpack_from(octets, extension.at)
            base, more = place & ~7, place & 1
        elif extension.number in (_HOP_BY_HOP, _ROUTING):
            head_len, number_at, data_at = extension.end, extension.at, extension.end
            number = octets[extension.at]
    header = bytearray(octets[:head_len])
    header[number_at] = _FRAGMENT_NUMBER
    data = octets[data_at:]
    if base + len(data) + head_len - _V6_HEADER > _MAX_LEN:
        raise SplitError(f"fragment: the datagram would have a payload of {base + len(data)} octets")
    at = 0
    while at < len(data):
        piece, last = _next_piece(data, at, mtu, head_len + 8)
        header[4:6] = (head_len - _V6_HEADER + 8 + len(piece)).to_bytes(2, "big")
        place = base + at | (more if last else 1)
        yield bytes(header) + _FRAGMENT.pack(number, 0, place, own_id if id is None else id) + piece
        at += len(piece)


# ---- reassembly ----------------------------------------------------------------------------------


@dataclass(slots=True)
class ReassemblyCounters:
    """What became of what a `Reassembler` was fed.

    Of `fragments`, some were dropped alone: `atomic` ones are datagrams by themselves (RFC 6946), `duplicate`
    ones brought nothing new, `cut` ones lack octets, `misaligned` ones are no multiple of 8 octets though
    more follow, `empty` ones bring no data, `tiny` ones come first without the upper header, `too_long` ones
    reach beyond 65,535 octets, and `late` ones belong to a datagram that was dropped before.
    Of the datagrams, `complete` ones were handed out; the others were dropped: on `overlap` or on
    `conflict` (two different ends, or two kinds of congestion marks that do not go together), after a
    `timeout`, or `evicted` to keep within bounds.
    """

    fragments: int = 0
    atomic: int = 0
    duplicate: int = 0
    cut: int = 0
    misaligned: int = 0
    empty: int = 0
    tiny: int = 0
    too_long: int = 0
    late: int = 0
    complete: int = 0
    overlap: int = 0
    conflict: int = 0
    timeout: int = 0
    evicted: int = 0


class _Piece(NamedTuple):
    """A fragment as it came: `start` in octets of the datagram; `head` is all before the data."""

    key: tuple[object, ...]
    links: list[Header]
    first: type[IPv4] | type[IPv6]
    head: bytes
    number: int
    start: int
    more: bool
    data: bytes
    cut: bool = False  # the IP header claims more octets than there are


@dataclass(slots=True)
class _Datagram:
    """Fragments that belong together. Data is held in order and without overlap."""

    due_ns: int
    starts: list[int] = field(default_factory=list)
    data: list[bytes] = field(default_factory=list)
    total: int = -1  # octets, known once the last fragment came
    have: int = 0
    cost: int = _FRAGMENT_COST
    origin: _Piece | None = None  # the fragment with offset 0, its data taken out
    marks: set[int] = field(default_factory=set)  # ECN codepoints
    dropped: bool = False

    def news(self, piece: _Piece) -> list[tuple[int, bytes]] | None:
        """The parts of a fragment's data that are not there yet, by offset; None for a forbidden overlap."""
        start, end = piece.start, piece.start + len(piece.data)
        first = bisect_right(self.starts, start)
        if first and self.starts[first - 1] + len(self.data[first - 1]) > start:
            first -= 1
        parts = []
        at = start
        for i in range(first, len(self.starts)):
            held_start, held = self.starts[i], self.data[i]
            if held_start >= end:
                break
            same = (held_start, held) == (start, piece.data)
            if piece.first is IPv6 and not same:
                return None
            low, high = max(start, held_start), min(end, held_start + len(held))
            if piece.data[low - start : high - start] != held[low - held_start : high - held_start]:
                return None
            if low > at:
                parts.append((at, piece.data[at - start : low - start]))
            at = high
        if at < end:
            parts.append((at, piece.data[at - start :]))
        return parts

    def contradicts(self, piece: _Piece) -> bool:
        """Whether a fragment says otherwise than those before where the datagram ends."""
        end = piece.start + len(piece.data)
        if piece.more:
            return -1 < self.total <= end
        reach = self.starts[-1] + len(self.data[-1]) if self.starts else 0
        return self.total not in (-1, end) or reach > end

    def insert(self, parts: list[tuple[int, bytes]]) -> int:
        """Hold new parts; how much memory they cost, in octets."""
        added = 0
        for start, data in parts:
            at = bisect_right(self.starts, start)
            self.starts.insert(at, start)
            self.data.insert(at, data)
            self.have += len(data)
            added += len(data) + _FRAGMENT_COST
        self.cost += added
        return added


class Reassembler:
    """Puts IPv4 and IPv6 datagrams together from fragments that come in any order.

    `feed` hands out whole packets. Fragments belong together when their addresses, identification, VLANs and
    (IPv4) protocol are the same. They are held for `timeout_ns` after the first came: by default 30 s for
    IPv4, as Linux does, and 60 s for IPv6 (RFC 8200 section 4.5). No more than `max_datagrams` and
    `max_bytes` octets of memory are held at any time; the oldest datagrams make room.

    When fragments overlap, receivers disagree on which octets count (RFC 1858, RFC 5722), so that a firewall
    can be made to see another datagram than the host behind it. Here none of the readings is taken: fragments
    of IPv4 that contradict each other, and all overlapping ones of IPv6 (RFC 5722 section 4), lose the whole
    datagram with every fragment of it that still comes. A repeated fragment changes nothing and is passed
    over.

    Tunnels are not looked into: it is the outermost IP header that counts.
    """

    def __init__(
        self, timeout_ns: int | None = None, max_bytes: int = 16 << 20, max_datagrams: int = 4096
    ) -> None:
        if max_bytes < 1 or max_datagrams < 1 or (timeout_ns is not None and timeout_ns < 1):
            raise ValueError("a Reassembler needs positive bounds")
        self.max_bytes = max_bytes
        self.max_datagrams = max_datagrams
        self.counters = ReassemblyCounters()
        self._timeouts = {
            IPv4: timeout_ns or 30 * _SECOND,
            IPv6: timeout_ns or 60 * _SECOND,
        }
        # By family: within one, the order of arrival is the order of deadlines.
        self._pending: dict[type[Header], dict[tuple[object, ...], _Datagram]] = {IPv4: {}, IPv6: {}}
        self._held = 0

    @property
    def pending(self) -> int:
        """Datagrams that wait for fragments, or to be forgotten after an overlap."""
        return sum(map(len, self._pending.values()))

    @property
    def held_bytes(self) -> int:
        """Octets of memory held, with a rough 200 for each fragment besides its own octets."""
        return self._held

    def feed(self, packet: Packet, now_ns: int) -> Packet | None:
        """What has become whole with this packet, None when nothing has.

        A packet that is no fragment comes back as it is. A datagram put together has the link headers and
        the IP header of its first fragment, length and checksum fresh, and no IPv6 fragment header.
        `now_ns` is any clock in nanoseconds, the same one in each call. Checksums are not looked at.
        Never raises on a packet that was parsed, whatever its octets.
        """
        self.expire(now_ns)
        piece = self._piece(packet)
        if piece is None:
            return packet
        self.counters.fragments += 1
        reason = _fault(piece)
        if reason:
            setattr(self.counters, reason, getattr(self.counters, reason) + 1)
            return None
        if piece.first is IPv6 and not piece.start and not piece.more:
            # RFC 6946 section 4: alone, whatever else has the same identification.
            self.counters.atomic += 1
            return self._finish(piece, [piece.data], set())
        return self._add(piece, now_ns)

    def expire(self, now_ns: int) -> None:
        """Drop what has waited too long. `feed` does it too."""
        for pending in self._pending.values():
            while pending:
                key, datagram = next(iter(pending.items()))
                if datagram.due_ns > now_ns:
                    break
                self._forget(pending, key)
                if not datagram.dropped:
                    self.counters.timeout += 1

    def _piece(self, packet: Packet) -> _Piece | None:
        """The packet as a fragment, None when it is none."""
        ip = next((h for h in islice(packet, 8) if h.is_network), None)
        if isinstance(ip, IPv4):
            if not ip.is_fragment:
                return None
        elif not isinstance(ip, IPv6) or ip.next_header not in _MAY_LEAD:
            return None
        links, _, octets = _from_ip(packet)
        tags = tuple(link.vid for link in links if isinstance(link, Dot1Q))
        if isinstance(ip, IPv4):
            end = (octets[0] & 15) * 4
            claimed, id, place = _PLACE.unpack_from(octets, 2)
            start, more, number = (place & _OFFSET) * 8, bool(place & _MF), octets[9]
            key: tuple[object, ...] = (octets[12:20], number, id, tags)
            cut = claimed > len(octets) or not _V4_HEADER <= end <= len(octets)
            return _Piece(key, links, IPv4, octets[:end], number, start, more, octets[end:], cut)
        for extension in _extensions(octets):
            if extension.number == _FRAGMENT_NUMBER:
                number, _, place, id = _FRAGMENT.unpack_from(octets, extension.at)
                head = bytearray(octets[: extension.at])
                head[extension.number_at] = number
                data = octets[extension.end :]
                key = (octets[8:40], id, tags)
                start, more = place & ~7, bool(place & 1)
                cut = int.from_bytes(octets[4:6], "big") > len(octets) - _V6_HEADER
                return _Piece(key, links, IPv6, bytes(head), number, start, more, data, cut)
        return None

    def _add(self, piece: _Piece, now_ns: int) -> Packet | None:
        pending = self._pending[piece.first]
        datagram = pending.get(piece.key)
        if datagram is None:
            datagram = pending[piece.key] = _Datagram(now_ns + self._timeouts[piece.first])
            self._held += datagram.cost
        if datagram.dropped:
            self.counters.late += 1
            return None
        parts = datagram.news(piece)
        if parts is None:
            self.counters.overlap += 1
            self._drop(datagram)
            return None
        if datagram.contradicts(piece):
            self.counters.conflict += 1
            self._drop(datagram)
            return None
        if not piece.more:
            datagram.total = piece.start + len(piece.data)
        if not parts:
            self.counters.duplicate += 1
        datagram.marks.add(_mark(piece))
        if not piece.start and datagram.origin is None:
            datagram.origin = piece._replace(data=b"")
        self._held += datagram.insert(parts)
        if datagram.have == datagram.total and datagram.origin is not None:
            self._forget(pending, piece.key)
            return self._finish(datagram.origin, datagram.data, datagram.marks)
        self._make_room()
        return None

    def _finish(self, origin: _Piece, data: list[bytes], marks: set[int]) -> Packet | None:
        octets = origin.head + b"".join(data)
        fixed = _V6_HEADER if origin.first is IPv6 else 0
        if len(octets) - fixed > _MAX_LEN:
            self.counters.too_long += 1
            return None
        header = bytearray(octets[: len(origin.head)])
        if _CE in marks:
            if _NOT_ECT in marks:
                # RFC 3168 section 5.3: a packet whose sender knows no congestion marks must not come out
                # with one, nor may the mark be lost.
                self.counters.conflict += 1
                return None
            header[1] |= _CE << (4 if origin.first is IPv6 else 0)
        if origin.first is IPv6:
            header[4:6] = (len(octets) - _V6_HEADER).to_bytes(2, "big")
        else:
            _, id, place = _PLACE.unpack_from(header, 2)
            _PLACE.pack_into(header, 2, len(octets), id, place & ~(_MF | _OFFSET))
            header = bytearray(_sealed(header))
        self.counters.complete += 1
        return _with_links(origin.links, origin.first, bytes(header) + octets[len(header) :])

    def _make_room(self) -> None:
        while self._held > self.max_bytes or self.pending > self.max_datagrams:
            oldest = min(
                (pending for pending in self._pending.values() if pending),
                key=lambda pending: next(iter(pending.values())).due_ns,
            )
            key, datagram = next(iter(oldest.items()))
            self._forget(oldest, key)
            if not datagram.dropped:
                self.counters.evicted += 1

    def _drop(self, datagram: _Datagram) -> None:
        """Give up a datagram; it stays known until its time is over, for the fragments still to come."""
        datagram.dropped = True
        datagram.starts, datagram.data, datagram.origin = [], [], None
        self._held -= datagram.cost - _FRAGMENT_COST
        datagram.cost = _FRAGMENT_COST

    def _forget(self, pending: dict[tuple[object, ...], _Datagram], key: tuple[object, ...]) -> None:
        self._held -= pending.pop(key).cost


def _fault(piece: _Piece) -> str:
    """Why a fragment is of no use, as the name of a counter; "" when it is sound."""
    if piece.cut:
        return "cut"
    if not piece.data and (piece.first is IPv4 or piece.more or piece.start):
        return "empty"
    if piece.more and len(piece.data) % 8:
        return "misaligned"
    fixed = _V6_HEADER if piece.first is IPv6 else 0
    if len(piece.head) - fixed + piece.start + len(piece.data) > _MAX_LEN:
        return "too_long"
    least = _LEAST_V4.get(piece.number, 0) if piece.first is IPv4 else _LEAST_V6.get(piece.number, 1)
    if piece.more and not piece.start and len(piece.data) < least:
        return "tiny"
    return ""


def _mark(piece: _Piece) -> int:
    """The ECN codepoint (RFC 3168 section 5)."""
    return (piece.head[1] >> (4 if piece.first is IPv6 else 0)) & 3
