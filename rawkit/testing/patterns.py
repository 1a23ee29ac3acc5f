"""Patterns: what of a packet matters to a test, and how a packet differs from that."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rawkit.wire.header import Header
    from rawkit.wire.packet import Packet


@dataclass(frozen=True)
class _Layer:
    """A header, and what some of its fields shall be."""

    name: str
    kind: type[Header]
    fields: dict[str, Any]

    def __str__(self) -> str:
        fields = ", ".join(f"{name}={_text(value)}" for name, value in self.fields.items())
        return f"{self.name}({fields})" if fields else self.name

    def differences(self, header: Header) -> list[str]:
        return [
            difference
            for name, wanted in self.fields.items()
            if (difference := self._difference(header, name, wanted))
        ]

    def _difference(self, header: Header, name: str, wanted: Any) -> str:
        from rawkit.wire.show import value_text

        row = next((row for row in header.fields if row.name == name), None)
        if row is None:
            return (
                f"{self.name}.{name}: expected {_text(wanted)}, but {type(header).__name__} has no such field"
            )
        got = getattr(header, name)
        if callable(wanted):
            expected, same = _text(wanted), bool(wanted(got))
        elif isinstance(wanted, (range, set, frozenset)):
            choices: Container[Any] = wanted
            expected, same = f"one of {wanted}", got in choices
        else:
            like = header.replace(**{name: wanted})  # the value as the header holds it: an address, a number
            expected, same = value_text(row, like), getattr(like, name) == got
        return "" if same else f"{self.name}.{name}: expected {expected}, got {value_text(row, header)}"


class Pattern:
    """What a packet shall be: headers one behind the other, values of some of their fields, and a payload.

    Made by `ip(ttl=64) / udp(dport=53) / b"data"`. It fits a packet that has these headers next to each
    other, in this order; what comes before them does not matter, nor what comes behind unless octets end the
    pattern. A value is what the header's class takes ("192.0.2.1", "SA", 80), a range or set of values, or a
    function that is given the value and says whether it will do.
    """

    def __init__(self, layers: tuple[_Layer, ...] = (), octets: bytes | None = None) -> None:
        self._layers = layers
        self._octets = octets

    def __truediv__(self, other: Pattern | bytes) -> Pattern:
        if self._octets is not None:
            raise TypeError("nothing can follow the payload of a pattern")
        if isinstance(other, Pattern):
            return Pattern(self._layers + other._layers, other._octets)
        if isinstance(other, (bytes, bytearray, memoryview)):
            return Pattern(self._layers, bytes(other))
        return NotImplemented

    def __str__(self) -> str:
        parts = [str(layer) for layer in self._layers]
        if self._octets is not None:
            parts.append(repr(self._octets))
        return " / ".join(parts)

    def __repr__(self) -> str:
        return f"<Pattern {self}>"

    def fits(self, packet: Packet) -> bool:
        """Whether the packet is like this."""
        return not self.differences(packet)

    def differences(self, packet: Packet) -> list[str]:
        """How the packet differs, one line each; nothing when it fits.

        Where the headers stand several times (in a tunnel) the place counts that differs least.
        """
        layers, n = packet.layers, len(self._layers)
        found: list[str] | None = None
        for start in range(len(layers) - n + 1):
            here = layers[start : start + n]
            if all(isinstance(header, wanted.kind) for header, wanted in zip(here, self._layers)):
                differences = [
                    text for header, wanted in zip(here, self._layers) for text in wanted.differences(header)
                ] + self._in_payload(packet, start + n)
                if found is None or len(differences) < len(found):
                    found = differences
        if found is not None:
            return found
        have = "/".join(type(header).__name__ for header in layers) or "no headers"
        return [f"expected {'/'.join(wanted.kind.__name__ for wanted in self._layers)}, got {have}"]

    def _in_payload(self, packet: Packet, end: int) -> list[str]:
        if self._octets is None:
            return []
        octets = b"".join(packet._headers()[end:]) + packet.payload
        if octets == self._octets:
            return []
        pairs = enumerate(zip(self._octets, octets))
        at = next((i for i, (wanted, got) in pairs if wanted != got), min(len(octets), len(self._octets)))
        place = f" from octet {at} on" if at else ""
        return [f"payload: expected{place} {_start(self._octets, at)}, got {_start(octets, at)}"]


def layer(kind: type[Header] | str, /, **fields: Any) -> Pattern:
    """A pattern of one header: a class, or its name ("sctp"), and what some of its fields shall be.

    Raises:
        TypeError: no such header, or it has no such field (nor has any variant of it).
    """
    from rawkit.wire.expression import ALIASES, header_classes
    from rawkit.wire.registry import load_all

    if isinstance(kind, str):
        load_all()
        name = kind.lower()
        found = header_classes().get(ALIASES.get(name, name))
        if found is None:
            raise TypeError(f"there is no header {kind!r}")
    else:
        name, found = kind.__name__, kind
    known = {row.name for cls in header_classes().values() if issubclass(cls, found) for row in cls.fields}
    known |= {row.name for row in found.fields}
    for field in fields:
        if field not in known:
            have = ", ".join(row.name for row in found.fields)
            raise TypeError(f"{name} has no field {field!r}; it has {have}")
    return Pattern((_Layer(name, found, fields),))


def payload(octets: bytes) -> Pattern:
    """A pattern of a payload alone: what is behind all headers. Behind others say `/ b"..."`."""
    return Pattern((), octets)


def _named(name: str) -> Callable[..., Pattern]:
    def pattern(**fields: Any) -> Pattern:
        return layer(name, **fields)

    pattern.__name__ = pattern.__qualname__ = name
    pattern.__doc__ = f"A pattern of an {name} header; see `layer`."
    return pattern


ether, vlan, arp = _named("ether"), _named("vlan"), _named("arp")
ip, ip6, icmp, icmp6 = _named("ip"), _named("ip6"), _named("icmp"), _named("icmp6")
tcp, udp = _named("tcp"), _named("udp")


def _text(value: Any) -> str:
    if callable(value):
        return getattr(value, "__name__", repr(value))
    return repr(value) if isinstance(value, (str, bytes)) else str(value)


def _start(octets: bytes, at: int) -> str:
    part = octets[at : at + 16]
    return f"{part!r}{'...' if at + 16 < len(octets) else ''} (of {len(octets)})"
