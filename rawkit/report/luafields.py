"""Lua source that shows the fields of a layout: a function for each class, as `rawkit.wire.generate` makes
them in Python.

Each is given the octets, where the layout starts and must end, and the branch of the tree to add to; what it
returns is said in `reading.lua`.
"""

from __future__ import annotations

from rawkit.wire.field import Address, FlagBits, Kind, Octets, Pairs, UInt
from rawkit.wire.generate import Plan, Unit
from rawkit.wire.layout import FieldInfo, Layout
from rawkit.wire.option import Option, OptionList
from rawkit.wire.record import Addresses, Numbers, Records, Triples

ADDRESSES = {6: "ether", 4: "ipv4", 16: "ipv6"}
NTH = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
LETTER_OCTETS = {"B": 1, "H": 2, "I": 4, "Q": 8}
ENDS = {
    "total": "(value > 0 and offset + value or stop)",
    "payload": "(header_end + value)",
    "802.3": "(value < 1536 and header_end + value or stop)",
}
"""`rawkit.wire.field.PAYLOAD_ENDS` in Lua."""


def quoted(text: str) -> str:
    """A Lua string."""
    return (
        '"'
        + "".join(c if c.isascii() and c.isprintable() and c not in '"\\' else _escaped(c) for c in text)
        + '"'
    )


def _escaped(character: str) -> str:
    return "".join(f"\\{octet:03d}" for octet in character.encode())


def _indent(lines: list[str], by: int = 1) -> list[str]:
    return ["  " * by + line for line in lines]


def _integer(bits: int) -> str:
    """The kind of ProtoField for so many bits."""
    return f"uint{next(n for n in (8, 16, 24, 32, 64) if bits <= n)}"


class Writer:
    """Collects the declarations of fields, and the functions that show them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.declarations: list[str] = []
        self.functions: list[str] = []
        self._known: dict[tuple[type[Layout], str], str] = {}
        self._names: set[str] = set()

    # ---- declarations ---------------------------------------------------------------------------------

    def declare(self, path: str, label: str, kind: str, *rest: str) -> str:
        """A field under this path; returns what it is called in Lua."""
        key = path.lower()
        while key in self._names:
            key += "_"
        self._names.add(key)
        there = f"fields[{quoted(key)}]"
        arguments = ", ".join([quoted(f"{self.name}.{key}"), quoted(label), *rest])
        self.declarations.append(f"{there} = ProtoField.{kind}({arguments})")
        return there

    def integer(self, path: str, row: FieldInfo, mask: int = 0, bits: int = 0) -> str:
        """The declaration of an integer field; with a mask, of one among others in `bits` bits."""
        hexadecimal = isinstance(row.kind, FlagBits) or hasattr(row.spec.rule, "payload")
        names = "nil"
        if row.spec.names and row.width <= 32:
            names = "{ " + ", ".join(f"[{n}] = {quoted(text)}" for n, text in row.spec.names.items()) + " }"
        rest = [f"base.{'HEX' if hexadecimal else 'DEC'}", names]
        if mask:
            rest.append(hex(mask))
        return self.declare(path, row.name, _integer(bits or row.width), *rest)

    # ---- a layout -------------------------------------------------------------------------------------

    def layout(self, cls: type[Layout], path: str) -> str:
        """The name of the function that shows a layout whose fields are called `path`.NAME."""
        if (cls, path) in self._known:
            return self._known[cls, path]
        function = self._known[cls, path] = f"readers[{len(self._known) + 1}]"
        plan: Plan = cls._plan
        prefix = f"{path}." if path else ""
        name = quoted(cls.__name__)
        body = [f"if lacks(tvb, offset, {plan.size}, stop) then"]
        body += [
            f"  return nil, {name} .. {quoted(f' needs {plan.size} octets')}",
            "end",
            "local values = {}",
        ]
        at = 0
        for unit in plan.units:
            body += self._unit(unit, at, prefix)
            at += unit.width // 8
        body += self._ends(cls, plan, prefix)
        self.functions += ["", f"-- {cls.__name__}", f"{function} = function(tvb, offset, stop, tree)"]
        self.functions += [*_indent(body), "end"]
        return function

    def _ends(self, cls: type[Layout], plan: Plan, prefix: str) -> list[str]:
        """Source for what is not at a fixed place, and where header and payload end."""
        size, variable, moving = plan.size, plan.variable, plan.moving
        lines = ["local header_end, payload_end, value, at"]
        start = f"offset + {size}"
        wrong = f"return nil, {quoted(cls.__name__)} .. "
        by_unit, by_bounds = plan.bounded_by("unit"), plan.bounded_by("bounds")
        if by_unit:
            row, rule = by_unit
            lines.append(f"header_end = offset + (values[{quoted(row.name)}] + {rule.bias}) * {rule.unit}")
            lines.append(f"if header_end < {start} or header_end > stop then")
            lines += [f"  {wrong}{quoted(f'.{row.name} is no length of a header')}", "end"]
        elif variable:
            lines.append("header_end = stop")
        lines.append(f"at = {start}")
        for row in moving:
            lines += self._moving(row, "header_end" if variable else "stop", prefix, wrong)
        if not by_unit and not variable:
            lines.append("header_end = at")
        if by_bounds:
            row, rule = by_bounds
            lines.append(f"value = values[{quoted(row.name)}]")
            whole = bool(variable) and not by_unit and rule.bounds == "total"
            lines.append(f"payload_end = math.min({ENDS[rule.bounds]}, stop)")
            lines.append(f"if payload_end < {'at' if whole else 'header_end'} then")
            lines += [f"  {wrong}{quoted(f'.{row.name} is too small')}", "end"]
            if whole:
                lines.append("header_end = payload_end")
        else:
            lines.append(f"payload_end = {'header_end' if cls.ends_packet else 'stop'}")
        if variable:
            lines += [
                "if lacks(tvb, at, header_end - at, header_end) then",
                f"  {wrong}{quoted(' is cut short')}",
                "end",
            ]
            lines += ["if header_end > at then"]
            lines += _indent(self._octets(variable, "header_end - at", prefix))
            lines.append("end")
        lines += ["values.header_end, values.payload_end = header_end, payload_end", "return values"]
        return lines

    # ---- fields at fixed places -----------------------------------------------------------------------

    def _unit(self, unit: Unit, at: int, prefix: str) -> list[str]:
        """Source for a field, or several that share octets, `at` octets from the start."""
        if unit.is_field and not isinstance(unit.rows[0].kind, UInt):
            row = unit.rows[0]
            kind = ADDRESSES[row.width // 8] if isinstance(row.kind, Address) else "bytes"
            field = self.declare(prefix + row.name, row.name, kind)
            return [f"tree:add({field}, tvb(offset + {at}, {row.width // 8}))"]
        lines = []
        masked = unit.width in (8, 16, 24, 32)
        for row, left in unit.parts():
            first = unit.width - left - row.width
            if masked:
                mask = ((1 << row.width) - 1) << left if len(unit.rows) > 1 else 0
                place = f"tvb(offset + {at}, {unit.width // 8})"
                lines.append(f"values[{quoted(row.name)}] = {place}:bitfield({first}, {row.width})")
                lines += self._shown(row, prefix, place, mask, unit.width, left)
            else:
                octet, bit = at + first // 8, first % 8
                n = (bit + row.width + 7) // 8
                place = f"tvb(offset + {octet}, {n})"
                lines += self._long(row, prefix, place, bit)
        return lines

    def _shown(self, row: FieldInfo, prefix: str, place: str, mask: int, bits: int, left: int) -> list[str]:
        add = f"tree:add({self.integer(prefix + row.name, row, mask, bits)}, {place})"
        names = row.kind.names if isinstance(row.kind, FlagBits) else ()
        if not names:
            return [add]
        lines = [f"value = {add}"]
        for i, name in enumerate(names):
            bit = self.declare(
                f"{prefix}{row.name}.{name}", name, "bool", str(bits), "nil", hex(1 << (left + i))
            )
            lines.append(f"value:add({bit}, {place})")
        return ["do", "  local value", *_indent(lines), "end"]

    def _long(self, row: FieldInfo, prefix: str, place: str, bit: int) -> list[str]:
        """Source for an integer that is shown by value: bits of more than four octets."""
        name = quoted(row.name)
        value = f"values[{name}]"
        field = self.integer(prefix + row.name, row)
        lines = [f"{value} = {place}:bitfield({bit}, {row.width})", f"tree:add({field}, {place}, {value})"]
        if row.width > 32:
            lines.append(f"{value} = {value}:tonumber()")
        for i, flag in enumerate(row.kind.names if isinstance(row.kind, FlagBits) else ()):
            declared = self.declare(f"{prefix}{row.name}.{flag}", flag, "bool")
            lines.append(f"tree:add({declared}, {place}, math.floor({value} / {1 << i}) % 2 == 1)")
        return lines

    # ---- fields that may be anywhere, or of any length ------------------------------------------------

    def _moving(self, row: FieldInfo, limit: str, prefix: str, wrong: str) -> list[str]:
        by = row.spec.size
        size = f"(values[{quoted(by.field)}] + {by.bias}) * {by.unit}" if by else str(row.width // 8)
        lines = [f"value = {size}", f"if value < 0 or lacks(tvb, at, value, {limit}) then"]
        lines += [f"  {wrong}{quoted(f'.{row.name} is cut short')}", "end"]
        show = self._octets(row, "value", prefix)
        lines += (
            ["if value > 0 then", *_indent(show), "end", "at = at + value"]
            if by
            else [*show, "at = at + value"]
        )
        if row.spec.when:
            field, is_value = row.spec.when
            there = f"(values[{quoted(field)}] or 0) {'~= 0' if is_value is None else f'== {is_value}'}"
            return [f"if {there} then", *_indent(lines), "end"]
        return lines

    def _octets(self, row: FieldInfo, size: str, prefix: str) -> list[str]:
        """Source that shows `size` octets at `at` as a field of this kind."""
        kind: Kind = row.kind
        path = prefix + row.name
        place = f"tvb(at, {size})"
        if isinstance(kind, UInt):
            return self._long(row, prefix, f"tvb(at, {row.width // 8})", 0)
        if isinstance(kind, Address):
            return [f"tree:add({self.declare(path, row.name, ADDRESSES[kind.size])}, {place})"]
        if isinstance(kind, Pairs):
            return self._rows(path, row.name, size, ["uint32"] * 2, [4, 4])
        if isinstance(kind, Numbers):
            sizes = [LETTER_OCTETS[letter] for letter in kind.row.format.lstrip(">")]
            return self._rows(path, row.name, size, [_integer(8 * n) for n in sizes], sizes)
        if isinstance(kind, Triples):
            return self._rows(path, row.name, size, ["uint24"], [3])
        if isinstance(kind, Addresses):
            return self._rows(path, row.name, size, [ADDRESSES[kind.kind.size]], [kind.kind.size])
        if isinstance(kind, Records):
            return self._records(path, row.name, size, kind)
        if isinstance(kind, OptionList):
            return self._options(path, row.name, size, kind.family)
        assert isinstance(kind, Octets) or not kind.width  # of a kind of one's own: as octets
        return [f"tree:add({self.declare(path, row.name, 'bytes')}, {place})"]

    def _rows(self, path: str, label: str, size: str, kinds: list[str], sizes: list[int]) -> list[str]:
        columns, branch = [path], "nil"
        if len(kinds) > 1:
            branch = self.declare(path, label, "bytes")
            columns = [f"{path}.{NTH[i] if i < len(NTH) else f'n{i + 1}'}" for i in range(len(kinds))]
        fields = [self.declare(name, name.rpartition(".")[2], kind) for name, kind in zip(columns, kinds)]
        lists = f"{{ {', '.join(fields)} }}, {{ {', '.join(map(str, sizes))} }}"
        return [f"show_rows(tvb, at, at + {size}, tree, {branch}, {lists})"]

    def _records(self, path: str, label: str, size: str, kind: Records) -> list[str]:
        def told(cls: type[Layout]) -> str:
            name = f"{path}.{cls.__name__}" if kind.variants else path
            branch = self.declare(f"{name}.record", cls.__name__, "none")
            return f"{{ reader = {self.layout(cls, name)}, branch = {branch} }}"

        kinds = [f"[{number}] = {told(cls)}" for number, cls in kind.variants.items()]
        unparsed = self.declare(f"{path}.unparsed", f"{label}: not understood", "bytes")
        facts = [f"at = {kind.variant_at}", f"kinds = {{ {', '.join(kinds)} }}"]
        facts += [f"other = {told(kind.cls)}", f"unparsed = {unparsed}"]
        return self._call("show_records", size, facts)

    def _options(self, path: str, label: str, size: str, family: type[Option]) -> list[str]:
        members: dict[int, type[Option]] = dict(family.members.items())
        names = ", ".join(f"[{number}] = {quoted(member.__name__)}" for number, member in members.items())
        kinds = _integer(8 * family.kind_len)
        declared = {
            "kind": self.declare(f"{path}.kind", "kind", kinds, "base.DEC", f"{{ {names} }}"),
            "length": self.declare(f"{path}.length", "length", _integer(8 * family.length_len)),
            "data": self.declare(f"{path}.data", "data", "bytes"),
            "option": self.declare(f"{path}.option", "option", "none"),
            "unparsed": self.declare(f"{path}.unparsed", f"{label}: not understood", "bytes"),
        }
        readers = [
            f"[{number}] = {self.layout(member, f'{path}.{member.__name__}')}"
            for number, member in members.items()
            # Of several shapes, or with octets before the length too: these are shown as octets.
            if member.fields and family.length_at == family.kind_len and "of_body" not in vars(member)
        ]
        facts = [f"{name} = {getattr(family, name)}" for name in _FAMILY]
        facts += [f"{name} = {field}" for name, field in declared.items()]
        facts += [f"singles = {{ {', '.join(f'[{number}] = true' for number in sorted(family.singles))} }}"]
        facts += [f'["end"] = {family.end}', f"readers = {{ {', '.join(readers)} }}"]
        return self._call("show_options", size, facts)

    @staticmethod
    def _call(function: str, size: str, facts: list[str]) -> list[str]:
        return [f"{function}(tvb, at, at + {size}, tree, {{", *(f"  {fact}," for fact in facts), "})"]


_FAMILY = ("kind_len", "length_at", "length_len", "length_unit", "uncounted", "align")
