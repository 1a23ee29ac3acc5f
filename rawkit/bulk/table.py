"""Header classes as rows of numbers: what the C engine walks frames by (`struct rk_header` in csrc/rk.h).

The rows follow from what the classes declare: fields, their rules, `when` and `size`, and `over`,
`variant`, `at_least`, `followed_by`, `selected_by`, `lengths_below`, `opaque_when`, `quotes`, `ends_packet`.
Where Python code decides what follows (`upper_class` is overridden, or the names in `selected_by` are not
all of integers at a fixed place), the header is found and its fields are read, but the walk ends behind it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rawkit.engine.dissect import (
    END_8023,
    END_HEADER,
    END_PAYLOAD,
    END_TOTAL,
    MAX_SELECTORS,
    Dissector,
)
from rawkit.wire.field import Rule, UInt
from rawkit.wire.header import LINKTYPES, Header
from rawkit.wire.ipv6 import AnyIP
from rawkit.wire.layout import FieldInfo
from rawkit.wire.packet import RAW_IP
from rawkit.wire.registry import load_all

END_KINDS = {"total": END_TOTAL, "payload": END_PAYLOAD, "802.3": END_8023}
"""The C engine's number for each key of `rawkit.wire.field.PAYLOAD_ENDS`."""

_NEVER = 0xFFFFFFFF  # octets of a header that no frame is long enough for


class HeaderTable:
    """All classes that can be reached from `firsts`, and the fields wanted of them.

    `classes` are those classes, in the order of the table's rows; `first_row` says which row frames of a
    LINKTYPE_ start with. Classes that are declared later are not in it: to make a new table takes about a
    millisecond.
    """

    def __init__(
        self,
        wanted: Sequence[tuple[type[Header], FieldInfo]] = (),
        firsts: Iterable[type[Header]] = (),
    ) -> None:
        """`wanted[i]` is column i: a field, and the class whose headers (subclasses' too) have it."""
        load_all()
        self.classes = _reachable([*firsts, AnyIP, *LINKTYPES.values()])
        self._rows = {cls: row for row, cls in enumerate(self.classes)}
        self._numbers: list[tuple[int, int]] = []
        self._spans: dict[int, tuple[int, int]] = {}
        self._wanted: list[int] = []
        self._parts: list[dict[str, Any]] = []
        rows = [self._row(cls, wanted) for cls in self.classes]
        self.dissector = Dissector(rows, self._numbers, self._wanted, self._parts)

    def first_row(self, linktype: int) -> int | None:
        """The row that frames of a LINKTYPE_ start with; None when rawkit has no header for them."""
        cls = AnyIP if linktype == RAW_IP else LINKTYPES[linktype]
        return None if cls is None else self._rows.get(cls)

    def row(self, cls: type[Header]) -> int:
        """The row of a class."""
        return self._rows[cls]

    def _row(self, cls: type[Header], wanted: Sequence[tuple[type[Header], FieldInfo]]) -> dict[str, Any]:
        row: dict[str, Any] = {"min_len": cls.min_len, "next": -1, "quotes": cls.quotes}
        fields = {field.name: field for field in cls.fields}
        # Only these have the places that the field table says.
        fixed = {field.name for field in cls.fields if not field.moved and not field.spec.moves}
        rules = [(field, field.spec.rule) for field in cls.fields if isinstance(field.spec.rule, Rule)]

        length = next(((field, rule) for field, rule in rules if rule.unit), None)
        if length is not None:
            field, rule = length
            row |= {"length": _bits(field), "length_unit": rule.unit, "length_bias": rule.bias}
        end = next(((field, rule) for field, rule in rules if rule.bounds), None)
        if end is not None:
            field, rule = end
            row |= {"end": _bits(field), "end_kind": END_KINDS[rule.bounds]}
        elif cls.ends_packet:
            row["end_kind"] = END_HEADER
        row["fills"] = _is_variable(cls.fields[-1:])
        parts = [field for field in cls.fields if field.name not in fixed and not _is_variable([field])]
        row |= {"parts": len(self._parts), "parts_n": len(parts)}
        self._parts += [_part(field, fields) for field in parts]

        if cls._discriminator_at >= 0:
            row["variant"] = _bits(fields[cls.discriminator])
            row["variants"], row["variants_n"] = self._span(cls.variants)
        if cls.is_choice:
            row["min_len"] = _NEVER
        if "_longer" in vars(cls):
            row["at_least"], longer = cls._longer
            row["longer"] = self._rows[longer]
        if _says_what_follows(cls, fixed):
            selectors = [_bits(fields[name]) for name in cls.selected_by]
            row |= {"select": selectors, "select_n": len(selectors), "lengths_below": cls.lengths_below}
            row["uppers"], row["uppers_n"] = self._span(cls.uppers)
            if cls.opaque_when:
                row["opaque"] = _bits(fields[cls.opaque_when])
            if cls.followed_by is not None:
                row["next"] = self._rows[cls.followed_by]

        columns = [i for i, (owner, _) in enumerate(wanted) if issubclass(cls, owner)]
        row |= {"columns": len(self._wanted), "columns_n": len(columns)}
        self._wanted += columns
        return row

    def _span(self, classes: dict[int, type[Header]]) -> tuple[int, int]:
        """Where in the numbers those of a registry stand, and how many; headers share registries."""
        if id(classes) not in self._spans:
            self._spans[id(classes)] = len(self._numbers), len(classes)
            self._numbers += sorted((number, self._rows[cls]) for number, cls in classes.items())
        return self._spans[id(classes)]


def part_of(cls: type[Header], field: FieldInfo) -> int:
    """0 for a field of the fixed part, else 1 + which of the others it is: `ColumnTarget.part`."""
    moving = [other.name for other in cls.fields if other.moved or other.spec.moves]
    return moving.index(field.name) + 1 if field.name in moving else 0


def _is_variable(fields: Sequence[FieldInfo]) -> bool:
    """Whether this is a field that takes what is left of the header."""
    return any(field.width == 0 and not field.spec.moves for field in fields)


def _part(field: FieldInfo, fields: dict[str, FieldInfo]) -> dict[str, Any]:
    row: dict[str, Any] = {"unit": field.width // 8}
    if field.spec.when:
        name, value = field.spec.when
        row |= {"when": _bits(fields[name]), "equals": value or 0, "any": value is None}
    if field.spec.size:
        size = field.spec.size
        row |= {"count": _bits(fields[size.field]), "unit": size.unit, "bias": size.bias}
    return row


def _says_what_follows(cls: type[Header], fixed: set[str]) -> bool:
    """Whether class attributes alone, over fields that C can read, say which header follows."""
    integers = {field.name for field in cls.fields if isinstance(field.kind, UInt) and field.width <= 64}
    names = {*cls.selected_by, *([cls.opaque_when] if cls.opaque_when else [])}
    return (
        cls.upper_class is Header.upper_class
        and names <= integers & fixed
        and len(cls.selected_by) <= MAX_SELECTORS
    )


def _bits(field: FieldInfo) -> tuple[int, int]:
    return field.offset, field.width


def _reachable(firsts: Iterable[type[Header]]) -> list[type[Header]]:
    found = dict.fromkeys(firsts)
    todo = list(found)
    while todo:
        cls = todo.pop()
        follow = [cls.followed_by] if cls.followed_by is not None else []
        longer = [cls._longer[1]] if "_longer" in vars(cls) else []
        for next_cls in (*cls.variants.values(), *cls.uppers.values(), *follow, *longer):
            if next_cls not in found:
                found[next_cls] = None
                todo.append(next_cls)
    return list(found)
