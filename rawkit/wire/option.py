"""Options: small typed values in a kind-length-value list at the end of a header (TCP, IPv4, ND)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, dataclass_transform

from rawkit.errors import FieldError, HeaderError
from rawkit.wire import storage
from rawkit.wire.field import Variable, octets
from rawkit.wire.layout import Layout
from rawkit.wire.registry import Registry


@dataclass_transform()
class Option(Layout):
    """Base of option classes.

    A *family* (`class TCPOption(Option, family=True)`) fixes the form: first the kind, then, `length_at`
    octets from the start, the length in units of `length_unit` octets that counts all of the option, and the
    kinds that stand alone (`singles`). A member (`class MSS(TCPOption, kind=2)`) declares what stands between
    kind and length, and after the length.
    """

    _positional = True
    kind: ClassVar[int] = -1
    kind_len: ClassVar[int] = 1
    length_at: ClassVar[int] = 1
    length_len: ClassVar[int] = 1
    align: ClassVar[int] = 1
    """Options start at multiples of this many octets; the zeros between them are not in their lengths."""
    length_unit: ClassVar[int] = 1
    uncounted: ClassVar[int] = 0
    """Octets at an option's start that its length leaves out."""
    singles: ClassVar[frozenset[int]] = frozenset()
    end: ClassVar[int] = -1
    """The kind that ends the list early, -1 for none."""
    pad_to: ClassVar[int] = 1
    """The list, with the `pad_after` octets before it, is padded to a multiple of this many octets."""
    pad_after: ClassVar[int] = 0
    members: ClassVar[Registry]
    unknown: ClassVar[type[Option]]
    _head: ClassVar[bytes] = b""
    """Kind and length, of a class whose options are all of one length and start with these two."""

    @classmethod
    def __init_layout__(cls, kind: int | None = None, family: bool = False) -> None:
        if family:
            cls.members = Registry(cls.__name__ if cls.__module__.startswith("rawkit.wire.") else "")
            zeros = cls.fill(1) == b"\0"
            if cls.pad_to > cls.align and cls.end != 0 and zeros and 0 not in cls.singles:
                raise TypeError(f"{cls.__name__}: lists are padded with zeros, so kind 0 must be their end")
        elif kind is not None:
            cls.kind = kind
            cls.members.add(kind, cls, "option kind")
            cls._head = cls._fixed_head()

    @classmethod
    def _fixed_head(cls) -> bytes:
        size = cls.kind_len + cls.length_len + cls.min_len
        varies = any(row.width == 0 or row.spec.moves for row in cls.fields)
        if varies or cls.length_at != cls.kind_len or size % cls.length_unit:
            return b""
        if cls.kind in cls.singles and not cls.min_len:
            return bytes([cls.kind])
        length = (size - cls.uncounted) // cls.length_unit
        return cls.kind.to_bytes(cls.kind_len, "big") + length.to_bytes(cls.length_len, "big")

    @classmethod
    def kind_of_list(cls) -> OptionList:
        return OptionList(cls)

    @classmethod
    def decode(cls, data: bytes) -> tuple[Option, ...]:
        """The options in `data`. Of what is damaged the octets come as the family's unknown option.

        Padding after the end of the list is not shown; it is kept in the header's octets all the same.
        """
        found: list[Option] = []
        at, head_len = 0, cls.length_at + cls.length_len
        while at < len(data):
            kind = int.from_bytes(data[at : at + cls.kind_len], "big")
            if kind == cls.end:
                break
            if kind in cls.singles:
                single = cls.members[kind]
                found.append(single() if single is not None else cls.unknown.of_octets(kind, b""))
                at += 1
                continue
            length = int.from_bytes(data[at + cls.length_at : at + head_len], "big") * cls.length_unit
            length += cls.uncounted
            if length < head_len or at + length > len(data):
                found.append(UnparsedOptions(data[at:]))
                break
            member = cls.members[kind]
            body = data[at + cls.kind_len : at + cls.length_at] + data[at + head_len : at + length]
            option: Option | None = None
            if member is not None:
                member = member.of_body(body)
                try:
                    option, used, _ = member._parse(body, 0, len(body))
                    if used != len(body):
                        option = None
                except HeaderError:
                    option = None
            found.append(option if option is not None else cls.unknown.of_octets(kind, body))
            at += length + -length % cls.align
        return tuple(found)

    @classmethod
    def encode(cls, items: Iterable[Option], name: str) -> bytes:
        items = tuple(items)
        joined = storage.join(items, cls) if storage.join is not None and cls.align == 1 else None
        data = cls._joined(items, name) if joined is None else joined
        missing = -(len(data) + cls.pad_after) % cls.pad_to
        return data + cls.fill(missing) if missing else data

    @classmethod
    def _joined(cls, items: tuple[Option, ...], name: str) -> bytes:
        parts: list[bytes] = []
        for item in items:
            if isinstance(item, cls):
                parts.append(item.__bytes__())
            elif isinstance(item, UnparsedOptions):
                parts.append(item.data)
            else:
                raise FieldError(f"{name}: {item!r} is no {cls.__name__}")
        if cls.align > 1:
            # What fills up the last one is the list's padding, not between options.
            parts[:-1] = [part + b"\0" * (-len(part) % cls.align) for part in parts[:-1]]
        return b"".join(parts)

    @classmethod
    def fill(cls, size: int) -> bytes:
        """What fills a list up by so many octets."""
        return b"\0" * size

    def summary(self) -> str:
        """The option in the one-line form of a packet."""
        return repr(self)

    @classmethod
    def of_body(cls, body: bytes) -> type[Option]:
        """The class to parse a body of this kind with: for kinds that come in several shapes."""
        return cls

    @classmethod
    def of_octets(cls, kind: int, body: bytes) -> Option:
        """An option of an unknown kind."""
        return cls(kind, body)  # type: ignore[call-arg]

    def _kind_and_body(self) -> tuple[int, bytes]:
        return self.kind, self._pack(b"", None, None)

    def __bytes__(self) -> bytes:
        if self._head:
            return self._head + self._pack(b"", None, None)
        kind, body = self._kind_and_body()
        if kind in self.singles and not body:
            return bytes([kind])
        head_len = self.kind_len + self.length_len
        body += b"\0" * (-(len(body) + head_len) % self.length_unit)
        length = (len(body) + head_len - self.uncounted) // self.length_unit
        if length >> 8 * self.length_len:
            raise FieldError(f"{type(self).__name__}: {len(body)} octets are too long for an option")
        between = self.length_at - self.kind_len
        head = kind.to_bytes(self.kind_len, "big") + body[:between]
        return head + length.to_bytes(self.length_len, "big") + body[between:]


class UnparsedOptions(Option):
    """What is left of an option list from the first option whose length does not fit."""

    data: octets = b""


class OptionList(Variable):
    """The field kind of `Options[Family]`."""

    def __init__(self, family: type[Option]) -> None:
        self.family = family

    def convert(self, value: Any, name: str) -> Any:
        if value.__class__ is list or value.__class__ is tuple:
            return self.family.encode(value, name)
        return super().convert(value, name)

    def decode(self, octets: bytes) -> tuple[Option, ...]:
        return self.family.decode(octets)

    def encode(self, value: Any, name: str) -> bytes:
        return self.family.encode(value, name)
