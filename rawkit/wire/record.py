"""Records: lists of addresses, numbers or small layouts that fill the end of a header or an option."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv4Address
from typing import Annotated, Any, dataclass_transform

from rawkit.errors import FieldError, HeaderError
from rawkit.wire.field import IPV4_KIND, Address, Variable
from rawkit.wire.layout import Layout
from rawkit.wire.option import UnparsedOptions


@dataclass_transform()
class Record(Layout):
    """A row of a list: fields in wire order, and nothing that announces it.

    Fields may be given by position. A field computed by `header_length` says how long the record is; without
    one, a record whose last field has no width of its own fills the list to its end.
    """

    _positional = True

    def __bytes__(self) -> bytes:
        return self._pack(b"", None, None)


class Records(Variable):
    """A list of records of one class, up to the end of the header.

    With `variants`, the octet at `variant_at` of each record says of which class it is. Octets that make no
    record end the list as `UnparsedOptions`.
    """

    def __init__(
        self, cls: type[Record], variant_at: int = 0, variants: Mapping[int, type[Record]] | None = None
    ) -> None:
        self.cls = cls
        self.variant_at = variant_at
        self.variants = variants or {}

    def decode(self, octets: bytes) -> tuple[Layout, ...]:
        found: list[Layout] = []
        at = 0
        while at < len(octets):
            place = at + self.variant_at
            cls = self.variants.get(octets[place], self.cls) if place < len(octets) else self.cls
            try:
                record, end, _ = cls._parse(octets, at, len(octets))
            except HeaderError:
                found.append(UnparsedOptions(octets[at:]))
                break
            found.append(record)
            at = end
        return tuple(found)

    def encode(self, value: Any, name: str) -> bytes:
        known = (self.cls, *self.variants.values())
        for item in value:
            if not isinstance(item, (*known, UnparsedOptions)):
                raise FieldError(f"{name}: {item!r} is no {self.cls.__name__}")
        return b"".join(item.data if isinstance(item, UnparsedOptions) else bytes(item) for item in value)


class Numbers(Variable):
    """Unsigned integers, or tuples of them, by the letters of a `struct` format.

    Octets after the last whole row are kept, and not shown.
    """

    def __init__(self, letters: str) -> None:
        self.row = struct.Struct(">" + letters)
        self.single = len(letters) == 1

    def decode(self, octets: bytes) -> tuple[Any, ...]:
        whole = len(octets) // self.row.size * self.row.size
        rows = tuple(self.row.iter_unpack(octets[:whole]))
        return tuple(number for (number,) in rows) if self.single else rows

    def encode(self, value: Any, name: str) -> bytes:
        try:
            return b"".join(self.row.pack(*((row,) if self.single else row)) for row in value)
        except (struct.error, TypeError):
            raise FieldError(f"{name}: need numbers as {self.row.format}, got {value!r}") from None


class Triples(Variable):
    """Unsigned integers of 24 bits; octets after the last whole one are kept, and not shown."""

    def decode(self, octets: bytes) -> tuple[int, ...]:
        return tuple(int.from_bytes(octets[at : at + 3], "big") for at in range(0, len(octets) - 2, 3))

    def encode(self, value: Any, name: str) -> bytes:
        try:
            return b"".join(number.to_bytes(3, "big") for number in value)
        except (AttributeError, OverflowError):
            raise FieldError(f"{name}: need numbers of 24 bits, got {value!r}") from None


class Addresses(Variable):
    """Addresses of one kind; octets after the last whole one are kept, and not shown."""

    def __init__(self, kind: Address) -> None:
        self.kind = kind

    def decode(self, octets: bytes) -> tuple[Any, ...]:
        size = self.kind.size
        return tuple(self.kind.read(octets[at : at + size]) for at in range(0, len(octets) - size + 1, size))

    def encode(self, value: Any, name: str) -> bytes:
        return b"".join(self.kind.convert(item, name) for item in value)


def count(field: str) -> Callable[[Layout, bytes], int]:
    """The rule for the number of rows in the list `field`."""

    def rows_n(header: Layout, payload: bytes) -> int:
        return len(getattr(header, field))

    return rows_n


ip4s = Annotated[Sequence[IPv4Address | str], Addresses(IPV4_KIND)]
u16s = Annotated[Sequence[int], Numbers("H")]
u24s = Annotated[Sequence[int], Triples()]
u32s = Annotated[Sequence[int], Numbers("I")]
pairs16 = Annotated[Sequence[tuple[int, int]], Numbers("HH")]
