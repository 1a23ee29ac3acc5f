"""From an annotated class body to a field table, and from the table to generated parse, pack and init.

The layout is worked out once, when the class is created, and becomes three functions: one `struct` unpack
fills the slots, one pack writes them. The generated source is registered with `linecache`, so tracebacks
and debuggers show it.
"""

from __future__ import annotations

import linecache
import struct
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, Union, get_args, get_origin

from rawkit.errors import FieldError, HeaderError, Malformed, Truncated
from rawkit.wire import checksum as _checksum
from rawkit.wire.field import (
    AUTO,
    PAYLOAD_ENDS,
    ChecksumRule,
    CRC32cRule,
    FlagBits,
    Kind,
    Octets,
    Options,
    Rule,
    Spec,
    UInt,
    Variable,
    header_words,
)

Self = TypeVar("Self", bound="Layout")


@dataclass(frozen=True, slots=True)
class FieldInfo:
    """One row of a header's field table.

    `offset` and `width` are in bits from the start of the header; width 0 means "up to the end of it", or as
    long as `spec.size` says. `slot` is the attribute that holds what parsing found. A field that is `moved`
    follows one that may be absent or of any length; its offset takes those for present and empty.
    """

    name: str
    kind: Kind
    offset: int
    width: int
    spec: Spec
    slot: str
    moved: bool = False


# ---- from class body to field table ----------------------------------------------------------------


def _annotations(namespace: dict[str, Any]) -> dict[str, Any]:
    if "__annotations__" in namespace:
        return dict(namespace["__annotations__"])
    if sys.version_info >= (3, 14):  # annotations are evaluated on request (PEP 649)
        import annotationlib

        function = annotationlib.get_annotate_from_class_namespace(namespace)
        if function is not None:
            return dict(annotationlib.call_annotate_function(function, annotationlib.Format.VALUE))
    return {}


def _own_fields(
    cls: str, namespace: dict[str, Any], outer: Mapping[str, Any]
) -> list[tuple[str, Kind, Spec]]:
    module = vars(sys.modules[namespace["__module__"]]) if namespace.get("__module__") in sys.modules else {}
    annotations = _annotations(namespace)
    rows = []
    for name, annotation in annotations.items():
        if isinstance(annotation, str):
            if annotation.startswith("ClassVar"):
                continue
            try:
                # A field may have the name of its kind (`mac: mac`): its default is not meant here.
                local = {key: value for key, value in namespace.items() if key not in annotations}
                annotation = eval(annotation, dict(module), {**outer, **local})
            except NameError as error:
                raise TypeError(f"{cls}.{name}: {error}") from None
        if get_origin(annotation) is ClassVar:
            continue
        if name.startswith("_"):
            raise TypeError(f"{cls}.{name}: a field's name cannot start with an underscore")
        kind = _kind(annotation)
        if kind is None:
            raise TypeError(
                f"{cls}.{name}: {annotation!r} is no field kind (u16, mac, flags8, Options[...] ...)"
            )
        spec = namespace.pop(name, ...)
        if not isinstance(spec, Spec):
            spec = Spec(spec, {}, (), None)
        if isinstance(kind, FlagBits):
            kind = FlagBits(kind.width, spec.bits)
        elif spec.bits:
            raise TypeError(f"{cls}.{name}: bits= needs a flags kind such as flags8")
        if len(spec.bits) > max(kind.width, 1):
            raise TypeError(f"{cls}.{name}: {len(spec.bits)} flag names for {kind.width} bits")
        if spec.default is not ... and spec.default is not AUTO and spec.default is not None:
            spec = replace(spec, default=kind.convert(spec.default, f"{cls}.{name}"))
        rows.append((name, kind, spec))
    return rows


def _kind(annotation: Any) -> Kind | None:
    for item in getattr(annotation, "__metadata__", ()):
        if isinstance(item, Kind):
            return item
    if get_origin(annotation) in (Union, UnionType):  # of a field that may be absent
        kinds = [_kind(item) for item in get_args(annotation) if item is not NoneType]
        return kinds[0] if len(kinds) == 1 else None
    if get_origin(annotation) is Options:
        (family,) = get_args(annotation)
        return family.kind_of_list()  # type: ignore[no-any-return]
    return None


def _lay_out(
    cls: str, inherited: tuple[FieldInfo, ...], own: list[tuple[str, Kind, Spec]]
) -> tuple[FieldInfo, ...]:
    """Field table: inherited fields keep their place (and may get a new default), own ones follow."""
    redeclared = {name: (kind, spec) for name, kind, spec in own}
    rows = []
    for row in inherited:
        kind, spec = redeclared.pop(row.name, (row.kind, row.spec))
        if kind.width != row.width:
            raise TypeError(f"{cls}.{row.name}: {kind.width} bits, but {row.width} in the class it extends")
        rows.append(replace(row, kind=kind, spec=spec))
    at = rows[-1].offset + rows[-1].width if rows else 0
    for name, (kind, spec) in redeclared.items():
        if rows and rows[-1].width == 0 and rows[-1].spec.size is None:
            raise TypeError(f"{cls}.{name}: follows {rows[-1].name}, which fills the header to its end")
        slot = name if kind.slot_serves else f"_{name}"
        earlier = [spec.when[0]] if spec.when else []
        earlier += [spec.size.field] if spec.size else []
        if not {row.name for row in rows}.issuperset(earlier):
            raise TypeError(f"{cls}.{name}: depends on {' and '.join(earlier)}, which must stand before it")
        moved = any(row.spec.moves for row in rows)
        if (moved or spec.moves) and kind.width % 8:
            raise TypeError(f"{cls}.{name}: fields that may move need whole octets")
        rows.append(FieldInfo(name, kind, at, kind.width, spec, slot, moved))
        at += kind.width
    if at % 8:
        raise TypeError(f"{cls}: its fields make {at} bits, which is no whole number of octets")
    words = [r.name for r in rows if isinstance(r.spec.rule, Rule) and r.spec.rule.unit]
    if words and rows[-1].width:
        raise TypeError(f"{cls}.{words[0]}: a header length needs a last field that can fill up to it")
    fixed = not any(row.spec.moves for row in rows)
    if fixed and at % 32 and any(row.spec.rule is header_words for row in rows):
        raise TypeError(f"{cls}: {at // 8} octets before {rows[-1].name} are no whole number of 32-bit words")
    return tuple(rows)


# ---- from field table to functions -------------------------------------------------------------------


@dataclass(frozen=True)
class _Unit:
    """What one letter of the struct format stands for: a field, or integers sharing octets."""

    code: str
    rows: tuple[FieldInfo, ...]
    width: int


def _units(cls: str, fields: tuple[FieldInfo, ...]) -> list[_Unit]:
    units: list[_Unit] = []
    shared: list[FieldInfo] = []
    for row in fields:
        if row.width == 0 or row.spec.moves:
            break
        if not shared and row.kind.code:
            units.append(_Unit(row.kind.code, (row,), row.width))
            continue
        if not isinstance(row.kind, UInt):
            raise TypeError(f"{cls}.{row.name}: starts inside an octet (bit {row.offset})")
        shared.append(row)
        width = sum(r.width for r in shared)
        if width % 8 == 0:
            code = {8: "B", 16: "H", 32: "I", 64: "Q"}.get(width, f"{width // 8}s")
            units.append(_Unit(code, tuple(shared), width))
            shared = []
    if shared:
        raise TypeError(f"{cls}.{shared[0].name}: the fields from here on do not fill whole octets")
    return units


def _generate(cls: Any, fields: tuple[FieldInfo, ...], positional: bool) -> None:
    units = _units(cls.__name__, fields)
    layout = struct.Struct(">" + "".join(unit.code for unit in units))
    cls.min_len = layout.size
    last = fields[-1] if fields else None
    variable = last if last and last.width == 0 and not last.spec.moves else None
    names: dict[str, Any] = {
        "_AUTO": AUTO,
        "cls": cls,
        "unpack": layout.unpack_from,
        "pack": layout.pack,
        "new": object.__new__,
        "struct_error": struct.error,
        "FieldError": FieldError,
        "_explain": _explain,
        "truncated": _truncated,
        "cut_off": _cut_off,
        "bad_length": _bad_length,
        "checksum": _checksum,
        "_kinds": {row.name: row.kind for row in fields},
        "_rules": {row.name: row.spec.rule for row in fields},
        "_defaults": {row.name: row.spec.default for row in fields},
    }
    source = "\n".join(
        _init_source(cls.__name__, fields, positional)
        + _parse_source(fields, units, variable, layout.size, cls.ends_packet)
        + _pack_source(fields, units, variable, layout.size)
    )
    filename = f"<rawkit {cls.__module__}.{cls.__qualname__}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    exec(compile(source, filename, "exec"), names)
    for function in ("__init__", "_pack"):
        names[function].__qualname__ = f"{cls.__qualname__}.{function}"
        setattr(cls, function, names[function])
    cls._parse = classmethod(names["_parse"])


def _init_source(cls: str, fields: tuple[FieldInfo, ...], positional: bool) -> list[str]:
    required = [f.name for f in fields if f.spec.default is ...]
    defaulted = [f"{f.name}=_defaults[{f.name!r}]" for f in fields if f.spec.default is not ...]
    star = [] if positional or not fields else ["*"]
    lines = [f"def __init__(self, {', '.join(star + required + defaulted)}):"]
    by_width: dict[int, list[str]] = {}
    for f in fields:
        if f.moved or f.spec.moves:
            # None: it is not there, or is computed if it is.
            told = f" or {f.name} is _AUTO" if f.spec.rule is not None else ""
            told += f" or {f.name} is None" if f.spec.when else ""
            lines.append(
                f"    self.{f.slot} = {f.name} if {f.name} is _defaults[{f.name!r}]{told}"
                f" else _kinds[{f.name!r}].convert({f.name}, {f'{cls}.{f.name}'!r})"
            )
        elif f.slot != f.name or isinstance(f.kind, Octets):
            # Defaults were converted when the class was made.
            lines.append(
                f"    self.{f.slot} = {f.name} if {f.name} is _defaults[{f.name!r}]"
                f" else _kinds[{f.name!r}].convert({f.name}, {f'{cls}.{f.name}'!r})"
            )
        else:
            lines.append(f"    self.{f.slot} = {f.name}")
            term = f"(0 if {f.name} is _AUTO else {f.name})" if f.spec.default is AUTO else f.name
            by_width.setdefault(f.width, []).append(term)
    if by_width:
        # One test for all fields of a width: any too large, or negative, leaves bits above it.
        tests = " or ".join(f"({' | '.join(terms)}) >> {width}" for width, terms in by_width.items())
        lines += [
            "    try:",
            f"        _fits = not ({tests})",
            "    except TypeError:",
            "        _fits = False",
        ]
        lines += ["    if not _fits:", "        _explain(self)"]
    return lines if len(lines) > 1 else [*lines, "    pass"]


def _parse_source(
    fields: tuple[FieldInfo, ...],
    units: list[_Unit],
    variable: FieldInfo | None,
    size: int,
    ends_packet: bool,
) -> list[str]:
    lines = ["def _parse(cls, buf, offset, end):"]
    lines += [f"    if end - offset < {size}:", f"        raise truncated(cls, {size}, offset, end)"]
    lines += ["    self = new(cls)"]
    targets, shifts = [], []
    for i, unit in enumerate(units):
        if len(unit.rows) == 1 and unit.rows[0].width == unit.width and unit.rows[0].kind.code:
            targets.append(f"self.{unit.rows[0].slot}")
            continue
        targets.append(f"shared{i}")
        if unit.code.endswith("s"):
            shifts.append(f"    shared{i} = int.from_bytes(shared{i}, 'big')")
        left = unit.width
        for row in unit.rows:
            left -= row.width
            value = f"shared{i} >> {left}" if left else f"shared{i}"
            mask = "" if left + row.width == unit.width else f" & {(1 << row.width) - 1}"
            shifts.append(f"    self.{row.slot} = {value}{mask}")
    if targets:
        lines.append(f"    ({', '.join(targets)},) = unpack(buf, offset)")
    lines += shifts
    bounds = [(f, f.spec.rule) for f in fields if isinstance(f.spec.rule, Rule)]
    header_end = next(((f, rule) for f, rule in bounds if rule.unit), None)
    if header_end:
        f, rule = header_end
        bias = f"(self.{f.slot} + {rule.bias})" if rule.bias else f"self.{f.slot}"
        lines.append(f"    header_end = offset + {bias} * {rule.unit}")
        lines += [f"    if not offset + {size} <= header_end <= end:"]
        lines += [f"        raise bad_length(cls, {f.name!r}, header_end - offset, {size}, offset, end)"]
    else:
        lines.append("    header_end = end" if variable else f"    header_end = offset + {size}")
    moving = [f for f in fields if f.moved or f.spec.moves]
    if moving:
        limit = "header_end" if variable else "end"
        lines.append(f"    at = offset + {size}")
        lines += _moving_source([f for f in moving if f is not variable], limit)
        if not variable:
            lines.append("    header_end = at")
    start = "at" if moving else f"offset + {size}"
    payload_end = next(((f, rule) for f, rule in bounds if rule.bounds), None)
    if payload_end and variable and not header_end and payload_end[1].bounds == "total":
        # All that the length claims is the header: its last field fills it.
        f, rule = payload_end
        lines += [f"    value = self.{f.slot}", f"    header_end = min({PAYLOAD_ENDS[rule.bounds]}, end)"]
        lines += [f"    if header_end < {start}:"]
        lines += [f"        raise bad_length(cls, {f.name!r}, value, {size}, offset, end)"]
        lines.append(f"    self.{variable.slot} = bytes(buf[{start} : header_end])")
        lines.append("    return self, header_end, header_end")
        return lines
    if variable:
        lines.append(f"    self.{variable.slot} = bytes(buf[{start} : header_end])")
    if payload_end:
        f, rule = payload_end
        lines += [f"    value = self.{f.slot}", f"    payload_end = {PAYLOAD_ENDS[rule.bounds]}"]
        lines += ["    if payload_end > end:", "        payload_end = end"]
        lines += ["    elif payload_end < header_end:"]
        lines += [f"        raise bad_length(cls, {f.name!r}, payload_end - offset, {size}, offset, end)"]
        lines.append("    return self, header_end, payload_end")
    else:
        lines.append(f"    return self, header_end, {'header_end' if ends_packet else 'end'}")
    return lines


def _moving_source(fields: list[FieldInfo], limit: str) -> list[str]:
    """Source that parses fields that may be absent, or of any length, from `at` on."""
    lines: list[str] = []
    for f in fields:
        indent = "    "
        if f.spec.when:
            name, value = f.spec.when
            lines.append(f"    if self.{name}{'' if value is None else f' == {value}'}:")
            indent += "    "
        if f.spec.size:
            by = f.spec.size
            count = f"(self.{by.field} + {by.bias})" if by.bias else f"self.{by.field}"
            lines.append(f"{indent}size = {count} * {by.unit}")
        else:
            lines.append(f"{indent}size = {f.width // 8}")
        lines += [f"{indent}if not 0 <= size <= {limit} - at:"]
        lines += [f"{indent}    raise cut_off(cls, {f.name!r}, size, at, {limit}, offset)"]
        octets = "buf[at : at + size]"
        found = f"int.from_bytes({octets}, 'big')" if isinstance(f.kind, UInt) else f"bytes({octets})"
        lines += [f"{indent}self.{f.slot} = {found}", f"{indent}at += size"]
        if f.spec.when:
            lines += ["    else:", f"        self.{f.slot} = None"]
    return lines


def _built_source(moving: list[FieldInfo], fields: tuple[FieldInfo, ...]) -> list[str]:
    """Source that gives `t_x`, the octets of each field that may be absent, or None; `f_x` says which are."""

    def octets(f: FieldInfo, value: str) -> str:
        return f"{value}.to_bytes({f.width // 8}, 'big')" if isinstance(f.kind, UInt) else value

    lines = ["    try:"]
    for f in moving:
        rule = f.spec.rule
        if isinstance(rule, Rule):
            lines.append(f"        t_{f.name} = None")
            continue
        lines.append(f"        value = self.{f.slot}")
        if rule is not None:
            lines += ["        if value is _AUTO:", "            value = 0"]
        lines.append(f"        t_{f.name} = None if value is None else {octets(f, 'value')}")
    # What says whether another is there comes before it, and asks only whether that one has a value.
    says = {f.spec.when[0] for f in moving if f.spec.when}
    for f in fields:
        if f.name in says and f not in moving:
            lines.append(f"        f_{f.name} = self.{f.slot}")
            if isinstance(f.spec.rule, Rule):
                lines += [f"        if f_{f.name} is _AUTO:", f"            f_{f.name} = {f.spec.rule.build}"]
    for f in moving:
        rule = f.spec.rule
        there = "True"
        if f.spec.when:
            name, value = f.spec.when
            there = f"f_{name}" if value is None else f"f_{name} == {value}"
        empty = repr(b"\0" * (f.width // 8))
        if isinstance(rule, Rule):
            lines += [f"        f_{f.name} = self.{f.slot}", f"        if f_{f.name} is _AUTO:"]
            lines.append(f"            f_{f.name} = {rule.build} if {there} else None")
            lines += [f"        if f_{f.name} is not None:"]
            lines.append(f"            t_{f.name} = {octets(f, f'f_{f.name}')}")
            continue
        lines += [f"        if t_{f.name} is None and {there}:", f"            t_{f.name} = {empty}"]
        if f.name in says:
            lines.append(f"        f_{f.name} = self.{f.slot}")
    joined = " + ".join(f"(t_{f.name} or b'')" for f in moving)
    lines += [f"        tail = {joined}"]
    lines += [
        "    except (TypeError, OverflowError, AttributeError):",
        "        _explain(self, len(payload))",
    ]
    return lines


def _pack_source(
    fields: tuple[FieldInfo, ...], units: list[_Unit], variable: FieldInfo | None, size: int
) -> list[str]:
    lines = ["def _pack(self, payload, outer, upper):"]
    moving = [f for f in fields if f.moved or f.spec.moves]
    if moving:
        lines += _built_source([f for f in moving if f is not variable], fields)
        lines.append(f"    header_len = {size} + len(tail)")
        if variable:
            lines += [f"    tail += self.{variable.slot}", f"    header_len = {size} + len(tail)"]
    elif variable:
        lines.append(f"    tail = self.{variable.slot}")
        lines += [f"    header_len = {size} + len(tail)"]
    else:
        lines.append(f"    header_len = {size}")
    lines.append("    payload_len = len(payload)")
    sums: list[FieldInfo] = []
    for f in fields:
        rule = f.spec.rule
        if isinstance(rule, (ChecksumRule, CRC32cRule)) and f in moving:
            sums.append(f)
        if f.width == 0 or f in moving:
            continue
        lines.append(f"    f_{f.name} = self.{f.slot}")
        if rule is None:
            if f.spec.default is not AUTO:
                continue
            empty = repr(b"\0" * (f.width // 8)) if f.kind.code.endswith("s") else "0"
            lines += [f"    if f_{f.name} is _AUTO:", f"        f_{f.name} = {empty}"]
            continue
        lines.append(f"    if f_{f.name} is _AUTO:")
        if isinstance(rule, Rule):
            lines.append(f"        f_{f.name} = {rule.build}")
        elif isinstance(rule, (ChecksumRule, CRC32cRule)):
            lines.append(f"        f_{f.name} = 0")
            sums.append(f)
        else:
            lines.append(f"        f_{f.name} = _rules[{f.name!r}](self, payload)")
    values, tests = [], []
    for unit in units:
        if len(unit.rows) == 1 and unit.rows[0].kind.code:
            values.append(f"f_{unit.rows[0].name}")
            continue
        left, terms = unit.width, []
        for row in unit.rows:
            left -= row.width
            terms.append(f"f_{row.name} << {left}" if left else f"f_{row.name}")
            tests.append(f"f_{row.name} >> {row.width}")
        value = " | ".join(terms)
        values.append(f"({value}).to_bytes({unit.width // 8}, 'big')" if unit.code.endswith("s") else value)
    lines.append("    try:")
    if tests:
        lines += [f"        if {' or '.join(tests)}:", "            _explain(self, payload_len)"]
    lines.append(f"        octets = pack({', '.join(values)}){' + tail' if variable or moving else ''}")
    lines += ["    except (struct_error, TypeError, OverflowError):", "        _explain(self, payload_len)"]
    for f in sums:
        rule = f.spec.rule
        at, size = f.offset // 8, f.width // 8
        octets = "octets + payload" if rule.payload else "octets"  # type: ignore[union-attr]
        absent = isinstance(rule, ChecksumRule) and rule.absent_when
        unless = f" and not _rules[{f.name!r}].is_absent(self)" if absent else ""
        lines.append(f"    if self.{f.slot} is _AUTO{unless}:")
        put = f"octets = octets[:{at}] + value.to_bytes({size}, 'big') + octets[{at + size}:]"
        if isinstance(rule, CRC32cRule):
            lines += [f"        value = _rules[{f.name!r}].compute({octets})", f"        {put}"]
            continue
        assert isinstance(rule, ChecksumRule)
        if rule.coverage or rule.skips[1]:
            octets = f"_rules[{f.name!r}].covered(self, header_len, {octets})"
        start = "0"
        if rule.pseudo_header:
            # Without addresses there is nothing to compute: the field stays 0.
            lines.append("        number = outer and outer._number_of(cls)")
            lines.append("        pseudo = outer and outer.pseudo_header(number, header_len + payload_len)")
            lines += ["        total = checksum.add(0, pseudo) if pseudo else None"]
            start = "total"
            lines += ["        if total is not None:"]
            indent = "            "
        else:
            indent = "        "
        lines.append(f"{indent}total = checksum.add({start}, {octets})")
        lines += [f"{indent}value = (~total & 0xFFFF) or {rule.zero}", f"{indent}{put}"]
    lines.append("    return octets")
    return lines


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


def is_default(row: FieldInfo, content: Any) -> bool:
    """Whether the content of a slot is what the field has when nothing is said."""
    return content is row.spec.default or bool(content == row.spec.default)


def _literal(row: FieldInfo, content: Any) -> str:
    """Python source for the content of a slot, which gives it back when the header is made from it."""
    if isinstance(row.kind, FlagBits) and isinstance(content, int):
        known = 0 < content < 1 << len(row.kind.names)
        return repr(row.kind.text(content)) if known else hex(content)
    if isinstance(content, int):
        return int.__repr__(content)  # of an enumeration's member too
    if isinstance(row.kind, Variable):
        value = row.kind.decode(content)
        # Octets that the value does not show (padding, damage) are part of the header all the same.
        return repr(value if row.kind.encode(value, row.name) == content else content)
    return repr(content if content is AUTO or row.kind.slot_serves else str(row.kind.read(content)))


def _truncated(cls: type[Layout], need: int, offset: int, end: int) -> Truncated:
    have = max(end - offset, 0)
    return Truncated(
        f"{cls.__name__}: need {need} octets at offset {offset}, have {have}", cls.__name__, offset
    )


def _cut_off(cls: type[Layout], name: str, need: int, at: int, limit: int, offset: int) -> HeaderError:
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


# ---- the classes ---------------------------------------------------------------------------------


class LayoutMeta(type):
    """Takes the fields out of a class body, adds them to those inherited, and generates the functions."""

    def __new__(
        meta, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: Any
    ) -> LayoutMeta:
        inherited = next((base.fields for base in bases if isinstance(base, LayoutMeta)), ())
        own = _own_fields(name, namespace, sys._getframe(1).f_locals)
        fields = _lay_out(name, inherited, own)
        known = {row.name for row in inherited}
        fresh = [row for row in fields if row.name not in known]
        namespace["__slots__"] = tuple(row.slot for row in fresh)
        for row in fields:
            if not row.kind.slot_serves:
                namespace[row.name] = row.kind.property(row.slot, f"{name}.{row.name}", row.spec.default)
            if isinstance(row.kind, FlagBits):
                namespace.update((flag, 1 << i) for i, flag in enumerate(row.spec.bits))
        namespace["fields"] = fields
        namespace["__match_args__"] = tuple(row.name for row in fields)
        cls = super().__new__(meta, name, bases, namespace)
        _generate(cls, fields, positional=cls._positional)
        cls.__init_layout__(**options)
        return cls

    def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: Any) -> None:
        super().__init__(name, bases, namespace)

    if TYPE_CHECKING:
        fields: tuple[FieldInfo, ...]
        _positional: bool
        ends_packet: bool

        def __init_layout__(cls, **options: Any) -> None: ...

        # The constants that flag names make (`TCP.SYN`), which no annotation shows.
        def __getattr__(cls, name: str) -> int: ...


class Layout(metaclass=LayoutMeta):
    """What headers and options have in common: declared fields, parsed and packed by generated code."""

    fields: ClassVar[tuple[FieldInfo, ...]]
    min_len: ClassVar[int]
    """Octets of the fixed part."""

    ends_packet: ClassVar[bool] = False
    """Whether nothing follows: octets after it are padding."""

    _positional: ClassVar[bool] = False
    """Whether the fields may be given by position."""

    if TYPE_CHECKING:

        @classmethod
        def _parse(cls: type[Self], buf: Any, offset: int, end: int) -> tuple[Self, int, int]:
            """The header at offset, where it ends, and where what it carries ends (all octets into buf)."""
            raise NotImplementedError

        def _pack(self, payload: bytes, outer: Any, upper: type[Layout] | None) -> bytes:
            """The header's octets in front of payload; outer is the IP header with the pseudo-header."""
            raise NotImplementedError

    @classmethod
    def __init_layout__(cls) -> None:
        """Called once per class with the keyword arguments of the class statement."""

    def replace(self: Self, **changes: Any) -> Self:
        """A copy with some fields changed; `checksum=AUTO` asks for a fresh one."""
        values = {row.name: getattr(self, row.slot) for row in self.fields}
        for name in changes:
            if name not in values:
                raise TypeError(f"{type(self).__name__} has no field {name!r}; it has {', '.join(values)}")
        return type(self)(**{**values, **changes})

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, row.slot) == getattr(other, row.slot) for row in self.fields)

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        shown = []
        by_position = self._positional
        for row in self.fields:
            content = getattr(self, row.slot)
            if is_default(row, content):
                by_position = False
                continue
            text = _literal(row, content)
            shown.append(text if by_position else f"{row.name}={text}")
        return f"{type(self).__name__}({', '.join(shown)})"
