"""Addresses as values: MAC addresses, and the targets and ports that people type.

IPv4 and IPv6 addresses are the standard library's `ipaddress` objects.

    >>> [str(address) for address in parse_target("192.0.2.8/31, 192.0.2.1-2")]
    ['192.0.2.8', '192.0.2.9', '192.0.2.1', '192.0.2.2']
    >>> parse_ports("443,20-22")
    (20, 21, 22, 443)
"""

from __future__ import annotations

import heapq
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import total_ordering
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from itertools import accumulate, product
from math import prod
from typing import NamedTuple, overload

from rawkit.errors import TargetError

IPAddress = IPv4Address | IPv6Address
Resolver = Callable[[str], Sequence[str]]
"""Host name to addresses as text, the preferred one first. Raises OSError when there are none."""

TARGET_LIMIT = 16 * 65536
"""Addresses a target list may hold unless the caller says otherwise: sixteen IPv4 /16 prefixes."""

_MAC_FORMS = re.compile(
    r"[0-9a-f]{1,2}(?:(?::[0-9a-f]{1,2}){5}|(?:-[0-9a-f]{1,2}){5})|[0-9a-f]{4}(?:\.[0-9a-f]{4}){2}",
    re.IGNORECASE,
)


@total_ordering
class MAC:
    """A 48-bit MAC address: an immutable, hashable, ordered value.

    Made from text ("00:00:5e:00:53:01", "00-00-5E-00-53-01", "0000.5e00.5301"), from 6 octets, from an
    integer below 2**48, or from another MAC. `bytes(mac)` is the 6 octets in wire order, `str(mac)` the form
    with colons.

    Raises TargetError for anything else.
    """

    __slots__ = ("_octets",)
    _octets: bytes

    def __init__(self, address: str | bytes | bytearray | memoryview | int | MAC) -> None:
        if isinstance(address, (bytes, bytearray, memoryview)):
            octets = bytes(address)
            if len(octets) != 6:
                raise TargetError(f"bad MAC address {octets.hex(' ')!r}: need 6 octets, have {len(octets)}")
        elif isinstance(address, str):
            if not _MAC_FORMS.fullmatch(address):
                raise TargetError(f"bad MAC address {address!r}: expected a form like 00:00:5e:00:53:01")
            if "." in address:
                octets = bytes.fromhex(address.replace(".", ""))
            else:
                octets = bytes(int(octet, 16) for octet in re.split("[:-]", address))
        elif isinstance(address, MAC):
            octets = address._octets
        elif isinstance(address, int):
            if not 0 <= address < 1 << 48:
                raise TargetError(f"bad MAC address {address}: an integer needs to be in 0..2**48-1")
            octets = address.to_bytes(6, "big")
        else:
            raise TargetError(f"bad MAC address {address!r}: expected text, octets or an integer")
        object.__setattr__(self, "_octets", octets)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a MAC address does not change: cannot set {name!r}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a MAC address does not change: cannot delete {name!r}")

    def __reduce__(self) -> tuple[type[MAC], tuple[bytes]]:
        return MAC, (self._octets,)

    def __bytes__(self) -> bytes:
        return self._octets

    def __int__(self) -> int:
        return int.from_bytes(self._octets, "big")

    def __str__(self) -> str:
        return self._octets.hex(":")

    def __repr__(self) -> str:
        return f"MAC({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return self._octets == other._octets if isinstance(other, MAC) else NotImplemented

    def __lt__(self, other: MAC) -> bool:
        return self._octets < other._octets if isinstance(other, MAC) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._octets)

    @property
    def is_multicast(self) -> bool:
        """The group bit is set (IEEE 802, the lowest bit of the first octet); broadcast is one of these."""
        return bool(self._octets[0] & 1)

    @property
    def is_local(self) -> bool:
        """The address was given out locally, not by a vendor (the second lowest bit of the first octet)."""
        return bool(self._octets[0] & 2)


class Span(NamedTuple):
    """Consecutive addresses `first`..`last` (both included, as integers) of one IP version and zone."""

    version: int
    first: int
    last: int
    zone: str = ""


def span_of(address: IPAddress) -> Span:
    """The span of one address."""
    return Span(address.version, int(address), int(address), _zone(address))


class TargetSet:
    """Addresses in the order they were named, each once, without holding them one by one.

    `spans` may overlap: an address belongs to the first span that has it. Memory is a row per span, and
    spans that continue one another become one. `names` says which host name an address was resolved from,
    where it was.

    `count` is the number of addresses; `len()` is the same but cannot say more than sys.maxsize.
    """

    __slots__ = ("_ends", "_sorted", "count", "names", "spans")

    def __init__(self, spans: Iterable[Span], names: Mapping[IPAddress, str] | None = None) -> None:
        self.spans = _disjoint((), spans)
        self.names = dict(names or {})
        self._ends = list(accumulate(span.last - span.first + 1 for span in self.spans))
        self._sorted = sorted(self.spans, key=_by_place)
        self.count = self._ends[-1] if self._ends else 0

    def without(self, other: TargetSet) -> TargetSet:
        """These addresses except those of `other`, in the same order."""
        kept = {address: name for address, name in self.names.items() if address not in other}
        return TargetSet(_disjoint(other.spans, self.spans), kept)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[IPAddress]:
        for span in self.spans:
            for number in range(span.first, span.last + 1):
                yield _address(span, number)

    @overload
    def __getitem__(self, index: int) -> IPAddress: ...
    @overload
    def __getitem__(self, index: slice) -> list[IPAddress]: ...
    def __getitem__(self, index: int | slice) -> IPAddress | list[IPAddress]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self.count))]
        position = index + self.count if index < 0 else index
        if not 0 <= position < self.count:
            raise IndexError(f"target {index} of {self.count}")
        row = bisect_right(self._ends, position)
        return _address(self.spans[row], self.spans[row].last - (self._ends[row] - 1 - position))

    def __contains__(self, address: object) -> bool:
        if not isinstance(address, (IPv4Address, IPv6Address)):
            return False
        number = int(address)
        wanted = span_of(address)
        row = bisect_right(self._sorted, _by_place(wanted), key=_by_place) - 1
        if row < 0:
            return False
        span = self._sorted[row]
        return (span.version, span.zone) == (wanted.version, wanted.zone) and number <= span.last

    def __eq__(self, other: object) -> bool:
        return self.spans == other.spans if isinstance(other, TargetSet) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<TargetSet: {self.count} addresses in {len(self.spans)} spans>"


def parse_target(
    text: str | Iterable[str],
    *,
    family: int = 0,
    limit: int = TARGET_LIMIT,
    resolve: Resolver | None = None,
) -> TargetSet:
    """The addresses that `text` names: pieces parted by commas or white space, or an iterable of such texts.

    A piece is an address (192.0.2.1, fe80::1%eth0), a prefix (192.0.2.0/24: every address of it, the first
    and last included), a range (192.0.2.1-192.0.2.9), octet ranges as nmap has them (192.0.2-3.1-9,
    192.0.2.*, 192.0.2.1,7-9), or a host name, which stands for the first address that it resolves to.

    `family` 4 or 6 asks for addresses of that IP version only, 0 takes both. `limit` is the largest number of
    addresses accepted, counted before anything is expanded. `resolve` stands in for the system's resolver.

    Raises TargetError, naming the piece.
    """
    spans: list[Span] = []
    names: dict[IPAddress, str] = {}
    count = 0
    for piece in _pieces(text):
        found_n, found, name = _parse_piece(piece, family, resolve or _system_resolver)
        count += found_n
        if count > limit:
            raise TargetError(f"too many targets at {piece!r}: {count} addresses, the limit is {limit}")
        for span in found:
            spans.append(span)
            if name:
                names.setdefault(_address(span, span.first), name)
    if not spans:
        raise TargetError("no targets given")
    return TargetSet(spans, names)


def parse_ports(text: str, protocol: str = "tcp") -> tuple[int, ...]:
    """The ports that `text` names, sorted, each once: "22,80,100-200", service names, "-" for 1..65535.

    An open range means up to the end: "-1023" is 1..1023, "49152-" is 49152..65535. Port 0 has to be named.
    `protocol` ("tcp", "udp", ...) is where a service name is looked up; with "ip" names are those of IP
    protocols, and the numbers theirs. What follows "T:", "U:", "S:" or "P:" is for TCP, UDP, SCTP or IP, and
    counts for that protocol only, as nmap has it: "U:53,T:22,80".

    Raises TargetError, naming the piece.
    """
    ranges: list[tuple[int, int]] = []
    ours = True
    for piece in _pieces(text):
        if letter := re.fullmatch(r"([TUSP]):(.*)", piece):
            ours = _PROTOCOLS[letter[1]] == protocol
            piece = letter[2]
        if not ours:
            continue
        if span := re.fullmatch(r"(\d*)-(\d*)", piece, re.ASCII):
            first, last = _port(span[1] or "1"), _port(span[2] or "65535")
            what = "port range"
        elif re.fullmatch(r"\d+", piece, re.ASCII):
            first = last = _port(piece)
            what = "port"
        else:
            first = last = _service_port(piece, protocol)
            what = "service"
        if max(first, last) > 65535:
            raise TargetError(f"bad {what} {piece!r}: ports are 0..65535")
        if first > last:
            raise TargetError(f"bad port range {piece!r}: it ends before it begins")
        ranges.append((first, last))
    if not ranges:
        raise TargetError("no ports given" if ours else f"no {protocol} ports given: {text!r}")
    ports: list[int] = []
    for first, last in sorted(ranges):
        ports += range(max(first, ports[-1] + 1) if ports else first, last + 1)
    return tuple(ports)


def _port(digits: str) -> int:
    return int(digits) if len(digits) < 10 else 65536  # int() has a limit of its own


def _service_port(name: str, protocol: str) -> int:
    import socket

    try:
        return socket.getprotobyname(name) if protocol == "ip" else socket.getservbyname(name, protocol)
    except (OSError, ValueError):
        what = "IP protocol" if protocol == "ip" else f"{protocol} service"
        raise TargetError(f"bad port {name!r}: no number, no range and no {what} of that name") from None


def _pieces(text: str | Iterable[str]) -> list[str]:
    texts = [text] if isinstance(text, str) else text
    return [piece for part in texts for word in part.split() for piece in _split(word) if piece]


_PROTOCOLS = {"T": "tcp", "U": "udp", "S": "sctp", "P": "ip"}

_OCTET_LIST = r"[\d*-]+(?:,[\d*-]+)*"
_OCTET_LISTS = re.compile(rf"{_OCTET_LIST}(?:\.{_OCTET_LIST}){{3}}", re.ASCII)


def _split(word: str) -> Iterable[str]:
    """The pieces of a word, which commas part; but in 192.0.2-3.1,7 they part octets: two pieces as well."""
    if "," in word and _OCTET_LISTS.fullmatch(word):
        return map(".".join, product(*(octet.split(",") for octet in word.split("."))))
    return word.split(",")


_OCTET = r"(?:0|[1-9]\d{0,2})"  # no leading zeros: some would read them as octal
_OCTET_RANGE = re.compile(rf"\*|(?P<only>{_OCTET})|(?P<first>{_OCTET})?-(?P<last>{_OCTET})?", re.ASCII)


def _parse_piece(piece: str, family: int, resolve: Resolver) -> tuple[int, Iterable[Span], str]:
    """How many addresses a piece stands for, their spans (not expanded), and the host name if it is one."""
    if not re.fullmatch(r"[\d.*/-]+", piece, re.ASCII) and ":" not in piece:
        return 1, [_resolve(piece, family, resolve)], piece
    version = 6 if ":" in piece else 4
    if family not in (0, version):
        raise TargetError(f"bad target {piece!r}: IPv{family} is wanted, this is IPv{version}")
    try:
        if "/" in piece:
            return *_prefix(
                IPv6Network(piece, strict=False) if version == 6 else IPv4Network(piece, strict=False)
            ), ""
        if version == 6:
            # A zone is the name of an interface and may hold a dash itself.
            low, dash, high = (piece, "", "") if "%" in piece else piece.partition("-")
            return *_range(IPv6Address(low), IPv6Address(high if dash else low)), ""
        if piece.count(".") == 6:
            low, _, high = piece.partition("-")
            return *_range(IPv4Address(low), IPv4Address(high)), ""
        return *_octet_ranges(piece), ""
    except ValueError as error:  # ours, and those of ipaddress
        raise TargetError(f"bad target {piece!r}: {error}") from None


def _prefix(network: IPv4Network | IPv6Network) -> tuple[int, Iterable[Span]]:
    base = network.network_address
    span = Span(network.version, int(base), int(network.broadcast_address), _zone(base))
    return network.num_addresses, [span]


def _range(low: IPAddress, high: IPAddress) -> tuple[int, Iterable[Span]]:
    first, last = int(low), int(high)
    if first > last:
        raise ValueError("it ends before it begins")
    return last - first + 1, [Span(low.version, first, last, _zone(low))]


def _octet_ranges(piece: str) -> tuple[int, Iterable[Span]]:
    """The spans of 192.0.2-3.1-9, which may be many: they come from a generator."""
    parts = piece.split(".")
    if len(parts) != 4:
        raise ValueError("an IPv4 address has four octets, separated by dots")
    octets: list[range] = []
    for part in parts:
        form = _OCTET_RANGE.fullmatch(part)
        if form is None:
            raise ValueError(f"{part!r} is no octet and no range of octets")
        first, last = int(form["only"] or form["first"] or 0), int(form["only"] or form["last"] or 255)
        if max(first, last) > 255:
            raise ValueError(f"{part!r} is outside 0..255")
        if first > last:
            raise ValueError(f"{part!r} ends before it begins")
        octets.append(range(first, last + 1))
    # Full octets at the end are consecutive addresses: they belong to the span of the octet before them.
    tail = 1
    while len(octets) > 1 and len(octets[-1]) == 256:
        octets.pop()
        tail *= 256
    run = octets.pop()
    scale = 256 ** (3 - len(octets))

    def spans() -> Iterator[Span]:
        for head in product(*octets):
            base = int.from_bytes(bytes(head), "big") * 256 * scale
            yield Span(4, base + run[0] * scale, base + (run[-1] + 1) * scale - 1)

    return prod(map(len, octets)) * len(run) * tail, spans()


def _resolve(name: str, family: int, resolve: Resolver) -> Span:
    try:
        found = [ip_address(address) for address in resolve(name)]
    except (OSError, UnicodeError) as error:  # UnicodeError: no valid host name (IDNA)
        reason = getattr(error, "strerror", None) or error
        raise TargetError(f"cannot resolve {name!r}: {reason}") from None
    for address in found:
        if family in (0, address.version):
            return Span(address.version, int(address), int(address), _zone(address))
    raise TargetError(f"cannot resolve {name!r}: it has no {f'IPv{family} ' if family else ''}address")


def _system_resolver(name: str) -> Sequence[str]:
    import socket

    found = socket.getaddrinfo(name, None, type=socket.SOCK_DGRAM)
    return [str(address[0]) for _, _, _, _, address in found]


def _zone(address: IPAddress) -> str:
    return (address.scope_id or "") if isinstance(address, IPv6Address) else ""


def _address(span: Span, number: int) -> IPAddress:
    if span.version == 4:
        return IPv4Address(number)
    address = IPv6Address(number)
    return IPv6Address(f"{address}%{span.zone}") if span.zone else address


def _by_place(span: Span) -> tuple[int, str, int]:
    return span.version, span.zone, span.first


def _disjoint(excluded: Iterable[Span], spans: Iterable[Span]) -> tuple[Span, ...]:
    """`spans` in their order, without what an earlier one or one of `excluded` has; neighbours are joined.

    A sweep over the addresses: at each step the earliest of the spans that reach this far gets the stretch
    up to where it ends or the next one begins. n log n in the number of spans, whatever their size.
    """
    ranked = [(-1, span) for span in excluded]
    ranked += enumerate(spans)
    ranked.sort(key=lambda row: _by_place(row[1]))
    pieces: list[tuple[int, Span]] = []
    active: list[tuple[int, int]] = []  # (rank, last address), a heap
    i = at = 0
    while i < len(ranked) or active:
        if not active:
            version, at, _, zone = ranked[i][1]
        while i < len(ranked) and ranked[i][1].first <= at and _same_space(ranked[i][1], version, zone):
            heapq.heappush(active, (ranked[i][0], ranked[i][1].last))
            i += 1
        rank, last = active[0]
        if last < at:
            heapq.heappop(active)
            continue
        if i < len(ranked) and _same_space(ranked[i][1], version, zone):
            last = min(last, ranked[i][1].first - 1)
        if rank >= 0:
            pieces.append((rank, Span(version, at, last, zone)))
        at = last + 1
    pieces.sort(key=lambda row: row[0])  # stable: pieces of one span stay in the order of their addresses
    joined: list[Span] = []
    for _, span in pieces:
        before = joined[-1] if joined else None
        if before and _same_space(before, span.version, span.zone) and before.last + 1 == span.first:
            joined[-1] = before._replace(last=span.last)
        else:
            joined.append(span)
    return tuple(joined)


def _same_space(span: Span, version: int, zone: str) -> bool:
    return span.version == version and span.zone == zone
