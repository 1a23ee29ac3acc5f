"""From an annotated class body to a field table, and the base of all classes that have one.

The layout is worked out once, when the class is created; `generate` makes functions of it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, Union, get_args, get_origin

from rawkit.wire import storage
from rawkit.wire.field import AUTO, FlagBits, Kind, Options, Rule, Spec, Variable, header_words
from rawkit.wire.generate import Plan, first_pack, generate, make_plan, reference

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


# ---- what is shown of a field ---------------------------------------------------------------------


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
        plan = make_plan(name, fields)
        kept = storage.is_kept(plan, bases)
        if not kept and any(getattr(base, "_table", None) is not None for base in bases):
            fresh = list(fields)  # none of those inherited has a slot
        namespace["__slots__"] = () if kept else tuple(row.slot for row in fresh)
        for row in fields:
            if isinstance(row.kind, FlagBits):
                namespace.update((flag, 1 << i) for i, flag in enumerate(row.spec.bits))
        namespace["fields"] = fields
        namespace["__match_args__"] = tuple(row.name for row in fields)
        cls = super().__new__(meta, name, bases, namespace)
        cls._plan, cls.min_len = plan, plan.size
        if kept:
            storage.keep(cls, plan, reference, first_pack)
        else:
            generate(cls, fields)
        cls.__init_layout__(**options)
        return cls

    def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: Any) -> None:
        super().__init__(name, bases, namespace)

    @property
    def __signature__(cls) -> Any:
        """What `inspect.signature` gives, and with it interactive help."""
        from inspect import signature

        whole = signature(reference(cls, "__init__"))
        return whole.replace(parameters=list(whole.parameters.values())[1:-1])  # self, and unknown keywords

    if TYPE_CHECKING:
        fields: tuple[FieldInfo, ...]
        min_len: int
        _plan: Plan
        _table: Any
        _positional: bool
        ends_packet: bool

        def __init_layout__(cls, **options: Any) -> None: ...

        # The constants that flag names make (`TCP.SYN`), which no annotation shows.
        def __getattr__(cls, name: str) -> int: ...


class Layout(storage.Base, metaclass=LayoutMeta):
    """What headers and options have in common: declared fields, parsed and packed by generated code."""

    fields: ClassVar[tuple[FieldInfo, ...]]
    min_len: ClassVar[int]
    """Octets of the fixed part."""

    _plan: ClassVar[Plan]
    _table: ClassVar[Any] = None
    """The compiled module's field table, None for a class whose values are in Python's slots."""

    _reference: ClassVar[dict[str, Any]]

    ends_packet: ClassVar[bool] = False
    """Whether nothing follows: octets after it are padding."""

    _positional: ClassVar[bool] = False
    """Whether the fields may be given by position."""

    if TYPE_CHECKING:

        @staticmethod
        def _parse(buf: Any, offset: int, end: int) -> tuple[Any, int, int]:
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
        return type(self)(**{**values, **changes})

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, row.slot) == getattr(other, row.slot) for row in self.fields)

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __reduce__(self) -> Any:
        return _restored, (type(self), [getattr(self, row.slot) for row in self.fields])

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


def _restored(cls: type[Layout], values: list[Any]) -> Layout:
    """A header from the contents of its slots."""
    header: Layout = storage.blank(cls)
    for row, value in zip(cls.fields, values):
        setattr(header, row.slot, value)
    return header
