"""What a header field can be: its kind (width, conversion), its default, and the rule that computes it.

A header class is annotated with kinds (`u16`, `mac`, `flags8`, `Options[...]`); `field()` adds names and
flag letters, `auto()` names the rule that computes a field when the packet is built. Each kind tells a type
checker what reading the field gives and what setting it accepts.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar

from rawkit.addr import MAC
from rawkit.errors import FieldError, TargetError
from rawkit.wire import checksum as _checksum

if TYPE_CHECKING:
    from rawkit.wire.role import Role

T = TypeVar("T")


class _Auto:
    """The type of `AUTO`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "AUTO"

    def __reduce__(self) -> str:
        return "AUTO"


AUTO: Any = _Auto()
"""Stands for "compute this when the packet is built"; any other value goes out as given."""


# ---- rules: how a field is computed, and what it bounds when parsed ------------------------------


@dataclass(frozen=True)
class Rule:
    """How a field left at `AUTO` is computed, and what it says about the octets when it is parsed.

    `build` is an expression over `header_len` and `payload_len` (octets), `upper` (the class of the header
    that follows, or None) and `cls`. With `unit`, the header is (value + bias) * unit octets long. `bounds`
    names what the field says of the payload's end, one of `PAYLOAD_ENDS`. With `selects`, the field's
    number says which header follows.
    """

    build: str
    unit: int = 0
    bias: int = 0
    bounds: str = ""
    selects: bool = False


PAYLOAD_ENDS = {
    "total": "(offset + value if value else end)",
    "payload": "header_end + value",
    "802.3": "(header_end + value if value < 1536 else end)",
}
"""Where the payload ends, as expressions over `value`, `offset`, `header_end` and `end`."""


def header_length(unit: int, bias: int = 0) -> Rule:
    """The rule for a header length in units of so many octets, of which `bias` are not counted."""
    less = f" - {bias}" if bias else ""
    return Rule(f"(header_len + {unit - 1}) // {unit}{less}", unit=unit, bias=bias)


header_words = header_length(4)
"""The header's length in 32-bit words (IHL, data offset)."""

total_length = Rule("header_len + payload_len", bounds="total")
"""Octets of this header and all that follows. On parsing, 0 means "not filled in": up to the end."""

payload_length = Rule("payload_len", bounds="payload")
"""Octets after this header."""

upper_number = Rule("cls._number_of(upper)", selects=True)
"""The number under which the following header's class is registered over this one."""

LENGTH = 1 << 16
"""The number, which no field can hold, of what follows a length in the place of an EtherType (LLC)."""

ether_type = Rule(
    f"(payload_len if (number := {upper_number.build}) == {LENGTH} else number)",
    bounds="802.3",
    selects=True,
)
"""As `upper_number`; below 1536 a length that bounds what follows (IEEE 802.3 clause 3.2.6)."""


@dataclass(frozen=True)
class Coverage:
    """How many octets a checksum covers, as a field of the header says it; 0 there means all.

    The field counts units of `unit` octets, from the header's start, or with `payload` after the header,
    where 1 stands for none of it.
    """

    field: str
    unit: int = 1
    payload: bool = False

    def octets(self, header: Any, header_len: int, whole_len: int) -> int:
        """Octets covered, from the header's start; the field may claim more than there are."""
        value: int = getattr(header, self.field)
        if not value:
            return whole_len
        return header_len + (value - 1) * self.unit if self.payload else value * self.unit


@dataclass(frozen=True)
class ChecksumRule:
    """The Internet checksum (RFC 1071) in this field.

    It covers the header, with `payload` what follows too, and with `pseudo_header` the addresses of the
    IP header below (RFC 768, RFC 9293, RFC 8200 section 8.1). `zero` is sent where the sum comes out as 0.
    `coverage` says that it covers a part only, `skips` that it leaves out the octets from the first to before
    the second number. There is none, and 0 in its place, where the field `absent_when[0]` has the value
    `absent_when[1]`.
    """

    payload: bool = True
    pseudo_header: bool = False
    zero: int = 0
    coverage: Coverage | None = None
    skips: tuple[int, int] = (0, 0)
    absent_when: tuple[str, int] | None = None

    def is_absent(self, header: Any) -> bool:
        """Whether this header has no checksum."""
        return self.absent_when is not None and getattr(header, self.absent_when[0]) == self.absent_when[1]

    def covered(self, header: Any, header_len: int, octets: bytes) -> bytes:
        """What the checksum covers of `octets`, the header and (with `payload`) all that follows."""
        if self.coverage is not None:
            octets = octets[: self.coverage.octets(header, header_len, len(octets))]
        first, after = self.skips
        return octets[:first] + octets[after:] if after else octets


@dataclass(frozen=True)
class CRC32cRule:
    """CRC32c over the header and what follows, least significant octet first (RFC 9260 appendix A).

    The field is read like any other, most significant octet first.
    """

    payload: bool = True

    @staticmethod
    def compute(octets: bytes) -> int:
        """The field's value; `octets` has 0 in its place."""
        return int.from_bytes(_checksum.crc32c(0, octets).to_bytes(4, "little"), "big")


inet_checksum = ChecksumRule
"""As `auto(inet_checksum, pseudo_header=True)`."""

crc32c = CRC32cRule()
"""As `auto(crc32c)`."""


def present(*names: str) -> Rule:
    """The rule for a flag that says that fields with `when=` are there: 1 when one of them has a value."""
    return Rule(f"int({' or '.join(f't_{name} is not None' for name in names)})")


def size_of(name: str, unit: int = 1, bias: int = 0) -> Rule:
    """The rule for a field that counts what a field with `size=` holds; the reverse of `Size`."""
    return Rule(f"(len(t_{name}) + {unit - 1}) // {unit} - {bias}")


@dataclass(frozen=True)
class Size:
    """A field of (value + bias) * unit octets, where the value is that of the earlier field `field`."""

    field: str
    unit: int = 1
    bias: int = 0


Computed = Rule | ChecksumRule | CRC32cRule | Callable[..., int]


@dataclass(frozen=True)
class Spec:
    """What `field()` and `auto()` leave in the class body."""

    default: Any
    names: Mapping[int, str]
    bits: tuple[str, ...]
    rule: Computed | None
    when: tuple[str, int | None] | None = None
    """The field that says whether this one is there, and the value at which it is (None: any but 0)."""
    size: Size | None = None
    role: Role | None = None

    @property
    def moves(self) -> bool:
        """Whether the places of the fields that follow depend on this one."""
        return self.when is not None or self.size is not None


def field(
    default: Any = ...,
    *,
    names: Mapping[int, str] | None = None,
    bits: str | Sequence[str] = (),
    when: str | tuple[str, int] | None = None,
    size: Size | None = None,
    role: Role | None = None,
) -> Any:
    """A field with a default (`...`: required), names for its values, or one name per bit, lowest first.

    `bits="FIN SYN"` also makes the class constants FIN = 1 and SYN = 2, and lets the field be set from
    letters: `flags="FS"` where the first letters differ, else `flags="FIN SYN"`.

    With `when`, the field is there when an earlier one is not 0 (or has a certain value), else it reads None,
    which is its default. It goes out too when it is given in spite of that. With `size`, an earlier field
    tells how long this one is; without it octets and lists fill the header to its end. `role` says what the
    field means to a transport protocol (`rawkit.wire.role`).
    """
    bits = tuple(bits.split() if isinstance(bits, str) else bits)
    default = None if when and default is ... else default
    return Spec(default, names or {}, bits, None, _condition(when), size, role)


def _condition(when: str | tuple[str, int] | None) -> tuple[str, int | None] | None:
    return (when, None) if isinstance(when, str) else when


def auto(
    rule: Computed | type[ChecksumRule],
    *,
    names: Mapping[int, str] | None = None,
    when: str | tuple[str, int] | None = None,
    default: Any = AUTO,
    role: Role | None = None,
    **options: Any,
) -> Any:
    """A field that is computed when the packet is built, unless it is given a value.

    `rule` is one of the rules of this module (`options` are those of a checksum), or a function
    `(header, payload: bytes) -> int`. `when` is as in `field()`: the field is computed where it is there; a
    checksum with `default=None` is there when it is asked for with AUTO.
    """
    rule = rule(**options) if isinstance(rule, type) else rule
    return Spec(default, names or {}, (), rule, _condition(when), role=role)


# ---- kinds ---------------------------------------------------------------------------------------


class Kind:
    """How a field's octets become a value and back.

    `width` is in bits, 0 for one that fills the rest of the header; `code` is its letter in a `struct`
    format, "" for an integer that shares octets with its neighbours.
    """

    width: int
    code: str = ""

    slot_serves = False
    """Whether the slot holds the field's value as it is read and set, so that no property is needed."""

    def convert(self, value: Any, name: str) -> Any:
        """The slot's content for a value the user gave (never `AUTO`); raises `FieldError`."""
        raise NotImplementedError

    def read(self, content: Any) -> Any:
        """The field's value for the slot's content (never `AUTO`)."""
        return content


class UInt(Kind):
    """An unsigned integer of `width` bits."""

    slot_serves = True

    def __init__(self, width: int) -> None:
        self.width = width
        self.code = {8: "B", 16: "H", 32: "I", 64: "Q"}.get(width, "")

    def convert(self, value: Any, name: str) -> Any:
        if value is AUTO:
            raise FieldError(f"{name}: needs a value, nothing computes it")
        if not hasattr(value, "__index__"):
            raise FieldError(f"{name}: need an integer of {self.width} bits, got {value!r}")
        number: int = value.__index__()
        if number >> self.width:
            raise FieldError(f"{name}: {number} does not fit {self.width} bits (0..{(1 << self.width) - 1})")
        return number


class FlagBits(UInt):
    """An unsigned integer whose bits have names; set from an integer or from letters."""

    slot_serves = False

    def __init__(self, width: int, names: tuple[str, ...] = ()) -> None:
        super().__init__(width)
        self.names = names
        self._by_name = {name.upper(): 1 << i for i, name in enumerate(names)}
        self._by_letter: dict[str, int] = {}
        for name, bit in self._by_name.items():
            self._by_letter.setdefault(name[0], bit)
        if "ACK" in self._by_name:
            self._by_letter["."] = self._by_name["ACK"]  # as tcpdump writes it
        self.from_text = lru_cache(maxsize=256)(self._from_text)
        self.texts: dict[str, int] = {}  # the compiled module's, which does the same without a call

    def convert(self, value: Any, name: str) -> Any:
        if value.__class__ is int and not value >> self.width:
            return value
        return self._from_text(value, name) if isinstance(value, str) else super().convert(value, name)

    def _from_text(self, text: str, name: str = "") -> int:
        number = 0
        for word in text.upper().replace("|", " ").replace(",", " ").split():
            if word in self._by_name:
                number |= self._by_name[word]
                continue
            for letter in word:
                if letter not in self._by_letter:
                    known = " ".join(self.names)
                    raise FieldError(f"{name}: no flag {letter!r} in {text!r}; there are {known}")
                number |= self._by_letter[letter]
        return number

    def letters(self) -> dict[str, int]:
        """One letter per flag: its first, where no lower flag has taken it."""
        return {letter: bit for letter, bit in self._by_letter.items() if letter != "."}

    def text(self, value: int) -> str:
        """The names of the set bits, those without a name as a number: "SYN|ACK"."""
        known = [flag for i, flag in enumerate(self.names) if value >> i & 1]
        rest = value >> len(self.names) << len(self.names)
        return "|".join(known + ([hex(rest)] if rest else [])) or "0"


class Address(Kind):
    """Wire octets in the slot; an address object when read, through a bounded cache."""

    def __init__(self, size: int, make: Callable[[Any], Any], text: str) -> None:
        self.width = size * 8
        self.size = size
        self.code = f"{size}s"
        self._make = make
        self._text = text
        # Both ways the same few addresses come again and again.
        self.read = lru_cache(maxsize=4096)(make)  # type: ignore[method-assign]
        self.from_text = lru_cache(maxsize=4096)(self._from_text)
        # The compiled module's, which do the same without a call.
        self.texts: dict[str, bytes] = {}
        self.cache: Any = None

    def _from_text(self, text: str, name: str = "") -> bytes:
        try:
            address = self._make(text)
        except (AddressValueError, TargetError, TypeError, ValueError):
            raise FieldError(f"{name}: need {self._text}, got {text!r}") from None
        return bytes(address) if self.size == 6 else bytes(address.packed)

    def convert(self, value: Any, name: str) -> Any:
        packed = value if value.__class__ is bytes else getattr(value, "packed", None)
        if packed.__class__ is not bytes:
            return self._from_text(value, name)
        if len(packed) != self.size:
            raise FieldError(f"{name}: need {self._text}, got {value!r}")
        return packed


class Octets(Kind):
    """Octets as they are: `size` of them, or (0) all up to the end of the header."""

    slot_serves = True

    def __init__(self, size: int = 0) -> None:
        self.width = size * 8
        self.code = f"{size}s" if size else ""

    def convert(self, value: Any, name: str) -> Any:
        try:
            octets = bytes(memoryview(value))
        except TypeError:
            raise FieldError(f"{name}: need octets, got {value!r}") from None
        if self.width and len(octets) * 8 != self.width:
            raise FieldError(f"{name}: need {self.width // 8} octets, got {len(octets)}")
        return octets


class Variable(Kind):
    """A last field of any length: octets in the slot, decoded when it is read.

    What is read is a new tuple each time; a change is made by setting the field. Octets may be given too, and
    go out unchanged.
    """

    width = 0

    def decode(self, octets: bytes) -> Any:
        raise NotImplementedError

    def encode(self, value: Any, name: str) -> bytes:
        raise NotImplementedError

    def convert(self, value: Any, name: str) -> Any:
        if isinstance(value, (bytes, bytearray, memoryview)):
            return bytes(value)
        try:
            items = tuple(value)
        except TypeError:
            raise FieldError(f"{name}: need a sequence, got {value!r}") from None
        return self.encode(items, name)

    def read(self, content: Any) -> Any:
        return self.decode(content)


class Pairs(Variable):
    """Pairs of unsigned 32-bit integers up to the end."""

    _pair = struct.Struct(">II")

    def decode(self, octets: bytes) -> tuple[tuple[int, int], ...]:
        whole = len(octets) // 8 * 8
        return tuple(self._pair.iter_unpack(octets[:whole]))

    def encode(self, value: Any, name: str) -> bytes:
        try:
            return b"".join(self._pair.pack(*pair) for pair in value)
        except (struct.error, TypeError):
            raise FieldError(f"{name}: need pairs of 32-bit integers, got {value!r}") from None


MAC_KIND = Address(6, MAC, "a MAC address")
IPV4_KIND = Address(4, IPv4Address, "an IPv4 address")
IPV6_KIND = Address(16, IPv6Address, "an IPv6 address")


# ---- what annotations are written with -------------------------------------------------------------
# The first argument of Annotated is what a type checker sees, the second is what builds the layout.

u1 = Annotated[int, UInt(1)]
u2 = Annotated[int, UInt(2)]
u3 = Annotated[int, UInt(3)]
u4 = Annotated[int, UInt(4)]
u5 = Annotated[int, UInt(5)]
u6 = Annotated[int, UInt(6)]
u7 = Annotated[int, UInt(7)]
u8 = Annotated[int, UInt(8)]
u9 = Annotated[int, UInt(9)]
u12 = Annotated[int, UInt(12)]
u13 = Annotated[int, UInt(13)]
u16 = Annotated[int, UInt(16)]
u20 = Annotated[int, UInt(20)]
u24 = Annotated[int, UInt(24)]
u29 = Annotated[int, UInt(29)]
u31 = Annotated[int, UInt(31)]
u32 = Annotated[int, UInt(32)]
u48 = Annotated[int, UInt(48)]
u64 = Annotated[int, UInt(64)]
octets = Annotated[bytes, Octets()]
octets8 = Annotated[bytes, Octets(8)]


if TYPE_CHECKING:
    Options = Sequence
else:

    class Options(Generic[T]):
        """Options of the family T, filling the header up to its length field; read as a tuple."""


class _FlagsField:
    if TYPE_CHECKING:

        def __get__(self, header: Any, owner: Any = None) -> int: ...
        def __set__(self, header: Any, value: int | str) -> None: ...


class _MACField:
    if TYPE_CHECKING:

        def __get__(self, header: Any, owner: Any = None) -> MAC: ...
        def __set__(self, header: Any, value: MAC | str | int | bytes) -> None: ...


class _IPv4Field:
    if TYPE_CHECKING:

        def __get__(self, header: Any, owner: Any = None) -> IPv4Address: ...
        def __set__(self, header: Any, value: IPv4Address | str | int | bytes) -> None: ...


class _IPv6Field:
    if TYPE_CHECKING:

        def __get__(self, header: Any, owner: Any = None) -> IPv6Address: ...
        def __set__(self, header: Any, value: IPv6Address | str | int | bytes) -> None: ...


flags3 = Annotated[_FlagsField, FlagBits(3)]
flags4 = Annotated[_FlagsField, FlagBits(4)]
flags8 = Annotated[_FlagsField, FlagBits(8)]
flags9 = Annotated[_FlagsField, FlagBits(9)]
flags32 = Annotated[_FlagsField, FlagBits(32)]
mac = Annotated[_MACField, MAC_KIND]
ip4 = Annotated[_IPv4Field, IPV4_KIND]
ip6 = Annotated[_IPv6Field, IPV6_KIND]
pairs32 = Annotated[Sequence[tuple[int, int]], Pairs()]
