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
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, get_args, get_origin

from rawkit.errors import FieldError, Malformed, Truncated
from rawkit.wire import checksum as _checksum
from rawkit.wire.field import (
    AUTO,
    PAYLOAD_ENDS,
    ChecksumRule,
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

    `offset` and `width` are in bits from the start of the header; width 0 means "up to the end of it".
    `slot` is the attribute that holds what parsing found.
    """

    name: str
    kind: Kind
    offset: int
    width: int
    spec: Spec
    slot: str


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
        if spec.default is not ... and spec.default is not AUTO:
            content = kind.convert(spec.default, f"{cls}.{name}")
            spec = Spec(content, spec.names, spec.bits, spec.rule)
        rows.append((name, kind, spec))
    return rows


def _kind(annotation: Any) -> Kind | None:
    for item in getattr(annotation, "__metadata__", ()):
        if isinstance(item, Kind):
            return item
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
        rows.append(FieldInfo(row.name, kind, row.offset, row.width, spec, row.slot))
    at = rows[-1].offset + rows[-1].width if rows else 0
    for name, (kind, spec) in redeclared.items():
        if rows and rows[-1].width == 0:
            raise TypeError(f"{cls}.{name}: follows {rows[-1].name}, which fills the header to its end")
        slot = name if kind.slot_serves else f"_{name}"
        rows.append(FieldInfo(name, kind, at, kind.width, spec, slot))
        at += kind.width
    if at % 8:
        raise TypeError(f"{cls}: its fields make {at} bits, which is no whole number of octets")
    words = [r.name for r in rows if isinstance(r.spec.rule, Rule) and r.spec.rule.unit]
    if words and rows[-1].width:
        raise TypeError(f"{cls}.{words[0]}: a header length needs a last field that can fill up to it")
    if at % 32 and any(row.spec.rule is header_words for row in rows):
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
        if row.width == 0:
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
    variable = fields[-1] if fields and fields[-1].width == 0 else None
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
        if f.slot != f.name or isinstance(f.kind, Octets):
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
    if variable:
        lines.append(f"    self.{variable.slot} = bytes(buf[offset + {size} : header_end])")
    payload_end = next(((f, rule) for f, rule in bounds if rule.bounds), None)
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


def _pack_source(
    fields: tuple[FieldInfo, ...], units: list[_Unit], variable: FieldInfo | None, size: int
) -> list[str]:
    lines = ["def _pack(self, payload, outer, upper):"]
    if variable:
        lines.append(f"    tail = self.{variable.slot}")
        lines += [f"    header_len = {size} + len(tail)"]
    else:
        lines.append(f"    header_len = {size}")
    lines.append("    payload_len = len(payload)")
    sums: list[FieldInfo] = []
    for f in fields:
        if f.width == 0:
            continue
        lines.append(f"    f_{f.name} = self.{f.slot}")
        rule = f.spec.rule
        if rule is None:
            if f.spec.default is not AUTO:
                continue
            empty = repr(b"\0" * (f.width // 8)) if f.kind.code.endswith("s") else "0"
            lines += [f"    if f_{f.name} is _AUTO:", f"        f_{f.name} = {empty}"]
            continue
        lines.append(f"    if f_{f.name} is _AUTO:")
        if isinstance(rule, Rule):
            lines.append(f"        f_{f.name} = {rule.build}")
        elif isinstance(rule, ChecksumRule):
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
    lines.append(f"        octets = pack({', '.join(values)}){' + tail' if variable else ''}")
    lines += ["    except (struct_error, TypeError, OverflowError):", "        _explain(self, payload_len)"]
    for f in sums:
        rule = f.spec.rule
        assert isinstance(rule, ChecksumRule)
        at = f.offset // 8
        lines.append(f"    if self.{f.slot} is _AUTO:")
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
        lines.append(f"{indent}total = checksum.add({start}, octets{' + payload' if rule.payload else ''})")
        lines.append(f"{indent}value = (~total & 0xFFFF) or {rule.zero}")
        lines.append(f"{indent}octets = octets[:{at}] + value.to_bytes(2, 'big') + octets[{at + 2}:]")
    lines.append("    return octets")
    return lines


def _explain(header: Layout, payload_len: int | None = None) -> None:
    """Raise the `FieldError` that says which field cannot hold its value."""
    name = type(header).__name__
    for row in header.fields:
        value = getattr(header, row.slot)
        if isinstance(row.kind, Variable) or (value is AUTO is row.spec.default):
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
