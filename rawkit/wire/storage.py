"""Where headers keep their values: in Python's slots or, where it is, in the compiled `rawkit._fields`.

That module (csrc/fields_*.c) reads a parsed header's fields from its octets when they are asked for,
and makes, packs and parses what is usual without Python. Whatever is not, it leaves to the functions of
`generate`, which are the reference. Classes whose fields may move, or are no plain numbers and octets, stay
in Python.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rawkit.wire.field import (
    AUTO,
    Address,
    ChecksumRule,
    CRC32cRule,
    FlagBits,
    Octets,
    Rule,
    UInt,
    Variable,
    ether_type,
    header_length,
    payload_length,
    total_length,
    upper_number,
)

if TYPE_CHECKING:
    from rawkit.wire.generate import Plan
    from rawkit.wire.layout import FieldInfo

try:
    from rawkit import _fields as compiled
except ImportError:  # the source tree without `make native`, or a Python that it was not built for
    compiled = None
_fields: Any = compiled

if TYPE_CHECKING:

    class Base:
        """What all header classes derive from."""

else:
    Base = object if _fields is None else _fields.Fields

blank: Callable[[Any], Any] = object.__new__ if _fields is None else _fields.blank
"""A header of a class, its fields still to be set."""

build: Callable[[list[Any], bytes, bytes], bytes | None] | None = None if _fields is None else _fields.build
"""The octets of a packet from its headers, payload and trailer; None when the reference must build it."""

join: Callable[[tuple[Any, ...], type], bytes | None] | None = None if _fields is None else _fields.join
"""The octets of options of a family one after the other; None when the reference must make them."""

if _fields is not None:
    _fields.use(AUTO)

# The enumerations of csrc/fields.h.
_NUMBER, _OCTETS, _REST = range(3)
_NONE, _ZERO, _HEADER_LEN, _TOTAL_LEN, _PAYLOAD_LEN, _UPPER, _ETHER_TYPE, _CHECKSUM, _CRC32C = range(9)
_BOUNDS = {"": 0, "total": 1, "payload": 2, "802.3": 3}
_BUILDS = {
    total_length.build: _TOTAL_LEN,
    payload_length.build: _PAYLOAD_LEN,
    upper_number.build: _UPPER,
    ether_type.build: _ETHER_TYPE,
}


def is_kept(plan: Plan, bases: tuple[Any, ...]) -> bool:
    """Whether headers of these fields are kept by the compiled module."""
    return (
        _fields is not None
        and not plan.moving
        and all(_kind(row) is not None and _details(row)[0] < 256 for row in plan.fields)
        and all(abs(_details(row)[1]) < 128 for row in plan.fields)
        and all(getattr(base, "_table", True) is not None for base in bases)
    )


def keep(
    cls: Any, plan: Plan, reference: Callable[[Any, str], Any], first_pack: Callable[..., bytes]
) -> None:
    """Give a class its attributes, `_table`, `_parse` and `_pack`.

    `reference(cls, name)` gives the generated function that stands in for what the module does; `first_pack`
    is the `_pack` of classes with a rule that the module does not know.
    """
    rows = []
    for i, row in enumerate(plan.fields):
        setattr(cls, row.slot, _fields.Attribute(row.slot, i, False, None))
        if row.slot != row.name:
            setattr(cls, row.name, _fields.Attribute(row.name, i, True, _reader(row)))
        default, where = row.spec.default, f"{plan.name}.{row.name}"
        texts = getattr(row.kind, "texts", None)
        place = row.offset, row.width, _kind(row), _rule(row) or _NONE
        rows.append((row.name, default, default is ..., row.kind.convert, where, texts, place, _details(row)))
    length, bound = plan.bounded_by("unit"), plan.bounded_by("bounds")
    places = (
        plan.fields.index(length[0]) if length else -1,
        plan.fields.index(bound[0]) if bound else -1,
        _BOUNDS[bound[1].bounds if bound else ""],
    )
    packs = all(_rule(row) is not None for row in plan.fields)
    cls._table = _fields.Table(
        cls, reference, tuple(rows), plan.size, places, cls.ends_packet, cls._positional, packs
    )
    cls._parse = staticmethod(cls._table.parse)
    cls._pack = _fields.Fields._pack if packs else first_pack


def _kind(row: FieldInfo) -> int | None:
    """How the module keeps a field, None for one that it cannot."""
    kind = row.kind
    if isinstance(kind, UInt):
        return _NUMBER if kind.width <= 64 and row.offset % 8 + kind.width <= 64 else None
    if row.width == 0:
        return _REST if isinstance(kind, (Variable, Octets)) else None
    return _OCTETS if isinstance(kind, (Address, Octets)) and row.offset % 8 == 0 else None


def _rule(row: FieldInfo) -> int | None:
    """How the module computes a field left at AUTO, None where it cannot."""
    rule = row.spec.rule
    if rule is None:
        return _ZERO if row.spec.default is AUTO else _NONE
    if isinstance(rule, Rule):
        is_length = rule.unit and rule.build == header_length(rule.unit, rule.bias).build
        return _HEADER_LEN if is_length else _BUILDS.get(rule.build)
    if isinstance(rule, CRC32cRule):
        return _CRC32C if row.width == 32 else None
    if isinstance(rule, ChecksumRule) and row.width == 16:
        return None if rule.coverage or rule.skips[1] or rule.absent_when else _CHECKSUM
    return None


def _details(row: FieldInfo) -> tuple[int, int, int, bool, bool]:
    """Of a header length unit and bias; of a sum what is sent for 0, and whether it covers the payload and a
    pseudo-header.
    """
    rule = row.spec.rule
    if isinstance(rule, Rule):
        return rule.unit, rule.bias, 0, False, False
    if isinstance(rule, ChecksumRule):
        return 0, 0, rule.zero, rule.payload, rule.pseudo_header
    return 0, 0, 0, isinstance(rule, CRC32cRule) and rule.payload, False


def _reader(row: FieldInfo) -> Any:
    """What makes the value that is shown of a field's octets; None for those shown as they are."""
    kind = row.kind
    if isinstance(kind, Address):
        kind.cache = kind.cache or _fields.Cache(kind.read, kind.size)
        return kind.cache
    return None if isinstance(kind, FlagBits) else kind.read
