"""From a field table to source: the functions that make, parse and pack a header.

One `struct` unpack fills the slots, one pack writes them. The generated source is registered with
`linecache`, so tracebacks and debuggers show it.
"""

from __future__ import annotations

import linecache
import struct
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from rawkit.errors import FieldError, HeaderError, Malformed, Truncated
from rawkit.wire import checksum as _checksum
from rawkit.wire import storage
from rawkit.wire.field import (
    AUTO,
    PAYLOAD_ENDS,
    Address,
    ChecksumRule,
    CRC32cRule,
    FlagBits,
    Octets,
    Rule,
    UInt,
    Variable,
)

if TYPE_CHECKING:
    from rawkit.wire.layout import FieldInfo, Layout


@dataclass(frozen=True)
class Unit:
    """What one letter of the struct format stands for: a field, or integers sharing octets."""

    code: str
    rows: tuple[FieldInfo, ...]
    width: int

    @property
    def is_field(self) -> bool:
        return len(self.rows) == 1 and bool(self.rows[0].kind.code)

    def parts(self) -> list[tuple[FieldInfo, int]]:
        """The fields that share the octets, each with the number of bits to its right."""
        left, found = self.width, []
        for row in self.rows:
            left -= row.width
            found.append((row, left))
        return found


@dataclass(frozen=True)
class Plan:
    """A header's fields as the generators need them: the fixed part by struct letters, then what may move."""

    name: str
    fields: tuple[FieldInfo, ...]
    units: tuple[Unit, ...]
    layout: struct.Struct

    @property
    def size(self) -> int:
        """Octets of the fixed part."""
        return self.layout.size

    @property
    def variable(self) -> FieldInfo | None:
        """The last field that fills the header to its end."""
        last = self.fields[-1] if self.fields else None
        return last if last and last.width == 0 and not last.spec.moves else None

    @property
    def moving(self) -> list[FieldInfo]:
        """The fields, but for the one that fills the header, whose places depend on the octets."""
        return [f for f in self.fields if (f.moved or f.spec.moves) and f is not self.variable]

    def bounded_by(self, kind: str) -> tuple[FieldInfo, Rule] | None:
        """The field whose rule has a `unit`, or `bounds` the payload."""
        rules = ((f, f.spec.rule) for f in self.fields if isinstance(f.spec.rule, Rule))
        return next(((f, rule) for f, rule in rules if getattr(rule, kind)), None)


def make_plan(name: str, fields: tuple[FieldInfo, ...]) -> Plan:
    """Raises: `TypeError` for fields that do not fill whole octets."""
    units: list[Unit] = []
    shared: list[FieldInfo] = []
    for row in fields:
        if row.width == 0 or row.spec.moves:
            break
        if not shared and row.kind.code:
            units.append(Unit(row.kind.code, (row,), row.width))
            continue
        if not isinstance(row.kind, UInt):
            raise TypeError(f"{name}.{row.name}: starts inside an octet (bit {row.offset})")
        shared.append(row)
        width = sum(r.width for r in shared)
        if width % 8 == 0:
            code = {8: "B", 16: "H", 32: "I", 64: "Q"}.get(width, f"{width // 8}s")
            units.append(Unit(code, tuple(shared), width))
            shared = []
    if shared:
        raise TypeError(f"{name}.{shared[0].name}: the fields from here on do not fill whole octets")
    return Plan(name, fields, tuple(units), struct.Struct(">" + "".join(unit.code for unit in units)))


def generate(cls: Any, fields: tuple[FieldInfo, ...]) -> None:
    """Give a class `__init__`, `_parse` and `_pack`, and properties for fields that are not their slots.

    They are compiled when the first of them is wanted: compiling takes longer than all the rest of making a
    class, and a program uses few of the classes that it imports.
    """
    cls._table = None
    cls.__init__ = _first_init
    cls._pack = first_pack
    cls._parse = staticmethod(lambda buf, offset, end: compiled(cls)._parse(buf, offset, end))
    for row in fields:
        if not row.kind.slot_serves:
            get = attrgetter(row.slot) if isinstance(row.kind, UInt) else _first_getter(cls, row.name)
            setattr(cls, row.name, _property(row, f"{cls.__name__}.{row.name}", get))


def _first_init(self: Any, *values: Any, **named: Any) -> None:
    compiled(type(self)).__init__(self, *values, **named)


def first_pack(self: Any, payload: bytes, outer: Any, upper: Any) -> bytes:
    """The `_pack` of a class until it is compiled."""
    cls = type(self)
    cls._pack = reference(cls, "_pack")
    octets: bytes = cls._pack(self, payload, outer, upper)
    return octets


def _first_getter(cls: Any, name: str) -> Callable[[Any], Any]:
    def get(header: Any) -> Any:
        compiled(cls)
        return getattr(header, name)

    return get


def compiled(cls: Any) -> Any:
    """The class, with its functions compiled."""
    if cls.__init__ is not _first_init:
        return cls
    for row in cls.fields:
        if not row.kind.slot_serves and not isinstance(row.kind, UInt):
            getter = reference(cls, f"get_{row.name}")
            setattr(cls, row.name, _property(row, f"{cls.__name__}.{row.name}", getter))
    cls._parse = staticmethod(reference(cls, "_parse"))
    for name in ("_pack", "__init__"):
        setattr(cls, name, reference(cls, name))
    return cls


def reference(cls: Any, name: str) -> Any:
    """`__init__`, `_parse` or `_pack` of a class as its field table says, whatever the class itself uses."""
    if "_reference" not in vars(cls):
        cls._reference = _functions(cls)
    return cls._reference[name]


def _functions(cls: Any) -> dict[str, Any]:
    plan: Plan = cls._plan
    names: dict[str, Any] = {
        "_AUTO": AUTO,
        "cls": cls,
        "unpack": plan.layout.unpack_from,
        "pack": plan.layout.pack,
        "new": storage.blank,
        "struct_error": struct.error,
        "FieldError": FieldError,
        "explain": _explain,
        "no_field": no_field,
        "truncated": _truncated,
        "cut_off": _cut_off,
        "bad_length": _bad_length,
        "checksum": _checksum,
    }
    source = [*_init_source(plan, cls._positional), *_parse_source(plan, cls), *_pack_source(plan)]
    for row in plan.fields:
        if not row.kind.slot_serves and not isinstance(row.kind, UInt):
            source += _getter_source(row)
        names |= {f"convert_{row.name}": row.kind.convert, f"default_{row.name}": row.spec.default}
        names |= {f"rule_{row.name}": row.spec.rule, f"read_{row.name}": row.kind.read}
        if isinstance(row.kind, (Address, FlagBits)):
            names[f"from_text_{row.name}"] = row.kind.from_text
    compile_into(names, source, f"<rawkit {cls.__module__}.{cls.__qualname__}>")
    for name in ("_pack", "__init__"):
        names[name].__qualname__ = f"{cls.__qualname__}.{name}"
    return names


def compile_into(names: dict[str, Any], lines: list[str], filename: str) -> None:
    """Define the functions of some source in `names`."""
    source = "\n".join(lines)
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    exec(compile(source, filename, "exec"), names)


def _indent(lines: list[str], by: int = 1) -> list[str]:
    return ["    " * by + line for line in lines]


# ---- properties --------------------------------------------------------------------------------------


def _property(row: FieldInfo, name: str, getter: Callable[[Any], Any]) -> property:
    kind, slot, default = row.kind, row.slot, row.spec.default

    def set_value(header: Any, value: Any) -> None:
        given = value is AUTO is default or value is None is default
        setattr(header, slot, value if given else kind.convert(value, name))

    return property(getter, set_value)


def _getter_source(row: FieldInfo) -> list[str]:
    """Source that reads a field; AUTO, or None for what is absent, comes as it is."""
    return [
        f"def get_{row.name}(header):",
        f"    content = header.{row.slot}",
        f"    return read_{row.name}(content) if content.__class__ is bytes else content",
    ]


# ---- __init__ ----------------------------------------------------------------------------------------


def _init_source(plan: Plan, positional: bool) -> list[str]:
    fields = plan.fields
    required = [f.name for f in fields if f.spec.default is ...]
    defaulted = [f"{f.name}=default_{f.name}" for f in fields if f.spec.default is not ...]
    star = [] if positional or not fields else ["*"]
    body = ["if _unknown:", "    raise no_field(cls, *_unknown)"]
    by_width: dict[int, list[str]] = {}
    for f in fields:
        converted = f"convert_{f.name}({f.name}, {f'{plan.name}.{f.name}'!r})"
        is_default = f"{f.name} is default_{f.name}"  # defaults were converted when the class was made
        if f.moved or f.spec.moves:
            # None: it is not there, or is computed if it is.
            told = f" or {f.name} is _AUTO" if f.spec.rule is not None else ""
            told += f" or {f.name} is None" if f.spec.when else ""
            body.append(f"self.{f.slot} = {f.name} if {is_default}{told} else {converted}")
        elif isinstance(f.kind, (Address, FlagBits)):
            # Text comes again and again: it is looked up. What is wrong is converted once more, to say where.
            value = f"from_text_{f.name}({f.name}) if {f.name}.__class__ is str else {converted}"
            body += ["try:", f"    self.{f.slot} = {f.name} if {is_default} else {value}"]
            body += ["except FieldError:", f"    {converted}", "    raise"]
        elif f.slot != f.name or isinstance(f.kind, Octets):
            body.append(f"self.{f.slot} = {f.name} if {is_default} else {converted}")
        else:
            body.append(f"self.{f.slot} = {f.name}")
            term = f"(0 if {f.name} is _AUTO else {f.name})" if f.spec.default is AUTO else f.name
            by_width.setdefault(f.width, []).append(term)
    if by_width:
        # One test for all fields of a width: any too large, or negative, leaves bits above it.
        tests = " or ".join(f"({' | '.join(terms)}) >> {width}" for width, terms in by_width.items())
        body += ["try:", f"    fits = not ({tests})", "except TypeError:", "    fits = False"]
        body += ["if not fits:", "    explain(self)"]
    parameters = ["self", *star, *required, *defaulted, "**_unknown"]
    return [f"def __init__({', '.join(parameters)}):", *_indent(body)]


# ---- _parse ------------------------------------------------------------------------------------------


def _parse_source(plan: Plan, cls: Any) -> list[str]:
    def fail(problem: str, *arguments: str) -> str:
        return f"raise {problem}(cls, {', '.join(arguments)}, offset, end)"

    body = parse_lines(plan, cls.ends_packet, "self", "", fail)
    return ["def _parse(buf, offset, end):", *_indent([*body, "return self, header_end, payload_end"])]


def parse_lines(plan: Plan, ends_packet: bool, this: str, tag: str, fail: Callable[..., str]) -> list[str]:
    """Source that makes `this` of the octets at `offset`, and sets `header_end` and `payload_end`.

    `fail` gives the statement for what is wrong; `tag` ends the names of `cls` and `unpack`.
    """
    size, variable, moving = plan.size, plan.variable, plan.moving
    lines = [f"if end - offset < {size}:", f"    {fail('truncated', str(size))}", f"{this} = new(cls{tag})"]
    targets, shifts = [], []
    for i, unit in enumerate(plan.units):
        if unit.is_field:
            targets.append(f"{this}.{unit.rows[0].slot}")
            continue
        targets.append(f"shared{i}")
        if unit.code.endswith("s"):
            shifts.append(f"shared{i} = int.from_bytes(shared{i}, 'big')")
        for row, left in unit.parts():
            value = f"shared{i} >> {left}" if left else f"shared{i}"
            mask = "" if left + row.width == unit.width else f" & {(1 << row.width) - 1}"
            shifts.append(f"{this}.{row.slot} = {value}{mask}")
    if targets:
        lines.append(f"({', '.join(targets)},) = unpack{tag}(buf, offset)")
    lines += shifts
    start = f"offset + {size}"
    header_end = plan.bounded_by("unit")
    if header_end:
        f, rule = header_end
        bias = f"({this}.{f.slot} + {rule.bias})" if rule.bias else f"{this}.{f.slot}"
        lines += [f"header_end = offset + {bias} * {rule.unit}", f"if not {start} <= header_end <= end:"]
        lines += [f"    {fail('bad_length', repr(f.name), 'header_end - offset', str(size))}"]
    elif variable:
        lines.append("header_end = end")
    if moving:
        lines += [f"at = {start}", *_moving_source(moving, this, "header_end" if variable else "end", fail)]
        start = "at"
    if not header_end and not variable:
        lines.append(f"header_end = {start}")
    payload_end = plan.bounded_by("bounds")
    if payload_end:
        f, rule = payload_end
        too_small = fail("bad_length", repr(f.name), "payload_end - offset", str(size))
        if variable and not header_end and rule.bounds == "total":
            # All that the length claims is the header: its last field fills it.
            lines += [f"value = {this}.{f.slot}", f"payload_end = min({PAYLOAD_ENDS[rule.bounds]}, end)"]
            lines += [f"if payload_end < {start}:", f"    {too_small}", "header_end = payload_end"]
        else:
            lines += [f"value = {this}.{f.slot}", f"payload_end = {PAYLOAD_ENDS[rule.bounds]}"]
            lines += ["if payload_end > end:", "    payload_end = end"]
            lines += ["elif payload_end < header_end:", f"    {too_small}"]
    else:
        lines.append(f"payload_end = {'header_end' if ends_packet else 'end'}")
    if variable:
        lines += [f"if header_end == {start}:", f"    {this}.{variable.slot} = b''", "else:"]
        lines += [f"    tail = buf[{start} : header_end]"]
        lines += [f"    {this}.{variable.slot} = tail if tail.__class__ is bytes else bytes(tail)"]
    return lines


def _moving_source(fields: list[FieldInfo], this: str, limit: str, fail: Callable[..., str]) -> list[str]:
    """Source that parses fields that may be absent, or of any length, from `at` on."""
    lines: list[str] = []
    for f in fields:
        parse: list[str] = []
        if f.spec.size:
            by = f.spec.size
            count = f"({this}.{by.field} + {by.bias})" if by.bias else f"{this}.{by.field}"
            parse.append(f"size = {count} * {by.unit}")
        else:
            parse.append(f"size = {f.width // 8}")
        parse += [f"if not 0 <= size <= {limit} - at:"]
        parse += [f"    {fail('cut_off', repr(f.name), 'size', 'at', limit)}"]
        octets = "buf[at : at + size]"
        found = f"int.from_bytes({octets}, 'big')" if isinstance(f.kind, UInt) else f"bytes({octets})"
        parse += [f"{this}.{f.slot} = {found}", "at += size"]
        if f.spec.when:
            name, value = f.spec.when
            lines.append(f"if {this}.{name}{'' if value is None else f' == {value}'}:")
            lines += [*_indent(parse), "else:", f"    {this}.{f.slot} = None"]
        else:
            lines += parse
    return lines


# ---- _pack -------------------------------------------------------------------------------------------


def _pack_source(plan: Plan) -> list[str]:
    body: list[str] = []
    tail = []  # what stands behind the fixed part
    moving, variable = plan.moving, plan.variable
    if moving:
        body += _built_source(moving, plan.fields)
        tail.append("tail")
    if variable:
        tail.append(f"self.{variable.slot}")
    body += [f"header_len = {' + '.join([str(plan.size), *(f'len({part})' for part in tail)])}"]
    sums: list[FieldInfo] = []
    fixed = [f for unit in plan.units for f in unit.rows]
    for f in plan.fields:
        rule = f.spec.rule
        if isinstance(rule, (ChecksumRule, CRC32cRule)):
            sums.append(f)
        if f not in fixed:
            continue
        body.append(f"f_{f.name} = self.{f.slot}")
        if rule is None and f.spec.default is not AUTO:
            continue
        if rule is None:
            value = repr(b"\0" * (f.width // 8)) if f.kind.code.endswith("s") else "0"
        elif isinstance(rule, Rule):
            value = rule.build
        elif isinstance(rule, (ChecksumRule, CRC32cRule)):
            value = "0"
        else:
            value = f"rule_{f.name}(self, payload)"
        body += [f"if f_{f.name} is _AUTO:", f"    f_{f.name} = {value}"]
    body += ["try:", *_indent(_struct_source(plan, tail))]
    body += ["except (struct_error, TypeError, OverflowError):", "    explain(self, len(payload))"]
    for f in sums:
        body += _sum_source(f)
    if any("payload_len" in line for line in body):
        body.insert(0, "payload_len = len(payload)")
    return ["def _pack(self, payload, outer, upper):", *_indent([*body, "return octets"])]


def _struct_source(plan: Plan, tail: list[str]) -> list[str]:
    """Source that packs the values `f_x` and puts the tail behind them."""
    values: list[str] = []
    by_width: dict[int, list[str]] = {}
    for unit in plan.units:
        if unit.is_field:
            values.append(f"f_{unit.rows[0].name}")
            continue
        value = " | ".join(
            f"f_{row.name} << {left}" if left else f"f_{row.name}" for row, left in unit.parts()
        )
        values.append(f"({value}).to_bytes({unit.width // 8}, 'big')" if unit.code.endswith("s") else value)
        for row in unit.rows:
            by_width.setdefault(row.width, []).append(f"f_{row.name}")
    lines = []
    if by_width:
        # struct looks at whole octets only.
        tests = [f"({' | '.join(terms)}) >> {width}" for width, terms in by_width.items() if len(terms) > 1]
        tests += [
            f"{terms[0]} and {terms[0]} >> {width}" for width, terms in by_width.items() if len(terms) == 1
        ]
        lines += [f"if {' or '.join(tests)}:", "    explain(self, len(payload))"]
    packed = f"pack({', '.join(values)})"
    return [*lines, f"octets = {' + '.join([packed, *tail])}"]


def _sum_source(f: FieldInfo) -> list[str]:
    """Source that puts a checksum left at AUTO into `octets`."""
    rule = f.spec.rule
    assert isinstance(rule, (ChecksumRule, CRC32cRule))
    at, size = f.offset // 8, f.width // 8
    octets = "octets + payload" if rule.payload else "octets"
    unless = f" and not rule_{f.name}.is_absent(self)" if getattr(rule, "absent_when", None) else ""
    lines = [f"if self.{f.slot} is _AUTO{unless}:"]
    put = f"octets = octets[:{at}] + value.to_bytes({size}, 'big') + octets[{at + size}:]"
    if isinstance(rule, CRC32cRule):
        return [*lines, f"    value = rule_{f.name}.compute({octets})", f"    {put}"]
    if rule.coverage or rule.skips[1]:
        octets = f"rule_{f.name}.covered(self, header_len, {octets})"
    unless_zero = f" or {rule.zero}" if rule.zero else ""
    if not rule.pseudo_header:
        return [*lines, f"    value = checksum.checksum({octets}){unless_zero}", f"    {put}"]
    # Without addresses there is nothing to compute: the field stays 0.
    lines += ["    pseudo = outer and outer.pseudo_header(outer._number_of(cls), header_len + payload_len)"]
    value = f"checksum.checksum(pseudo + {octets}){unless_zero}"
    return [*lines, "    if pseudo:", f"        value = {value}", f"        {put}"]


def _built_source(moving: list[FieldInfo], fields: tuple[FieldInfo, ...]) -> list[str]:
    """Source that gives `t_x`, the octets of each field that may be absent, or None; `f_x` says which are."""

    def octets(f: FieldInfo, value: str) -> str:
        return f"{value}.to_bytes({f.width // 8}, 'big')" if isinstance(f.kind, UInt) else value

    body: list[str] = []
    for f in moving:
        rule = f.spec.rule
        if isinstance(rule, Rule):
            body.append(f"t_{f.name} = None")
            continue
        body.append(f"value = self.{f.slot}")
        if rule is not None:
            body += ["if value is _AUTO:", "    value = 0"]
        body.append(f"t_{f.name} = None if value is None else {octets(f, 'value')}")
    # What says whether another is there comes before it, and asks only whether that one has a value.
    says = {f.spec.when[0] for f in moving if f.spec.when}
    for f in fields:
        if f.name in says and f not in moving:
            body.append(f"f_{f.name} = self.{f.slot}")
            if isinstance(f.spec.rule, Rule):
                body += [f"if f_{f.name} is _AUTO:", f"    f_{f.name} = {f.spec.rule.build}"]
    for f in moving:
        rule = f.spec.rule
        there = "True"
        if f.spec.when:
            name, value = f.spec.when
            there = f"f_{name}" if value is None else f"f_{name} == {value}"
        empty = repr(b"\0" * (f.width // 8))
        if isinstance(rule, Rule):
            body += [f"f_{f.name} = self.{f.slot}", f"if f_{f.name} is _AUTO:"]
            body.append(f"    f_{f.name} = {rule.build} if {there} else None")
            body += [f"if f_{f.name} is not None:", f"    t_{f.name} = {octets(f, f'f_{f.name}')}"]
            continue
        body += [f"if t_{f.name} is None and {there}:", f"    t_{f.name} = {empty}"]
        if f.name in says:
            body.append(f"f_{f.name} = self.{f.slot}")
    body.append("tail = " + " + ".join(f"(t_{f.name} or b'')" for f in moving))
    caught = "except (TypeError, OverflowError, AttributeError):"
    return ["try:", *_indent(body), caught, "    explain(self, len(payload))"]


# ---- what generated functions say of what is wrong -----------------------------------------------------


def no_field(cls: type[Layout], *names: str) -> TypeError:
    """What to raise for names of which at least one is no field of the class."""
    from difflib import get_close_matches

    known = [row.name for row in cls.fields]
    name = next(name for name in names if name not in known)
    close = "".join(f"; did you mean {near!r}?" for near in get_close_matches(name, known, n=1))
    has = f"it has {', '.join(known)}" if known else "it has no fields"
    return TypeError(f"{cls.__name__} has no field {name!r}{close or ';'} {has}")


def _explain(header: Layout, payload_len: int | None = None) -> None:
    """Raise the `FieldError` that says which field cannot hold its value."""
    name = type(header).__name__
    for row in header.fields:
        value = getattr(header, row.slot)
        if isinstance(row.kind, Variable) or (value is AUTO is row.spec.default):
            continue
        if (value is None and row.spec.when) or (value is AUTO and row.spec.rule is not None):
            continue
        row.kind.convert(value, f"{name}.{row.name}")
    if payload_len is not None:
        raise FieldError(f"{name}: a computed value does not fit its field ({payload_len} octets follow)")
    raise FieldError(f"{name}: its fields need plain integers")


def _truncated(cls: type[Layout], need: int, offset: int, end: int) -> Truncated:
    have = max(end - offset, 0)
    return Truncated(
        f"{cls.__name__}: need {need} octets at offset {offset}, have {have}", cls.__name__, offset
    )


def _cut_off(
    cls: type[Layout], name: str, need: int, at: int, limit: int, offset: int, end: int
) -> HeaderError:
    kind = Malformed if need < 0 else Truncated
    return kind(
        f"{cls.__name__}.{name}: need {need} octets at offset {at}, have {limit - at}", cls.__name__, offset
    )


def _bad_length(cls: type[Layout], name: str, length: int, need: int, offset: int, end: int) -> Malformed:
    return Malformed(
        f"{cls.__name__}.{name} at offset {offset}: says {length} octets, "
        f"which is not between the header's {need} and the {end - offset} there are",
        cls.__name__,
        offset,
    )
