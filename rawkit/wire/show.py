"""Packets for people: one line, a tree, a hexdump, an RFC-style diagram, and plain values for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Any

from rawkit.addr import MAC
from rawkit.wire.field import AUTO, FlagBits, UInt
from rawkit.wire.header import Header
from rawkit.wire.layout import FieldInfo, Layout, is_default

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
        text = ": ".join([*tags, _line(layers[first:], lens[first:], len(packet.payload))])
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


def plain(value: Any) -> Any:
    """A field value as something JSON can hold: octets in hexadecimal, addresses as text."""
    if value is AUTO:
        return "auto"
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, (IPv4Address, IPv6Address, MAC)):
        return str(value)
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    if isinstance(value, Layout):
        return {"option": type(value).__name__, **_fields(value)}
    return value


def _fields(header: Layout) -> dict[str, Any]:
    return {row.name: plain(getattr(header, row.name)) for row in header.fields}


def to_dict(packet: Packet) -> dict[str, Any]:
    """`{"layers": [{"layer": name, field: value, ...}, ...], "payload": hex, ...}`; see `plain`."""
    shown: dict[str, Any] = {
        "layers": [{"layer": type(header).__name__, **_fields(header)} for header in packet.layers],
        "payload": packet.payload.hex(),
    }
    if packet.trailer:
        shown["trailer"] = packet.trailer.hex()
    if packet.error is not None:
        shown["error"] = str(packet.error)
    return shown


def diagram(cls: type[Header]) -> str:
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
