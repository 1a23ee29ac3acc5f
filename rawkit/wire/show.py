"""Packets for people: one line, a tree, a hexdump, an RFC-style diagram, and plain values for JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Any

from rawkit.addr import MAC
from rawkit.errors import HeaderError
from rawkit.wire.field import AUTO, FlagBits, UInt, Variable
from rawkit.wire.header import Header
from rawkit.wire.layout import FieldInfo, Layout, is_default
from rawkit.wire.wireshark import names_of

if TYPE_CHECKING:
    from rawkit.wire.packet import Packet


HEXADECIMAL = ("checksum", "ethertype")
"""Fields whose numbers people know in hexadecimal."""


def printable(octets: bytes) -> str:
    """ASCII, everything else as dots."""
    return "".join(chr(octet) if 32 <= octet < 127 else "." for octet in octets)


def summary(packet: Packet) -> str:
    """One line in the manner of tcpdump.

    `IP 192.0.2.1.40000 > 192.0.2.2.80: Flags [S], seq 1, win 64240, options [mss 1460], length 0`

    Each header gives its ends (addresses or ports) and its words (`Header.ends`, `Header.summary`); ports are
    joined to the addresses below them. Link headers with addresses are left out when a network header
    follows. The length is in octets, of what comes after the last header whose ends are shown.
    """
    layers = packet.layers
    if not layers:
        text = f"no header known, length {len(packet.payload)}"
    else:
        lens = [len(octets) for octets in packet._headers()]
        first = next((i for i, layer in enumerate(layers) if layer.is_network), 0)
        tags = [layer.summary() for layer in layers[:first] if layer.ends() is None]
        text = ": ".join([*filter(None, tags), _line(layers[first:], lens[first:], len(packet.payload))])
    if packet.error is not None:
        text += f" [{packet.error}]"
    return text if text.isprintable() else "".join(c if c.isprintable() else "." for c in text)


def _line(layers: Sequence[Header], lens: Sequence[int], payload_len: int) -> str:
    parts: list[str] = []
    addresses: tuple[str, str] | None = None  # those in parts[place], while no ports are joined to them
    place = length = 0
    for i, layer in enumerate(layers):
        length += lens[i]
        ends = layer.ends()
        if ends is not None:
            length = 0
            if addresses is not None and not layer.is_network:
                joined = [f"{address}.{port}" for address, port in zip(addresses, ends)]
                parts[place] = parts[place].replace(" > ".join(addresses), " > ".join(joined))
                addresses = None
            else:
                addresses, place = ends, len(parts)
                parts.append(f"{layer.label} {' > '.join(ends)}")
        words = layer.summary()
        if words:
            parts.append(words)
        if layer.quotes:
            rest = sum(lens[i + 1 :]) + payload_len
            text = f"{': '.join(parts)}, length {length + rest}"
            quoted = layers[i + 1 :]
            return f"{text}, for {_line(quoted, lens[i + 1 :], payload_len)}" if quoted else text
    if payload_len:
        # What follows has no class here, or too few octets for one: its number at least.
        parts += [f"{row.name} {value_text(row, layers[-1])}" for row in layers[-1].selectors()]
    return f"{': '.join(parts)}, length {length + payload_len}"


def words(header: Header) -> str:
    """The fields that differ from their defaults; the ends and what building computes are left out."""
    shown = [
        f"{row.name} {value_text(row, header)}"
        for row in header.fields
        if row.spec.rule is None
        and row.name not in header._ends
        and not is_default(row, getattr(header, row.slot))
    ]
    return ", ".join([type(header).__name__, *shown])


def value_text(row: FieldInfo, header: Layout) -> str:
    """A field's value for the eye: names beside numbers, flags by name, `auto` where it is computed."""
    if getattr(header, row.slot) is AUTO:
        return "auto"
    value = getattr(header, row.name)
    if value is None:
        return "-"
    if isinstance(row.kind, FlagBits):
        return f"{row.kind.text(value)} ({value:#x})"
    if isinstance(value, int) and value in row.spec.names:
        number = f"{value:#06x}" if row.name in HEXADECIMAL else str(value)
        return f"{number} ({row.spec.names[value]})"
    if isinstance(value, int) and row.name in HEXADECIMAL:
        return f"{value:#06x}"
    if isinstance(value, bytes):
        return value.hex(" ") or "-"
    if isinstance(value, tuple):
        return ", ".join(map(repr, value)) or "-"
    return str(value)


def header_tree(header: Header, indent: str = "", notes: dict[str, str] | None = None) -> str:
    """The header's name, then its fields, one a line; `notes` puts words behind a field's value."""
    width = max((len(row.name) for row in header.fields), default=0)
    lines = [f"{indent}{type(header).__name__}"]
    for row in header.fields:
        note = (notes or {}).get(row.name, "")
        lines.append(f"{indent}  {row.name:<{width}}  {value_text(row, header)}{f'  {note}' if note else ''}")
    return "\n".join(lines)


def tree(packet: Packet) -> str:
    """All headers with their fields, checksums judged, then payload, trailer and damage."""
    notes: dict[tuple[type[Header], int], dict[str, str]] = {}
    seen: dict[type[Header], int] = {}
    for verdict in packet.checksums():
        nth = seen[verdict.layer] = seen.get(verdict.layer, -1) + 1
        text = verdict.state + (f", should be {verdict.expected:#06x}" if verdict.state == "bad" else "")
        notes[verdict.layer, nth] = {verdict.field: f"[{text}]"}
    lines = []
    count: dict[type[Header], int] = {}
    for header in packet.layers:
        nth = count[type(header)] = count.get(type(header), -1) + 1
        lines.append(header_tree(header, notes=notes.get((type(header), nth))))
    for name, octets in (("payload", packet.payload), ("trailer", packet.trailer)):
        if octets:
            lines.append(f"{name} {len(octets)} octets")
            lines.append("  " + hexdump(octets).replace("\n", "\n  "))
    if packet.error is not None:
        lines.append(f"damaged: {packet.error}")
    return "\n".join(lines)


def hexdump(octets: bytes) -> str:
    """Offset, 16 octets in hexadecimal, and as characters where they are printable."""
    lines = []
    for at in range(0, len(octets), 16):
        row = octets[at : at + 16]
        lines.append(f"{at:04x}  {row[:8].hex(' '):<23}  {row[8:].hex(' '):<23}  {printable(row)}")
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Span:
    """Octets of a packet and the fields in them.

    `fields` are the names of the fields that share these octets; none for the payload and the trailer, where
    `layer` is that word.
    """

    start: int
    end: int
    layer: str
    fields: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.layer}.{', '.join(self.fields)}" if self.fields else self.layer


def resolved(header: Header, octets: bytes) -> Header:
    """The header with what building computed filled in from the octets it was built to."""
    if all(getattr(header, row.slot) is not AUTO for row in header.fields):
        return header
    try:
        return type(header).parse(octets)
    except HeaderError:  # it lies about its own length
        return header


def field_places(header: Header, octets: bytes) -> Iterator[tuple[FieldInfo, int, int]]:
    """Each field that is in a built header, its first bit and its width in bits."""
    header = resolved(header, octets)
    at = 0
    for row in header.fields:
        content = getattr(header, row.slot)
        if content is None:
            continue
        width = row.width or len(content) * 8
        if at + width > len(octets) * 8:
            return
        yield row, at, width
        at += width


def spans(packet: Packet) -> list[Span]:
    """What the octets of the packet as built are, in order and without gaps."""
    found: list[Span] = []
    at = 0
    for header, octets in zip(packet.layers, packet._headers()):
        layer, end = type(header).__name__, at
        names: list[str] = []
        for row, first, width in field_places(header, octets):
            if not width:
                continue
            names.append(row.name)
            if (first + width) % 8 == 0:
                found.append(Span(end, at + (first + width) // 8, layer, tuple(names)))
                end, names = found[-1].end, []
        at += len(octets)
        if end < at:
            found.append(Span(end, at, layer, ()))
    for name, octets in (("payload", packet.payload), ("trailer", packet.trailer)):
        if octets:
            found.append(Span(at, at + len(octets), name, ()))
            at += len(octets)
    return found


def annotated_hexdump(packet: Packet) -> str:
    """`hexdump` with a number under each field's first octet, and the fields by number below."""
    octets, parts = bytes(packet), spans(packet)
    starts = {span.start: n for n, span in enumerate(parts, 1)}
    lines = []
    for at, line in zip(range(0, len(octets), 16), hexdump(octets).split("\n")):
        lines.append(line)
        # A number of three digits takes the place of the space after its octet.
        marks = "".join(f"{starts.get(i, ''):<3}" for i in range(at, min(at + 16, len(octets))))
        marks = f"{marks[:24]} {marks[24:]}" if len(marks) > 24 else marks
        lines.append(f"      {marks}".rstrip())
    width = len(str(len(parts)))
    lines += [f"{n:>{width}}  {span.start:04x}  {span.name}" for n, span in enumerate(parts, 1)]
    return "\n".join(line for line in lines if line)


def plain(value: Any, names: str = "rawkit") -> Any:
    """A field value as something JSON can hold: octets in hexadecimal, addresses as text."""
    if type(value) is int:  # most are
        return value
    if value is AUTO:
        return "auto"
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, (IPv4Address, IPv6Address, MAC)):
        return str(value)
    if isinstance(value, tuple):
        return [plain(item, names) for item in value]
    if isinstance(value, Layout):
        return {"option": type(value).__name__, **_fields(value, names)}
    return value


def _fields(header: Layout, names: str) -> dict[str, Any]:
    theirs = names_of(type(header)) if names == "wireshark" else {}
    shown: dict[str, Any] = {}
    for row in header.fields:
        value = _plain_field(row, header, names)
        # Wireshark has one name for the places where a number may stand (a short and a long one).
        if value is not None or shown.get(theirs.get(row.name, row.name)) is None:
            shown[theirs.get(row.name, row.name)] = value
    return shown


def _plain_field(row: FieldInfo, header: Layout, names: str) -> Any:
    value, content = getattr(header, row.name), getattr(header, row.slot)
    if isinstance(row.kind, Variable) and isinstance(content, bytes):
        # Octets that the value does not show (padding, damage) are part of the header all the same.
        value = value if row.kind.encode(value, row.name) == content else content
    return plain(value, names)


def to_dict(packet: Packet, names: str = "rawkit") -> dict[str, Any]:
    """`{"layers": [{"layer": name, field: value, ...}, ...], "payload": hex, ...}`; see `plain`.

    With `names="wireshark"` there is "frame.len", and fields, those of options too, have Wireshark's names
    ("ip.ttl") where it has a field that means the same.

    Raises: `ValueError` for other names.
    """
    if names not in ("rawkit", "wireshark"):
        raise ValueError(f'names are "rawkit" or "wireshark", not {names!r}')
    layers = [{"layer": type(header).__name__, **_fields(header, names)} for header in packet.layers]
    shown: dict[str, Any] = {"frame.len": len(packet)} if names == "wireshark" else {}
    shown |= {"layers": layers, "payload": packet.payload.hex()}
    if packet.trailer:
        shown["trailer"] = packet.trailer.hex()
    if packet.error is not None:
        shown["error"] = str(packet.error)
    return shown


def diagram(cls: type[Layout]) -> str:
    """The layout in the style of the RFCs: 32 bits a row, a line's worth of `-+` per bit."""
    lines = [
        " 0                   1                   2                   3",
        " " + " ".join(str(bit % 10) for bit in range(32)),
    ]
    cells: list[tuple[int, int, str]] = []  # row, bits, text
    for row in cls.fields:
        at, left = row.offset, row.width
        if left == 0:
            cells.append((at // 32, 32, f"{row.name} ..."))
        first = True
        while left:
            bits = min(left, 32 - at % 32)
            name = row.name if first or isinstance(row.kind, UInt) else f"({row.name})"
            cells.append((at // 32, bits, name))
            at, left, first = at + bits, left - bits, False
    rule = "+" + "-+" * 32
    lines.append(rule)
    for number in sorted({cell[0] for cell in cells}):
        line = "|"
        for _, bits, text in (cell for cell in cells if cell[0] == number):
            room = 2 * bits - 1
            line += f"{text[:room]:^{room}}|"
        lines += [line, "+" + "-+" * ((len(line) - 1) // 2)]
    return "\n".join(lines)
