"""`Header`: the base class of every protocol header, and which header follows which."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, dataclass_transform

from rawkit.wire.field import LENGTH, ChecksumRule, Rule
from rawkit.wire.generate import compiled
from rawkit.wire.layout import FieldInfo, Layout, Self
from rawkit.wire.registry import Registry
from rawkit.wire.role import Role, roles_of

if TYPE_CHECKING:
    from rawkit.wire.packet import Packet
    from rawkit.wire.walk import Walk


_ENDS = ("src", "dst"), ("sport", "dport")


def _registry_name(cls: type[Any]) -> str:
    """The name that `registry.LATER` knows a class of rawkit's by; none for those of others."""
    return cls.__name__ if cls.__module__.startswith("rawkit.wire.") else ""


# `field()` and `auto()` are not declared as field specifiers: to a type checker they are plain defaults,
# which is what they are, also when the default is given by position.
@dataclass_transform(kw_only_default=True)
class Header(Layout):
    """Base of every header class.

    A subclass is annotated with its fields in wire order. Keywords of the class statement:

    over       mapping of lower header classes to the number (EtherType, protocol, port) that announces
               this one; it registers the class for parsing and for computing those numbers
    linktype   a LINKTYPE_ number whose frames start with this header
    shares     a header class whose numbers for what follows hold here too (all that carry an EtherType)
    variant    for a subclass of a concrete header: the value (or values) of the base's `discriminator`
               field at which the subclass is parsed in its place
    at_least   for a subclass of a variant: it is parsed in its place where there are so many octets

    Attributes are plain values and may be set; out-of-range values raise `FieldError` when the header is
    made, or when it is packed. A header knows nothing of its neighbours.
    """

    discriminator: ClassVar[str] = ""
    """Name of the field, inside one octet, that chooses among the subclasses registered with `variant`."""

    uppers: ClassVar[Registry]
    """Which header class follows under which number."""

    numbers: ClassVar[dict[type[Header], int]]
    """The reverse of `uppers`."""

    variants: ClassVar[Registry]
    """Which subclass is parsed at which value of the discriminator."""

    is_network: ClassVar[bool] = False
    """Whether this is where link headers end (IP, ARP)."""

    quotes: ClassVar[bool] = False
    """Whether what follows is the beginning of a packet that caused this one (ICMP errors)."""

    no_upper: ClassVar[int] = 0
    """What a field computed by `upper_number` holds when nothing registered follows."""

    label: ClassVar[str]
    """What the one-line form calls this header; the class's name, where nothing else is said."""

    selected_by: ClassVar[tuple[str, ...]] = ()
    """The fields whose number says which header follows, in the order they are tried; where nothing is said,
    those computed by `upper_number`."""

    followed_by: ClassVar[type[Header] | None] = None
    """The header that always follows."""

    opaque_when: ClassVar[str] = ""
    """The field that, when it is not 0, says that what follows is no header (the offset of a fragment)."""

    lengths_below: ClassVar[int] = 0
    """Smaller numbers in the selecting field are lengths; what follows them is registered under `LENGTH`."""

    is_choice: ClassVar[bool] = False
    """Whether this is no header, and only stands for its variants: without one, what follows is payload."""

    common: ClassVar[bool] = False
    """Whether packets hold this header so often that it is parsed in one go with the common ones below it."""

    reroutes: ClassVar[bool] = False
    """Whether checksums of what follows take another destination than the header below has (`rerouted`)."""

    roles: ClassVar[Mapping[str, tuple[Role, FieldInfo]]]
    """What fields mean to a transport protocol: role name to the role and its field."""

    _ends: ClassVar[tuple[str, ...]] = ()
    _discriminator_at: ClassVar[int] = -1
    _discriminator_shift: ClassVar[int] = 0
    _discriminator_mask: ClassVar[int] = 0xFF
    _has_pseudo_header: ClassVar[bool] = False
    _sums_outer: ClassVar[bool] = False
    _is_base: ClassVar[bool] = False
    _walk: ClassVar[Walk | None] = None
    _longer: ClassVar[tuple[int, type[Header]]]

    @classmethod
    def __init_layout__(
        cls,
        over: Mapping[type[Header], int | tuple[int, ...]] | None = None,
        linktype: int | None = None,
        variant: int | tuple[int, ...] | None = None,
        shares: type[Header] | None = None,
        at_least: int | None = None,
    ) -> None:
        if variant is not None:
            base = next(b for b in cls.__mro__[1:] if issubclass(b, Header) and vars(b).get("discriminator"))
            for value in _as_tuple(variant):
                base.variants.add(value, cls, f"{base.__name__}.{base.discriminator}")
            # A variant stands where its base stands: the same numbers announce it, the same follow.
            cls._discriminator_at = -1
        elif at_least is not None:
            cls._discriminator_at = -1
            _parse_by_length(cls.__bases__[0], cls, at_least)
        else:
            name = _registry_name(cls)
            cls.uppers, cls.numbers = (shares.uppers, shares.numbers) if shares else (Registry(name), {})
            cls.variants = Registry(f"{name}.variants")
        if vars(cls).get("discriminator"):
            row = next(f for f in cls.fields if f.name == cls.discriminator)
            cls._discriminator_at = row.offset // 8
            cls._discriminator_shift = -(row.offset + row.width) % 8
            cls._discriminator_mask = (1 << row.width) - 1
        if not cls.selected_by:
            cls.selected_by = tuple(row.name for row in cls.selectors())
        cls.roles = roles_of(cls.__name__, cls.fields)
        names = {row.name for row in cls.fields}
        cls._ends = next((ends for ends in _ENDS if names.issuperset(ends)), ())
        if cls.__base__ is not Layout:
            cls._is_base, cls._walk = False, None
            for base in cls.__mro__[1:]:
                if issubclass(base, Header):
                    base._is_base = True
            cls._has_pseudo_header |= "pseudo_header" in vars(cls)
        rules = [row.spec.rule for row in cls.fields]
        cls._sums_outer = any(isinstance(rule, ChecksumRule) and rule.pseudo_header for rule in rules)
        if "label" not in vars(cls):
            cls.label = cls.__name__
        cls.register(over or {})
        if linktype is not None:
            LINKTYPES.add(linktype, cls, "linktype")

    @classmethod
    def register(cls, over: Mapping[type[Header], int | tuple[int, ...]]) -> None:
        """As `over` in the class statement, for what is only there later: the class itself, a sibling."""
        for lower, number in over.items():
            for value in _as_tuple(number):
                lower.uppers.add(value, cls, lower.__name__)
            lower.numbers[cls] = _as_tuple(number)[0]

    @classmethod
    def parse(cls: type[Self], octets: Any, offset: int = 0, end: int | None = None) -> Self:
        """The header at `offset` of any buffer; `end` is where the enclosing header says its content ends.

        Raises: `Truncated`, `Malformed`.
        """
        header: Self = cls._parse(octets, offset, len(octets) if end is None else end)[0]
        return header

    @classmethod
    def _number_of(cls, upper: type[Header] | None) -> int:
        numbers = cls.numbers
        if upper in numbers:
            return numbers[upper]
        for kind in upper.__mro__ if upper is not None else ():
            if kind in numbers:
                return numbers[kind]
        return cls.no_upper

    @classmethod
    def selectors(cls) -> tuple[FieldInfo, ...]:
        """The fields that hold the registered number of what follows."""
        return tuple(row for row in cls.fields if isinstance(row.spec.rule, Rule) and row.spec.rule.selects)

    def upper_class(self) -> type[Header] | None:
        """The class of the header that follows, None when it is not known."""
        if self.opaque_when and getattr(self, self.opaque_when):
            return None
        if self.followed_by is not None:
            return self.followed_by
        for name in self.selected_by:
            number = getattr(self, name)
            upper: type[Header] | None = self.uppers[number if number >= self.lengths_below else LENGTH]
            if upper is not None:
                return upper
        return None

    def pseudo_header(self, protocol: int, length: int) -> bytes | None:
        """The pseudo-header for an upper checksum; None for headers that have no such thing."""
        return None

    def rerouted(self, outer: Header) -> Header:
        """The header below with the final destination, of a header that `reroutes`."""
        return outer

    def answers(self, request: Header) -> bool:
        """Whether this header is a reply to `request`, a header of the same place in a sent packet."""
        return False

    def is_quote_of(self, original: Header) -> bool:
        """Whether this header, quoted in an ICMP error, is `original` as it was sent."""
        return type(self) is type(original)

    @property
    def is_fragment(self) -> bool:
        """Whether the payload is only a part of a datagram."""
        return False

    def ends(self) -> tuple[str, str] | None:
        """Where it comes from and goes to, as text; None where it names no addresses and no ports.

        The one-line form joins the ports to the addresses of the header below.
        """
        if not self._ends:
            return None
        source, target = self._ends
        return str(getattr(self, source)), str(getattr(self, target))

    def summary(self) -> str:
        """What the one-line form says of this header besides its ends; "" for nothing."""
        from rawkit.wire import show

        return show.words(self)

    if TYPE_CHECKING:

        def __truediv__(self, other: Header | Packet | bytes) -> Packet:
            """A packet; `packet` sets it, since packets know headers and headers know no packets."""

    def __bytes__(self) -> bytes:
        return self._pack(b"", None, None)

    def show(self) -> str:
        """The fields, one a line."""
        from rawkit.wire import show

        return show.header_tree(self)

    @classmethod
    def diagram(cls) -> str:
        """The layout as a picture in the style of the RFCs, 32 bits a row."""
        from rawkit.wire import show

        return show.diagram(cls)


LINKTYPES = Registry("linktypes")
"""Which header class a capture of a given LINKTYPE_ starts with."""


def _parse_by_length(base: type[Header], longer: type[Header], at_least: int) -> None:
    """Let `base` parse as `longer` where there are enough octets."""
    parse_base, parse_longer = compiled(base)._parse, compiled(longer)._parse

    def parse(buf: Any, offset: int, end: int) -> tuple[Header, int, int]:
        found: tuple[Header, int, int]
        found = (parse_longer if end - offset >= at_least else parse_base)(buf, offset, end)
        return found

    base._parse = staticmethod(parse)  # type: ignore[method-assign]
    base._longer = at_least, longer
    base.common = False
    _forget_walks(Header)


def _forget_walks(cls: type[Header]) -> None:
    cls._walk = None
    for subclass in cls.__subclasses__():
        _forget_walks(subclass)


def _as_tuple(number: int | tuple[int, ...]) -> tuple[int, ...]:
    return number if isinstance(number, tuple) else (number,)
