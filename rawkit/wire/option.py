"""Options: small typed values in a kind-length-value list at the end of a header (TCP, IPv4, ND)."""

from __future__ import annotations

from typing import Any, ClassVar, dataclass_transform

from rawkit.errors import FieldError, HeaderError
from rawkit.wire.field import Variable, octets
from rawkit.wire.layout import Layout
from rawkit.wire.registry import Registry


@dataclass_transform()
class Option(Layout):
    """Base of option classes.

    A *family* (`class TCPOption(Option, family=True)`) fixes the form: one octet of kind, one of length in
    units of `length_unit` octets that counts all of the option, and the kinds that stand alone (`singles`).
    A member (`class MSS(TCPOption, kind=2)`) declares what follows the length.
    """

    _positional = True
    kind: ClassVar[int] = -1
    length_unit: ClassVar[int] = 1
    singles: ClassVar[frozenset[int]] = frozenset()
    end: ClassVar[int] = -1
    """The kind that ends the list early, -1 for none."""
    pad_to: ClassVar[int] = 1
    """The list is padded with zeros to a multiple of this many octets."""
    members: ClassVar[Registry]
    unknown: ClassVar[type[Option]]

    @classmethod
    def __init_layout__(cls, kind: int | None = None, family: bool = False) -> None:
        if family:
            cls.members = Registry(cls.__name__ if cls.__module__.startswith("rawkit.wire.") else "")
            if cls.pad_to > 1 and cls.end != 0:
                raise TypeError(f"{cls.__name__}: lists are padded with zeros, so kind 0 must be their end")
        elif kind is not None:
            cls.kind = kind
            cls.members.add(kind, cls, "option kind")

    @classmethod
    def kind_of_list(cls) -> OptionList:
        return OptionList(cls)

    @classmethod
    def decode(cls, data: bytes) -> tuple[Option, ...]:
        """The options in `data`. Of what is damaged the octets come as the family's unknown option.

        Padding after the end of the list is not shown; it is kept in the header's octets all the same.
        """
        found: list[Option] = []
        at = 0
        while at < len(data):
            kind = data[at]
            if kind == cls.end:
                break
            if kind in cls.singles:
                found.append(cls.members[kind]())
                at += 1
                continue
            length = data[at + 1] * cls.length_unit if at + 1 < len(data) else 0
            if length < 2 or at + length > len(data):
                found.append(UnparsedOptions(data[at:]))
                break
            member = cls.members[kind]
            body = data[at + 2 : at + length]
            option: Option | None = None
            if member is not None:
                try:
                    option, used, _ = member._parse(body, 0, len(body))
                    if used != len(body):
                        option = None
                except HeaderError:
                    option = None
            found.append(option if option is not None else cls.unknown(kind, body))  # type: ignore[call-arg]
            at += length
        return tuple(found)

    @classmethod
    def encode(cls, items: tuple[Option, ...], name: str) -> bytes:
        parts = []
        for item in items:
            if isinstance(item, UnparsedOptions):
                parts.append(item.data)
            elif isinstance(item, cls):
                parts.append(bytes(item))
            else:
                raise FieldError(f"{name}: {item!r} is no {cls.__name__}")
        data = b"".join(parts)
        return data + b"\0" * (-len(data) % cls.pad_to)

    def summary(self) -> str:
        """The option in the one-line form of a packet."""
        return repr(self)

    def _kind_and_body(self) -> tuple[int, bytes]:
        return self.kind, self._pack(b"", None, None)

    def __bytes__(self) -> bytes:
        kind, body = self._kind_and_body()
        if kind in self.singles and not body:
            return bytes([kind])
        body += b"\0" * (-(len(body) + 2) % self.length_unit)
        length = (len(body) + 2) // self.length_unit
        if length > 255:
            raise FieldError(f"{type(self).__name__}: {len(body)} octets are too long for an option")
        return bytes([kind, length]) + body


class UnparsedOptions(Option):
    """What is left of an option list from the first option whose length does not fit."""

    data: octets = b""


class OptionList(Variable):
    """The field kind of `Options[Family]`."""

    def __init__(self, family: type[Option]) -> None:
        self.family = family

    def decode(self, octets: bytes) -> tuple[Option, ...]:
        return self.family.decode(octets)

    def encode(self, value: Any, name: str) -> bytes:
        return self.family.encode(value, name)
