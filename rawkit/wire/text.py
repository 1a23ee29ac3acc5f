"""Packets from text: the plain values that JSON holds, and dumps in hexadecimal."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rawkit.errors import FieldError, RawkitError
from rawkit.wire.expression import _subclasses, _suggest, header_classes
from rawkit.wire.field import AUTO, Octets, Variable
from rawkit.wire.header import Header
from rawkit.wire.layout import FieldInfo, Layout
from rawkit.wire.packet import MAX_LAYERS, Packet, _rebuild
from rawkit.wire.registry import load_all

# ---- plain values ------------------------------------------------------------------------------------


def from_dict(values: Mapping[str, Any]) -> Packet:
    """The packet that `Packet.to_dict` (with rawkit's names) made these values of, with the same octets.

    Fields that are missing have their defaults, so that one may write such values by hand. "error" is passed
    over: it follows from the octets.

    Raises: `FieldError`, which names the place.
    """
    if not isinstance(values, Mapping):
        raise FieldError(f"a packet: need an object with layers and payload, got {_short(values)}")
    for key in values:
        if key not in ("layers", "payload", "trailer", "error"):
            raise FieldError(f"a packet: no {key!r} in it; it has layers, payload, trailer")
    layers = _list(values.get("layers", []), "layers")
    if len(layers) > MAX_LAYERS:
        raise FieldError(f"layers: {len(layers)} headers, there can be {MAX_LAYERS}")
    headers = [_header(layer, f"layers[{i}]") for i, layer in enumerate(layers)]
    payload, trailer = (_octets(values.get(key, ""), key) for key in ("payload", "trailer"))
    return _rebuild(headers, payload, trailer)


def _header(values: Any, place: str) -> Header:
    name, fields = _named(values, "layer", place)
    classes = header_classes()
    if name.lower() not in classes:
        load_all()
        classes = header_classes()
    cls = classes.get(name.lower())
    if cls is None:
        raise FieldError(f"{place}: no header {name!r}{_suggest(name, sorted(classes), 'there are ')}")
    header = _layout(cls, fields, place)
    assert isinstance(header, Header)
    return header


def _layout(cls: type[Layout], fields: Mapping[str, Any], place: str) -> Layout:
    rows = {row.name: row for row in cls.fields}
    given: dict[str, Any] = {}
    for name, value in fields.items():
        if name not in rows:
            raise FieldError(
                f"{place}: no field {name!r} in {cls.__name__}{_suggest(name, list(rows), 'it has ')}"
            )
        given[name] = _value(rows[name], value, f"{place}.{name}")
    missing = [row.name for row in cls.fields if row.spec.default is ... and row.name not in given]
    if missing:
        raise FieldError(f"{place}: {cls.__name__} needs a value for {' and '.join(missing)}")
    try:
        return cls(**given)
    except (RawkitError, TypeError, ValueError, OverflowError) as error:
        raise FieldError(f"{place}: {error}") from None


def _value(row: FieldInfo, value: Any, place: str) -> Any:
    if value == "auto" and (row.spec.default is AUTO or row.spec.rule is not None):
        return AUTO
    if value is None and row.spec.default is None:
        return None
    if isinstance(row.kind, Octets):
        return _octets(value, place)
    if not isinstance(row.kind, Variable):
        # JSON has booleans, which Python takes for numbers.
        if isinstance(value, (bool, list, Mapping)):
            raise FieldError(f"{place}: got {_short(value)}")
        return value
    if isinstance(value, str):
        return _octets(value, place)
    items: list[Any] = []
    for i, item in enumerate(_list(value, place)):
        here = f"{place}[{i}]"
        if isinstance(item, Mapping):
            name, fields = _named(item, "option", here)
            items.append(_layout(_option_class(row, name, here), fields, here))
        else:
            items.append(tuple(item) if isinstance(item, list) else item)
    return tuple(items)


def _option_class(row: FieldInfo, name: str, place: str) -> type[Layout]:
    """The class of that name that the field can hold: the family's own before a namesake elsewhere."""
    family = getattr(row.kind, "family", Layout)
    for base in (family, Layout):
        for cls in _subclasses(base):
            if cls.__name__ == name and not issubclass(cls, Header):
                return cls
    known = sorted(cls.__name__ for cls in _subclasses(family))
    raise FieldError(f"{place}: no option {name!r}{_suggest(name, known, 'there are ')}")


def _named(values: Any, key: str, place: str) -> tuple[str, dict[str, Any]]:
    if not isinstance(values, Mapping) or not isinstance(values.get(key), str):
        raise FieldError(f"{place}: need an object that names its {key}, got {_short(values)}")
    return values[key], {str(name): value for name, value in values.items() if name != key}


def _list(values: Any, place: str) -> Sequence[Any]:
    if not isinstance(values, (list, tuple)):
        raise FieldError(f"{place}: need a list, got {_short(values)}")
    return values


def _octets(digits: Any, place: str) -> bytes:
    try:
        return bytes.fromhex(digits)
    except (TypeError, ValueError):
        raise FieldError(f"{place}: need hexadecimal digits, got {_short(digits)}") from None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


# ---- hexadecimal -----------------------------------------------------------------------------------------

_OFFSET = re.compile(r"\s*(?:0[xX])?(?P<offset>[0-9a-fA-F]{4,8})(?:(?P<colon>:)(?=\s|$)|(?=[ \t]{2}))")
_CHARACTERS = {":": re.compile(r"\s{2,}"), None: re.compile(r"\s{3,}|\s+\|")}
"""What lies between a line's octets and their characters. Where a colon follows the offset, all octets
are evenly spaced; elsewhere there may be a gap in their middle, and in a full line none is wider."""

USUAL = 16
"""Octets in a line of a dump without colons."""


def octets_from_hex(text: str) -> bytes:
    """Octets from hexadecimal digits, or from a dump.

    Plain digits may have white space, colons and 0x between the octets. A dump has an offset before each
    line, as xxd, hexdump -C, tcpdump -x and -X, Wireshark and rawkit print it, and perhaps characters after
    its octets; the offsets say how many octets a line has. Lines without an offset are passed over then.

    Raises: `FieldError`, which names the place.
    """
    rows = [(n, m) for n, line in enumerate(text.splitlines(), 1) if (m := _OFFSET.match(line))]
    offsets = [int(match["offset"], 16) for _, match in rows]
    if not rows or offsets[0]:
        return _digits(text)
    octets = b""
    for i, (n, match) in enumerate(rows):
        if offsets[i] != len(octets):
            why = "a second dump?" if offsets[i] == 0 else f"after {len(octets)} octets"
            raise FieldError(f"hexadecimal dump, line {n}: offset {offsets[i]:#x} ({why})")
        want = None if i + 1 == len(rows) else offsets[i + 1] - offsets[i]
        octets += _row(match, n, want if want and want > 0 else None)
    return octets


def _row(match: re.Match[str], line: int, want: int | None) -> bytes:
    """The octets of a dump's line: `want` of them (None: as many as there are)."""
    octets = b""
    rest = match.string[match.end() :].strip()
    most = want or (1 << 16 if match["colon"] else USUAL)
    for word in _CHARACTERS[match["colon"]].split(rest, maxsplit=1)[0].split():
        if len(octets) >= most:
            break
        if not re.fullmatch(r"(?:[0-9a-fA-F]{2})+", word):
            if octets:
                break  # characters, close behind the octets
            raise FieldError(f"hexadecimal dump, line {line}: {_short(word)} are no octets")
        octets += bytes.fromhex(word)
    if want is not None and len(octets) != want:
        raise FieldError(f"hexadecimal dump, line {line}: {len(octets)} octets, the offsets say {want}")
    return octets


def _digits(text: str) -> bytes:
    digits = re.sub(r"\b0[xX]|[\s:]", "", text)
    wrong = re.search(r"[^0-9a-fA-F]", digits)
    if wrong is not None:
        raise FieldError(f"{wrong[0]!r} is no hexadecimal digit")
    if len(digits) % 2 or not digits:
        raise FieldError(f"{len(digits)} digits; octets have two each, and there must be one")
    return bytes.fromhex(digits)
