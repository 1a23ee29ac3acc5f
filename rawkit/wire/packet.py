"""`Packet`: a list of headers and a payload, built as a whole and parsed lazily, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, TypeVar, overload

from rawkit.errors import HeaderError, Truncated
from rawkit.wire import checksum as _checksum
from rawkit.wire.ethernet import Ether
from rawkit.wire.field import AUTO, ChecksumRule, CRC32cRule, payload_length, total_length
from rawkit.wire.header import LINKTYPES, Header
from rawkit.wire.storage import build
from rawkit.wire.walk import make_walk

H = TypeVar("H", bound=Header)

_new: Any = object.__new__

MAX_LAYERS = 64
"""Headers parsed in one packet at most; what follows stays payload (a guard against packet bombs)."""


@dataclass(frozen=True, slots=True)
class ChecksumVerdict:
    """What became of one checksum field.

    `state` is "good", "bad", "not filled in" (zero where the protocol allows it, or the pseudo-header's sum
    that a host leaves for its network card to finish), or "unknown" (octets are missing, or the packet is
    a fragment, or quoted in an ICMP error). `found` and `expected` are the field's value and what it should
    be, -1 when not known.
    """

    layer: type[Header]
    field: str
    state: str
    found: int
    expected: int


class Packet:
    """Headers in wire order, the payload after them, and trailing octets that no length field claims.

    A packet that was parsed reads the next header only when someone asks for it. `error` says why parsing
    stopped early (it asks for all of the packet); what could not be parsed is part of the payload.
    `bytes(packet)` builds: fields left at `AUTO` are computed, everything else goes out as it is, and
    nothing is written back. A parsed packet gives the octets it came from.
    """

    __slots__ = (
        "_at", "_buf", "_end", "_error", "_layers", "_payload", "_pending", "_quoted", "_strict",
    )  # fmt: skip

    def __init__(self, layers: Sequence[Header] = (), payload: bytes = b"") -> None:
        self._layers: list[Header] = list(layers)
        self._payload: bytes | None = bytes(payload)
        # The class of the first header; later the last header, as long as nobody has asked what follows it.
        self._pending: type[Header] | Header | None = None
        self._buf = b""
        self._at = self._end = 0
        self._error: HeaderError | None = None
        self._quoted = self._strict = False

    @classmethod
    def parse(cls, octets: Any, first: type[Header] | None = Ether, strict: bool = False) -> Packet:
        """A packet from octets, of which it keeps a copy if they are not bytes but another buffer.

        `first` is the class of the first header, None for octets of which nothing is known. With `strict`,
        damage raises.

        Raises: `HeaderError`, with `strict` only.
        """
        packet: Packet = _new(cls)
        packet._layers = []
        packet._payload = packet._error = None
        packet._buf = octets = octets if octets.__class__ is bytes else bytes(memoryview(octets))
        packet._pending = first
        packet._at = 0
        packet._end = len(octets)
        packet._quoted = False
        packet._strict = strict
        if strict:
            packet._parse_all()
        return packet

    # ---- parsing ------------------------------------------------------------------------------

    def _parse_more(self) -> bool:
        """Parse the next header, or the first few at once; False when there is none, or it is not whole."""
        pending: Any = self._pending
        layers = self._layers
        if pending is None:
            return False
        cls: type[Header] | None
        if layers:
            cls = pending.upper_class()
        else:
            cls = pending
            self._at, self._end = (cls._walk or make_walk(cls))(self._buf, self._end, layers)
            if layers:
                self._pending = layers[-1] if self._at < self._end else None
                return True
        self._pending = None
        if cls is None:
            return False
        at, end = self._at, self._end
        if 0 <= cls._discriminator_at < end - at:
            octet = self._buf[at + cls._discriminator_at]
            variant = cls.variants[octet >> cls._discriminator_shift & cls._discriminator_mask]
            if variant is None and cls.is_choice:
                return False
            cls = variant or cls
        header: Header
        try:
            header, self._at, end = cls._parse(self._buf, at, end)
        except HeaderError as error:
            if not (self._quoted and isinstance(error, Truncated)):
                self._error = error
                if self._strict:
                    raise
            # else no damage: routers quote as little as 8 octets behind the IP header (RFC 792)
            return False
        # A quoted length says what there had been: what follows it here (RFC 4884) belongs to the error.
        if not self._quoted:
            self._end = end
            self._quoted = header.quotes
        layers.append(header)
        if self._at < self._end and len(layers) < MAX_LAYERS:
            self._pending = header
        return True

    def _parse_all(self) -> None:
        while self._pending is not None:
            self._parse_more()

    @property
    def layers(self) -> tuple[Header, ...]:
        """All headers, outermost first."""
        self._parse_all()
        return tuple(self._layers)

    @property
    def payload(self) -> bytes:
        """The octets after the last header that is known."""
        if self._payload is not None:
            return self._payload
        self._parse_all()
        return self._buf[self._at : self._end]

    @property
    def trailer(self) -> bytes:
        """Octets after the payload that no length field claims (Ethernet padding)."""
        self._parse_all()
        return self._buf[self._end :]

    @property
    def error(self) -> HeaderError | None:
        """Why parsing stopped before the end; None when it did not."""
        self._parse_all()
        return self._error

    @property
    def offsets(self) -> tuple[int, ...]:
        """Where each header starts, in octets from the packet's start, as it is built."""
        lens = [len(octets) for octets in self._headers()]
        return tuple(accumulate(lens[:-1], initial=0)) if lens else ()

    # ---- access -------------------------------------------------------------------------------

    def get(self, kind: type[H], nth: int = 0) -> H | None:
        """The first (or nth further) header that is a `kind`, None when there is none."""
        layers = self._layers
        i = 0
        while i < len(layers) or self._parse_more():
            header = layers[i]
            if isinstance(header, kind):
                if nth == 0:
                    return header
                nth -= 1
            i += 1
        return None

    @overload
    def __getitem__(self, kind: type[H]) -> H: ...
    @overload
    def __getitem__(self, kind: str) -> Any: ...
    def __getitem__(self, kind: Any) -> Any:
        """The first header of a class; or what stands at a path such as "tcp.dport" (see `wire.edit`)."""
        if kind.__class__ is str:
            from rawkit.wire import edit

            return edit.get(self, kind)
        layers = self._layers
        if not layers:
            self._parse_more()
        header: Header | None
        for header in layers:
            if header.__class__ is kind and not kind._is_base:
                return header
        header = self.get(kind)
        if header is None:
            have = "/".join(type(layer).__name__ for layer in self.layers) or "no headers"
            raise KeyError(f"no {kind.__name__} in this packet ({have})")
        return header

    def __contains__(self, kind: type[Header]) -> bool:
        return self.get(kind) is not None

    def __iter__(self) -> Iterator[Header]:
        i = 0
        while i < len(self._layers) or self._parse_more():
            yield self._layers[i]
            i += 1

    def __truediv__(self, other: Header | Packet | bytes) -> Packet:
        payload = self.payload
        if other.__class__ is bytes:
            return _rebuild(self._layers.copy(), payload + other, self.trailer)
        if isinstance(other, Header):
            if payload:
                raise TypeError("a header cannot follow a payload")
            return _rebuild([*self._layers, other], b"", b"")
        if isinstance(other, Packet):
            if payload and other.layers:
                raise TypeError("a header cannot follow a payload")
            return _rebuild([*self._layers, *other.layers], payload + other.payload, other.trailer)
        try:
            return _rebuild(self._layers.copy(), payload + memoryview(other), self.trailer)
        except TypeError:
            raise TypeError(f"a packet is made of headers and octets, not of {other!r}") from None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Packet):
            return NotImplemented
        mine, others = (self.layers, self.payload, self.trailer), (other.layers, other.payload, other.trailer)
        return mine == others

    __hash__ = None  # type: ignore[assignment]  # its headers are mutable

    def __len__(self) -> int:
        """Octets of the packet as built."""
        return len(bytes(self))

    def __bool__(self) -> bool:
        return True  # a packet without octets is a packet; and asking must not build it

    def __repr__(self) -> str:
        parts = [repr(layer) for layer in self.layers]
        if self.payload:
            payload = self.payload
            parts.append(
                repr(payload) if len(payload) <= 32 else f"{payload[:32]!r}...({len(payload)} octets)"
            )
        return " / ".join(parts) or "Packet()"

    def __reduce__(self) -> Any:
        return _rebuild, (self.layers, self.payload, self.trailer)

    # ---- building -----------------------------------------------------------------------------

    def _headers(self) -> list[bytes]:
        """The octets of each header as built, outermost first; bytes(packet) is these and the rest."""
        octets = self.payload
        layers = self._layers
        headers: list[bytes] = []
        upper: type[Header] | None = None
        at = len(layers)
        for header in reversed(layers):
            at -= 1
            built = header._pack(octets, _outer(layers, at) if header._sums_outer else None, upper)
            headers.append(built)
            octets = built + octets
            upper = header.__class__
        headers.reverse()
        return headers

    def __bytes__(self) -> bytes:
        if build is not None:
            payload = self.payload if self._payload is None else self._payload
            trailer = self._buf[self._end :] if self._end < len(self._buf) else b""
            octets = build(self._layers, payload, trailer)
            if octets is not None:
                return octets
        headers = self._headers()
        headers.append(self.payload)
        if self._end < len(self._buf):
            headers.append(self.trailer)
        return b"".join(headers)

    def replace(self, kind: type[Header], **changes: Any) -> Packet:
        """A packet in which the first header of `kind` has some fields changed (see `Header.replace`).

        Fields that hold a value, the lengths and checksums of a parsed packet among them, keep it:
        `packet.replace(TCP, dport=81, checksum=AUTO)`.
        """
        old = self[kind]
        return _rebuild(
            tuple(layer.replace(**changes) if layer is old else layer for layer in self.layers),
            self.payload,
            self.trailer,
        )

    def set(self, changes: Mapping[str, Any]) -> Packet:
        """A packet with other values at some paths: `packet.set({"ip.ttl": 3, "tcp.dport": 81})`.

        As with `replace`, all other fields keep what they hold; `AUTO` asks for a fresh value. "payload"
        stands for the payload, "ip[1].ttl" for a field of the second IPv4 header (see `wire.edit`).

        Raises: `KeyError` when nothing stands at a path, `FieldError` for a value the field cannot hold.
        """
        from rawkit.wire import edit

        return edit.changed(self, changes)

    def insert(self, after: type[Header] | str | None, header: Header) -> Packet:
        """A packet with `header` put in behind the first header of the class `after`; None: before all.

        Throughout the packet lengths, checksums and the numbers of what follows are computed anew where they
        were what computing them gives; a field that said something else keeps saying it.
        """
        from rawkit.wire import edit

        return edit.inserted(self, after, header)

    def remove(self, kind: type[Header] | str) -> Packet:
        """A packet without the first header of `kind`, or the one at a path ("ip[1]"); see `insert`."""
        from rawkit.wire import edit

        return edit.removed(self, kind)

    def answers(self, request: Packet) -> bool:
        """Whether this packet is a reply to `request`: by its headers, or as an ICMP error that quotes it.

        Link headers are not looked at.
        """
        mine, sent = _from_network(self.layers), _from_network(request.layers)
        if not mine or not sent:
            return False
        quoting = next((i for i, header in enumerate(mine) if header.quotes), None)
        if quoting is not None:
            return self._quotes(mine[quoting + 1 :], sent)
        return len(mine) >= len(sent) and all(map(_answers, mine, sent))

    def _quotes(self, quoted: Sequence[Header], sent: Sequence[Header]) -> bool:
        """Whether the headers quoted in an ICMP error, and a last one that was cut off, are those sent."""
        if not quoted or not all(map(_is_quote_of, quoted, sent)):
            return False
        if len(quoted) >= len(sent) or not self.payload:
            return True
        # Of the next header only the beginning came back: the rest is taken to be as it was sent.
        original = sent[len(quoted)]
        octets = self.payload + bytes(original)[len(self.payload) :]
        try:
            return type(original).parse(octets).is_quote_of(original)
        except HeaderError:
            return False

    # ---- checksums ----------------------------------------------------------------------------

    def checksums(self) -> list[ChecksumVerdict]:
        """A verdict on each checksum field of the packet, outermost first."""
        layers = self.layers
        headers = self._headers()
        verdicts = []
        whole, at, end = True, 0, sum(map(len, headers)) + len(self.payload) + len(self.trailer)
        for i, header in enumerate(layers):
            segment = b"".join(headers[i:]) + self.payload
            claimed_end = _claimed_end(header, at, len(headers[i]))
            whole = whole and claimed_end <= end
            at, end = at + len(headers[i]), min(end, claimed_end or end)
            for row in header.fields:
                rule = row.spec.rule
                if not isinstance(rule, (ChecksumRule, CRC32cRule)) or getattr(header, row.slot) is None:
                    continue
                octets = segment if rule.payload else headers[i]
                place, size = row.offset // 8, row.width // 8
                found = int.from_bytes(octets[place : place + size], "big")
                zeroed = octets[:place] + bytes(size) + octets[place + size :]
                if rule.payload and not whole:
                    state, expected = "unknown", -1
                elif isinstance(rule, CRC32cRule):
                    expected = rule.compute(zeroed)
                    # Left to the network card, or not wanted (RFC 9653).
                    state = "good" if found == expected else "bad" if found else "not filled in"
                else:
                    state, expected = _verdict(
                        header, rule, found, zeroed, len(headers[i]), _outer(layers, i)
                    )
                verdicts.append(ChecksumVerdict(type(header), row.name, state, found, expected))
            # Routers and address translators change a packet before they quote it, and quote part of it.
            whole = whole and not header.is_fragment and not header.quotes
        return verdicts

    # ---- showing ------------------------------------------------------------------------------

    def summary(self) -> str:
        """One line about the packet."""
        from rawkit.wire import show

        return show.summary(self)

    def show(self) -> str:
        """The packet as a tree: a line per header, a line per field."""
        from rawkit.wire import show

        return show.tree(self)

    def hexdump(self) -> str:
        """Offset, octets and printable characters, 16 octets a line."""
        from rawkit.wire import show

        return show.hexdump(bytes(self))

    def to_dict(self, names: str = "rawkit") -> dict[str, Any]:
        """The packet as plain values that JSON can hold; see `show.to_dict`."""
        from rawkit.wire import show

        return show.to_dict(self, names)

    def to_json(self, names: str = "rawkit", indent: int | None = None) -> str:
        """`to_dict` as JSON; with `names="wireshark"` the fields have the names that Wireshark gives them."""
        import json

        return json.dumps(self.to_dict(names), indent=indent)

    def to_scapy(self) -> Any:
        """The packet as scapy, which has to be installed, dissects it; with the same octets.

        See `rawkit.interop.scapy`.
        """
        from rawkit.interop.scapy import to_scapy

        return to_scapy(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Packet:
        """The packet that `to_dict` made these values of, with the same octets.

        Raises: `FieldError`, which names the place.
        """
        from rawkit.wire import text

        return text.from_dict(values)

    @classmethod
    def from_hex(cls, digits: str, first: type[Header] | None = Ether) -> Packet:
        """A packet from hexadecimal digits, or a dump as xxd, tcpdump -x and Wireshark print it.

        Raises: `FieldError`, which names the place.
        """
        from rawkit.wire import text

        return cls.parse(text.octets_from_hex(digits), first)


def first_header(linktype: int, octets: Any) -> type[Header] | None:
    """The header class that a frame of a LINKTYPE_ starts with, None when rawkit has none."""
    if linktype == RAW_IP:
        linktype = {4: IPV4_ONLY, 6: IPV6_ONLY}.get(octets[0] >> 4, -1) if len(octets) else -1
    found: type[Header] | None = LINKTYPES[linktype]
    return found


RAW_IP, IPV4_ONLY, IPV6_ONLY = 101, 228, 229
"""LINKTYPE_ numbers of frames without link header."""


def _rebuild(layers: Sequence[Header], payload: bytes, trailer: bytes) -> Packet:
    packet: Packet = _new(Packet)
    packet._layers = layers if layers.__class__ is list else list(layers)
    packet._payload = payload
    packet._pending = packet._error = None
    packet._buf = trailer
    packet._at = packet._end = 0
    packet._quoted = packet._strict = False
    return packet


def _over(header: Header, other: Header | Packet | bytes) -> Packet:
    if isinstance(other, Header):
        return _rebuild([header, other], b"", b"")
    return _rebuild([header], b"", b"") / other


Header.__truediv__ = _over  # type: ignore[method-assign]


def _outer(layers: Sequence[Header], at: int) -> Header | None:
    """The nearest header before the one at `at` that gives a pseudo-header, with the final destination."""
    below = at - 1
    while below >= 0 and not layers[below]._has_pseudo_header:
        below -= 1
    outer = layers[below] if below >= 0 else None
    if outer is not None and below < at - 1:
        for between in layers[below + 1 : at]:
            outer = between.rerouted(outer) if between.reroutes else outer
    return outer


def _answers(reply: Header, request: Header) -> bool:
    return reply.answers(request)


def _is_quote_of(quoted: Header, original: Header) -> bool:
    return quoted.is_quote_of(original)


def _from_network(layers: Sequence[Header]) -> Sequence[Header]:
    return next((layers[i:] for i, header in enumerate(layers) if header.is_network), ())


def _claimed_end(header: Header, at: int, header_len: int) -> int:
    """Where a length field says that the content of a header at `at` ends; 0 when none says so."""
    for row in header.fields:
        value = getattr(header, row.slot)
        if value is not AUTO and row.spec.rule is total_length:
            return at + value if value else 0
        if value is not AUTO and row.spec.rule is payload_length:
            return int(at + header_len + value)
    return 0


def _verdict(
    header: Header, rule: ChecksumRule, found: int, zeroed: bytes, header_len: int, outer: Header | None
) -> tuple[str, int]:
    """State and expected value of a checksum that is 0 in the octets given."""
    if rule.is_absent(header):
        return "not filled in", -1
    if rule.coverage and not header_len <= rule.coverage.octets(header, header_len, len(zeroed)) <= len(
        zeroed
    ):
        return "bad", -1  # such packets are discarded (RFC 3828 section 3.1, RFC 4340 section 9.2)
    start = 0
    if rule.pseudo_header:
        pseudo = (
            outer.pseudo_header(outer._number_of(type(header)), len(zeroed)) if outer is not None else None
        )
        if pseudo is None:
            return "unknown", -1
        start = _checksum.add(0, pseudo)
    total = _checksum.add(start, rule.covered(header, header_len, zeroed))
    expected = (~total & 0xFFFF) or rule.zero
    if found == expected:
        return "good", expected
    if (found == 0 and rule.zero) or (rule.pseudo_header and found == start):
        return "not filled in", expected
    # 0 and 0xFFFF are the same number in one's complement arithmetic.
    return ("good" if {found, expected} == {0, 0xFFFF} else "bad"), expected
