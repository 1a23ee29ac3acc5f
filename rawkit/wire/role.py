"""What a field means to a transport protocol: its role, from which tools work for any protocol.

A role is given where the field is declared, `seq: u32 = field(0, role=role.seq("octets"))`. Some follow from
the declaration itself: a field computed by a checksum rule has the role checksum, one computed by
`payload_length` or `total_length` the role length, one of a flags kind the role flags. `Header.roles` has
them all. A header without a role only lacks what would be derived from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from rawkit.wire.field import ChecksumRule, CRC32cRule, FlagBits, Rule, UInt, Variable

if TYPE_CHECKING:
    from rawkit.wire.layout import FieldInfo

Unit = Literal["octets", "packets"]


@dataclass(frozen=True, slots=True)
class Role:
    """A role: its name, what the field counts, and the narrowest field (bits) that can have it."""

    name: str
    least_bits: int
    unit: Unit | None = None
    cumulative: bool = True
    """Of ack: whether it speaks for everything before it, rather than for one packet."""
    shift: int = 0
    """Of window: the value counts units of 2**shift."""
    listed: bool = False
    """Whether it is a list and no number (sack)."""


# A number of octets must reach further than one segment; packets can be told apart by a single bit.
_LEAST_BITS: Mapping[Unit, int] = {"octets": 16, "packets": 1}

src_port = Role("src_port", 8)
"""With `dst_port`: which of a host's endpoints sent it."""

dst_port = Role("dst_port", 8)
"""Which of a host's endpoints it is for."""

conn_id = Role("conn_id", 8)
"""The connection it belongs to, whatever the addresses."""

sack = Role("sack", 0, listed=True)
"""The ranges that arrived beyond `ack`, as pairs (first, one past the last)."""

timestamp = Role("timestamp", 16)
"""When it was sent, by the sender's clock."""

timestamp_echo = Role("timestamp_echo", 16)
"""The `timestamp` of the packet that it answers."""

length = Role("length", 8)
"""Octets of the payload, or of the whole."""

checksum = Role("checksum", 8)
"""The checksum."""

flags = Role("flags", 1)
"""Flag bits."""


def seq(unit: Unit = "octets") -> Role:
    """The number of the first octet, or of the packet; the field's width gives the serial arithmetic."""
    return Role("seq", _LEAST_BITS[unit], unit)


def ack(unit: Unit = "octets", *, cumulative: bool = True) -> Role:
    """The number expected next, or (not `cumulative`) the one that arrived."""
    return Role("ack", _LEAST_BITS[unit], unit, cumulative)


def window(unit: Unit = "octets", *, shift: int = 0) -> Role:
    """What the sender of this packet has room for, in units of 2**`shift`."""
    return Role("window", 2, unit, shift=shift)


def roles_of(cls: str, fields: Iterable[FieldInfo]) -> Mapping[str, tuple[Role, FieldInfo]]:
    """Role name to the role and the field that has it.

    Raises:
        TypeError: two fields with one role, a field too narrow or of the wrong kind for its role, numbers of
            one space with different widths. It names the field.
    """
    found: dict[str, tuple[Role, FieldInfo]] = {}
    for row in fields:
        given: Role | None = row.spec.role
        role = given or _implied(row)
        if role is None or (given is None and role.name in found):  # a second length is no mistake
            continue
        where = f"{cls}.{row.name}"
        if role.name in found and found[role.name][1].spec.role is not None:
            raise TypeError(f"{where}: the role {role.name} is taken by {found[role.name][1].name}")
        if role.listed != isinstance(row.kind, Variable):
            raise TypeError(f"{where}: the role {role.name} needs {'a list' if role.listed else 'a number'}")
        if not role.listed and (not isinstance(row.kind, UInt) or row.width < role.least_bits):
            raise TypeError(
                f"{where}: the role {role.name} needs an integer of {role.least_bits} bits or more"
            )
        found[role.name] = role, row
    for one, other in (("seq", "ack"), ("src_port", "dst_port"), ("timestamp", "timestamp_echo")):
        if one in found and other in found and found[one][1].width != found[other][1].width:
            names = found[one][1].name, found[other][1].name
            raise TypeError(f"{cls}.{names[1]}: as {other} it needs the width of {names[0]}")
    return MappingProxyType(found)


def _implied(row: FieldInfo) -> Role | None:
    rule = row.spec.rule
    if isinstance(rule, (ChecksumRule, CRC32cRule)):
        return checksum
    if isinstance(rule, Rule) and rule.bounds in ("payload", "total"):
        return length
    return flags if isinstance(row.kind, FlagBits) else None
