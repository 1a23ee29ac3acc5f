"""Packets changed and compared: fields by path, layers put in and taken out, differences, damaged variants.

A *path* is `header.field`, as in `tcp.dport`: the header by its class name or one of the expressions' short
names (`ip.ttl`), in any case; of several headers of a kind `ip[1].ttl` is the second. The names that
Wireshark has for fields do as well (`tcp.dstport`). `payload` is the payload.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, NamedTuple

from rawkit.errors import RawkitError
from rawkit.wire.expression import ALIASES, _suggest, _without_computed
from rawkit.wire.field import ChecksumRule, CRC32cRule, Rule, UInt
from rawkit.wire.header import Header
from rawkit.wire.layout import FieldInfo
from rawkit.wire.option import OptionList
from rawkit.wire.packet import Packet, _rebuild
from rawkit.wire.show import field_places, resolved, value_text
from rawkit.wire.wireshark import our_field

_PATH = re.compile(r"(?P<layer>[A-Za-z_]\w*)(?:\[(?P<nth>\d{1,3})\])?(?:\.(?P<field>[\w.]+))?", re.ASCII)

PAYLOAD = "payload"


# ---- paths -----------------------------------------------------------------------------------------


def get(packet: Packet, path: str) -> Any:
    """What stands at a path: a field's value, or (a path without a field) the header.

    Raises: `KeyError` when the packet has no such header or the header no such field.
    """
    if path == PAYLOAD:
        return packet.payload
    if path == "frame.len":
        return len(packet)
    i, row = _find(packet, path)
    header = packet.layers[i]
    return header if row is None else getattr(header, row.name)


def changed(packet: Packet, changes: Mapping[str, Any]) -> Packet:
    """The packet with other values at some paths; see `Packet.set`.

    Raises: `KeyError` as `get`, `FieldError` for a value that the field cannot hold.
    """
    by_layer: dict[int, dict[str, Any]] = {}
    payload = packet.payload
    for path, value in changes.items():
        if path == PAYLOAD:
            payload = bytes(memoryview(value))
            continue
        i, row = _find(packet, path)
        if row is None:
            raise KeyError(f"{path!r} names a header; a value is set at header.field")
        by_layer.setdefault(i, {})[row.name] = value
    layers = [header.replace(**by_layer.get(i, {})) for i, header in enumerate(packet.layers)]
    return _rebuild(layers, payload, packet.trailer)


def _find(packet: Packet, path: str) -> tuple[int, FieldInfo | None]:
    """Which header of the packet a path means, and which of its fields (None: the header itself)."""
    found = _PATH.fullmatch(path)
    if found is None:
        raise KeyError(f"{path!r} is no path such as 'tcp.dport' or 'ip[1].ttl'")
    layer, nth, field = found["layer"].lower(), int(found["nth"] or 0), found["field"]
    wanted = ALIASES.get(layer, layer)
    kinds: list[tuple[str, str | None]] = [(wanted, field)]
    if field is not None:
        kinds += [(kind.lower(), name) for kind, name in our_field(f"{layer}.{field}")]
    reason = ""
    for kind, name in kinds:
        places = [i for i, header in enumerate(packet.layers) if _is_called(header, kind)]
        if len(places) <= nth:
            continue
        header = packet.layers[places[nth]]
        if name is None:
            return places[nth], None
        for row in header.fields:
            if row.name == name:
                return places[nth], row
        known = [row.name for row in header.fields]
        reason = reason or f"{type(header).__name__} has no field {name!r}{_suggest(name, known, 'it has ')}"
    if not reason:
        have = "/".join(type(header).__name__ for header in packet.layers) or "no headers"
        which = layer if nth == 0 else f"{layer}[{nth}]"
        reason = f"no {which} in this packet ({have})"
    raise KeyError(reason)


def _is_called(header: Header, name: str) -> bool:
    """Whether this is the lower-case name of the header's class or of a class it extends."""
    return any(base.__name__.lower() == name for base in type(header).__mro__ if issubclass(base, Header))


def layer_names(layers: Sequence[Header]) -> list[str]:
    """What paths call the headers: the class name, counted where there are several ("IPv4", "IPv4[1]")."""
    seen: dict[str, int] = {}
    names = []
    for header in layers:
        name = type(header).__name__
        nth = seen[name] = seen.get(name, -1) + 1
        names.append(f"{name}[{nth}]" if nth else name)
    return names


# ---- layers ----------------------------------------------------------------------------------------


def inserted(packet: Packet, after: type[Header] | str | None, header: Header) -> Packet:
    """The packet with one header more; see `Packet.insert`."""
    layers = _computed_anew(packet)
    at = 0 if after is None else _place(packet, after) + 1
    return _rebuild([*layers[:at], header, *layers[at:]], packet.payload, packet.trailer)


def removed(packet: Packet, kind: type[Header] | str) -> Packet:
    """The packet with one header less; see `Packet.remove`."""
    layers = _computed_anew(packet)
    at = _place(packet, kind)
    return _rebuild([*layers[:at], *layers[at + 1 :]], packet.payload, packet.trailer)


def _computed_anew(packet: Packet) -> list[Header]:
    """The headers with `AUTO` in each field that says what computing it would give; lies stay."""
    return _without_computed(list(packet.layers), packet.payload, packet.trailer)


def _place(packet: Packet, kind: type[Header] | str) -> int:
    if isinstance(kind, str):
        i, row = _find(packet, kind)
        if row is not None:
            raise KeyError(f"{kind!r} names a field, not a header")
        return i
    header = packet[kind]
    return next(i for i, layer in enumerate(packet.layers) if layer is header)


# ---- differences -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FieldDifference:
    """One thing in which two packets differ.

    `layer` is the header as paths name it, `field` its field. Of a header that only one packet has, `field`
    is "" and the other side None. For payload and trailer `layer` is that word and both sides are octets.
    `offset` is where it starts, in octets from the start of the left packet (of the right one where the left
    has nothing; in a payload the first octet that differs).
    """

    layer: str
    field: str
    left: Any
    right: Any
    offset: int

    @property
    def path(self) -> str:
        """As `packet[...]` takes it."""
        return f"{self.layer}.{self.field}" if self.field else self.layer

    def __str__(self) -> str:
        sides = [_side_text(value, self.field) for value in (self.left, self.right)]
        return f"{self.path} at offset {self.offset}: {sides[0]} -> {sides[1]}"


def _side_text(value: Any, field: str) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bytes):
        shown = value[:32].hex(" ") or "-"
        return shown if len(value) <= 32 else f"{shown} ... ({len(value)} octets)"
    if isinstance(value, _Shown):
        return value.text
    return str(value)


class _Shown(int):
    """A number that knows how its field writes it: with names, flags, in hexadecimal."""

    text: str


def diff(left: Packet, right: Packet) -> list[FieldDifference]:
    """What differs between two packets as they go out, field by field, in wire order; [] for equal octets.

    Headers of the same class are compared with each other, in order. What building computes is computed
    first, so a packet equals what is parsed from its octets.
    """
    sides = [_resolved(packet) for packet in (left, right)]
    mine, others = sides
    starts = [_starts(packet) for packet in (left, right)]
    built = left._headers()
    names = [layer_names(layers) for layers in sides]
    found: list[FieldDifference] = []
    matcher = SequenceMatcher(None, [type(h) for h in mine], [type(h) for h in others], autojunk=False)
    for _, first, last, other_first, other_last in matcher.get_opcodes():
        same = mine[first:last], others[other_first:other_last]
        if [type(h) for h in same[0]] == [type(h) for h in same[1]]:
            for i, (header, other) in enumerate(zip(*same)):
                found += _field_differences(
                    header, other, names[0][first + i], starts[0][first + i], built[first + i]
                )
            continue
        for i in range(first, last):
            found.append(FieldDifference(names[0][i], "", mine[i], None, starts[0][i]))
        for i in range(other_first, other_last):
            found.append(FieldDifference(names[1][i], "", None, others[i], starts[1][i]))
    at = starts[0][-1]
    for name, octets, other_octets in (
        (PAYLOAD, left.payload, right.payload),
        ("trailer", left.trailer, right.trailer),
    ):
        if octets != other_octets:
            pairs = enumerate(zip(octets, other_octets))
            differs = next((i for i, (a, b) in pairs if a != b), min(len(octets), len(other_octets)))
            found.append(FieldDifference(name, "", octets, other_octets, at + differs))
        at += len(octets)
    return found


def diff_text(left: Packet, right: Packet) -> str:
    """`diff` for the eye: a line per difference, "no difference" where there is none."""
    return "\n".join(map(str, diff(left, right))) or "no difference"


def _starts(packet: Packet) -> list[int]:
    """Where each header starts, and after them the payload."""
    starts = [0]
    for octets in packet._headers():
        starts.append(starts[-1] + len(octets))
    return starts


def _resolved(packet: Packet) -> list[Header]:
    """The headers with what building computes filled in."""
    return [resolved(header, octets) for header, octets in zip(packet.layers, packet._headers())]


def _field_differences(
    left: Header, right: Header, layer: str, start: int, octets: bytes
) -> list[FieldDifference]:
    found = []
    places = {row.name: first // 8 for row, first, _ in field_places(left, octets)}
    for row in left.fields:
        if getattr(left, row.slot) == getattr(right, row.slot):
            continue
        values = [_shown(row, header) for header in (left, right)]
        if values[0] == values[1]:  # options that differ in their padding
            values = [getattr(header, row.slot) for header in (left, right)]
        place = start + places.get(row.name, row.offset // 8)
        found.append(FieldDifference(layer, row.name, values[0], values[1], place))
    return found


def _shown(row: FieldInfo, header: Header) -> Any:
    value = getattr(header, row.name)
    if isinstance(value, int):
        value = _Shown(value)
        value.text = value_text(row, header)
    return value


# ---- damaged variants --------------------------------------------------------------------------------


class Mutant(NamedTuple):
    """Octets that are a variant of a packet, and what was done to them."""

    octets: bytes
    reason: str


RANDOM_VARIANTS = 64
"""Variants with random bits changed that `mutate` ends with."""


def mutate(packet: Packet, seed: int = 0) -> Iterator[Mutant]:
    """Variants of a packet at and beyond the edge of what its protocols allow, each with its reason.

    First each field in turn, at zero, at its maximum, one off, and at a random value: alone, so that
    checksums and lengths no longer fit, and where that makes a difference with what is computed made to fit,
    so that a receiver's checksum test does not hide the change. Then options with damaged lengths, packets
    cut at and about the ends of headers, headers repeated, left out and exchanged, and random bits changed.

    The same packet and seed give the same variants, of which no two are equal and none equals the packet.
    Never raises.
    """
    rng = random.Random(seed)
    seen = {bytes(packet)}
    for octets, reason in _variants(packet, rng):
        if octets not in seen:
            seen.add(octets)
            yield Mutant(octets, reason)


def _variants(packet: Packet, rng: random.Random) -> Iterator[tuple[bytes, str]]:
    octets = bytes(packet)
    layers = _computed_anew(packet)
    starts, names = _starts(packet), layer_names(packet.layers)
    for i, (header, built) in enumerate(zip(packet.layers, packet._headers())):
        for row, first, _ in field_places(header, built):
            if row.width:
                yield from _field_variants(
                    packet, octets, layers, i, row, starts[i] * 8 + first, names[i], rng
                )
            elif isinstance(row.kind, OptionList):
                yield from _option_variants(packet, layers, i, row, row.kind, names[i])
    yield from _truncations(octets, packet, starts, names)
    yield from _layer_variants(packet, layers, names)
    for n in range(RANDOM_VARIANTS if octets else 0):
        damaged = bytearray(octets)
        places = sorted(rng.sample(range(len(octets) * 8), min(1 + n % 4, len(octets) * 8)))
        for bit in places:
            damaged[bit // 8] ^= 0x80 >> bit % 8
        yield bytes(damaged), f"random: bits {', '.join(map(str, places))} inverted"


def _field_variants(
    packet: Packet,
    octets: bytes,
    layers: list[Header],
    i: int,
    row: FieldInfo,
    first: int,
    name: str,
    rng: random.Random,
) -> Iterator[tuple[bytes, str]]:
    value, top = _bits(octets, first, row.width), (1 << row.width) - 1
    what = _purpose(row)
    for number, why in (
        (0, "zero"),
        (top, "the maximum"),
        (value + 1 & top, "one more"),
        (value - 1 & top, "one less"),
        (2 * value & top, "doubled"),
        (rng.getrandbits(row.width), "random"),
    ):
        if number == value:
            continue
        reason = f"{name}.{row.name}{what} {value:#x} -> {number:#x} ({why})"
        yield _with_bits(octets, first, row.width, number), reason
        content = number if isinstance(row.kind, UInt) else number.to_bytes(row.width // 8, "big")
        fitted = [*layers[:i], layers[i].replace(**{row.name: content}), *layers[i + 1 :]]
        built = _built(fitted, packet.payload, packet.trailer)
        if built is not None:
            yield built, f"{reason}, the rest made to fit"


def _purpose(row: FieldInfo) -> str:
    """What a field is for, where a wrong value is a lie about the packet."""
    rule = row.spec.rule
    if isinstance(rule, (ChecksumRule, CRC32cRule)):
        return " (checksum)"
    if isinstance(rule, Rule) and (rule.unit or rule.bounds):
        return " (length)"
    return ""


def _option_variants(
    packet: Packet, layers: list[Header], i: int, row: FieldInfo, kind: OptionList, name: str
) -> Iterator[tuple[bytes, str]]:
    data: bytes = getattr(layers[i], row.slot)
    family = kind.family
    damaged: list[tuple[bytes, str]] = [
        (bytes([2]), "one octet, a kind without a length"),
        (bytes([254, 0]), "an option of length 0"),
        (bytes([254, 1]), "an option of length 1"),
        (bytes([254, 255]), "an option that is longer than the header"),
        (data + bytes([254, 2, 1, 1]), "an unknown option more"),
        (data + data, "all options twice"),
        (bytes(40), "forty octets of zero"),
    ]
    if data:
        damaged += [(b"", "no options"), (data[:-1], "the last octet missing")]
    at = 0
    while at < len(data) and data[at] != family.end:
        if data[at] in family.singles:
            at += 1
            continue
        if at + 1 == len(data):
            break
        length = data[at + 1]
        for wrong in (0, 1, length - 1, length + 1, 255):
            if 0 <= wrong <= 255 and wrong != length:
                lying = data[: at + 1] + bytes([wrong]) + data[at + 2 :]
                damaged.append((lying, f"option {data[at]} says length {wrong} instead of {length}"))
        unknown = data[:at] + b"\xfe" + data[at + 1 :]
        damaged.append((unknown, f"option {data[at]} of an unknown kind"))
        if length * family.length_unit < 2:
            break
        at += length * family.length_unit
    for wrong_data, why in damaged:
        changed_layers = [*layers[:i], layers[i].replace(**{row.name: wrong_data}), *layers[i + 1 :]]
        built = _built(changed_layers, packet.payload, packet.trailer)
        if built is not None:
            yield built, f"{name}.{row.name}: {why}"


def _truncations(
    octets: bytes, packet: Packet, starts: list[int], names: list[str]
) -> Iterator[tuple[bytes, str]]:
    for at, name in zip(starts, [*names, PAYLOAD]):
        for length, where in ((at - 1, "one octet before"), (at, "before"), (at + 1, "one octet into")):
            if 0 <= length < len(octets):
                yield octets[:length], f"cut to {length} octets, {where} {name}"
    if packet.payload:
        yield octets[:-1], f"cut to {len(octets) - 1} octets, the last one missing"
    yield octets + bytes(18), "18 octets of zero after the end"


def _layer_variants(packet: Packet, layers: list[Header], names: list[str]) -> Iterator[tuple[bytes, str]]:
    for i, name in enumerate(names):
        for rearranged, why in (
            ([*layers[:i], *layers[i + 1 :]], f"without {name}"),
            ([*layers[: i + 1], *layers[i:]], f"{name} twice"),
            ([*layers[:i], *layers[i : i + 2][::-1], *layers[i + 2 :]], f"{name} after what followed it"),
            ([*layers[:i], *[layers[i]] * 40, *layers[i + 1 :]], f"{name} forty times"),
        ):
            built = _built(rearranged, packet.payload, packet.trailer)
            if built is not None:
                yield built, why
    built = _built(layers, b"", packet.trailer)
    if built is not None:
        yield built, "without payload"


def _built(layers: Sequence[Header], payload: bytes, trailer: bytes) -> bytes | None:
    """The octets; None where something computed does not fit its field."""
    try:
        return bytes(_rebuild(layers, payload, trailer))
    except RawkitError:
        return None


def _bits(octets: bytes, first: int, width: int) -> int:
    """`width` bits from the bit `first` on, as a number."""
    last = first + width
    number = int.from_bytes(octets[first // 8 : (last + 7) // 8], "big")
    return number >> -last % 8 & (1 << width) - 1


def _with_bits(octets: bytes, first: int, width: int, value: int) -> bytes:
    """The octets with `width` bits from the bit `first` on replaced."""
    last = first + width
    start, end = first // 8, (last + 7) // 8
    mask = (1 << width) - 1 << -last % 8
    number = int.from_bytes(octets[start:end], "big") & ~mask | value << -last % 8
    return octets[:start] + number.to_bytes(end - start, "big") + octets[end:]
