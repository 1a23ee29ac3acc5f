"""Packets as people type them: `ip(dst=192.0.2.1,ttl=3)/tcp(dport=80,flags=SA,options=[mss(1460)])/"data"`.

    packet  = part { "/" part }
    part    = header | octets | "trailer" "(" octets ")"
    header  = name [ "!" ] [ "(" [ field "=" value { "," field "=" value } ] ")" ]
    value   = word | octets | "[" [ item { "," item } ] "]"
    item    = option [ "(" [ value { "," value } ] ")" ] | "[" number "," number "]"
    octets  = ( string | 0xHEX | hex "(" string ")" ) [ "*" number ]

Names of headers and options do not care for case: the names of all declared classes (a protocol of one's
own is known as soon as its module is imported), and those of `ALIASES`. A *word* is anything without white
space and without , ( ) [ ] / = * or quotes: numbers (80, 0x50, 0b1010), addresses, flags (SA, SYN|ACK), the
names of values with dashes for spaces (`type=echo-request`), and `auto` for "compute this". The name of a
header that has variants stands for the variant its value asks for, as when octets are parsed: `icmp()` is an
echo request, `icmp(type=time-exceeded)` an error; with "!" it is the plain header. Strings know the escapes
\\n \\r \\t \\0 \\\\ \\" \\' \\xHH and are UTF-8.

Nothing is evaluated: what is not in this grammar is an `ExpressionError` that points at the place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rawkit.errors import ExpressionError, RawkitError
from rawkit.wire.field import AUTO, Address, FlagBits, Octets, Pairs, UInt, Variable
from rawkit.wire.header import Header
from rawkit.wire.layout import FieldInfo, Layout
from rawkit.wire.option import Option, OptionList, UnparsedOptions
from rawkit.wire.packet import MAX_LAYERS, Packet, _rebuild
from rawkit.wire.registry import load_all

MAX_OCTETS = 0x40000
"""Payload of one expression at most: four times what an IP packet can carry."""

ALIASES = {"eth": "ether", "vlan": "dot1q", "ip": "ipv4", "ip4": "ipv4", "ip6": "ipv6", "icmp6": "icmpv6"}
"""Short names of headers."""

OPTION_ALIASES = {
    "nop": ("nooperation", "ipnooperation"),
    "sackok": ("sackpermitted",),
    "wscale": ("windowscale",),
}
"""Short names of options, and the classes they may stand for: the one that belongs to the header is meant."""

_SPACE = re.compile(r"\s*")
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_WORD = re.compile(r"[^\s,()\[\]/=*\"']+")
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]+|0[bB][01]+|[0-9]+")
_ESCAPES = {"n": 10, "r": 13, "t": 9, "0": 0, "\\": 92, '"': 34, "'": 39}


def parse_expression(text: str) -> Packet:
    """The packet that an expression describes; fields it does not name have their defaults.

    Raises: `ExpressionError`, for anything that is not right.
    """
    return _Parser(text).packet()


def header_classes() -> dict[str, type[Header]]:
    """All header classes there are so far by lower-case name. Of two with one name the later one counts."""
    return {cls.__name__.lower(): cls for cls in _subclasses(Header)}


def _subclasses(base: type[Any]) -> Iterator[type[Any]]:
    for cls in base.__subclasses__():
        yield cls
        yield from _subclasses(cls)


def _option_classes(family: type[Option]) -> dict[str, type[Option]]:
    classes = {cls.__name__.lower(): cls for cls in _subclasses(family)}
    classes["unparsedoptions"] = UnparsedOptions
    for alias, names in OPTION_ALIASES.items():
        for name in names:
            if name in classes:
                classes[alias] = classes[name]
    return classes


def _variant(cls: type[Header], value: Any) -> type[Header]:
    """The class that `cls` stands for when its discriminating field holds `value` (None: its default)."""
    name = vars(cls).get("discriminator")
    if not name:
        return cls
    if value is None:
        value = next(row.spec.default for row in cls.fields if row.name == name)
    return (cls.variants[value] or cls) if isinstance(value, int) else cls


def _normal(name: str) -> str:
    return re.sub(r"[\s_-]+", "-", name.strip()).lower()


# ---- parsing -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Value:
    """What stands behind a field's "=": where it is, and what.

    `content` is a str (a word), bytes (a string or hexadecimal octets), or a list of `_Value` or `_Call`.
    """

    column: int
    content: str | bytes | list[Any]
    word: str = ""
    """As it was typed, where it may be a number as well as octets."""


@dataclass(frozen=True)
class _Call:
    """A name with values in parentheses, inside a list: an option. Names are "" for values by position."""

    column: int
    name: str
    arguments: list[tuple[int, str, _Value]]


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    # ---- the text

    def fault(self, reason: str, column: int | None = None) -> ExpressionError:
        return ExpressionError(reason, self.text, self.at if column is None else column)

    def space(self) -> int:
        """Skip white space; where the next character is."""
        found = _SPACE.match(self.text, self.at)
        assert found is not None
        self.at = found.end()
        return self.at

    def peek(self) -> str:
        """The next character that is no white space, "" at the end."""
        self.space()
        return self.text[self.at : self.at + 1]

    def take(self, character: str) -> bool:
        if self.peek() != character:
            return False
        self.at += 1
        return True

    def expect(self, character: str, where: str) -> None:
        if not self.take(character):
            found = repr(self.peek()) if self.peek() else "the end"
            raise self.fault(f"expected {character!r} {where}, found {found}")

    def match(self, pattern: re.Pattern[str]) -> str:
        """What the pattern matches here, "" when it does not."""
        self.space()
        found = pattern.match(self.text, self.at)
        if found is None:
            return ""
        self.at = found.end()
        return found[0]

    # ---- the grammar

    def packet(self) -> Packet:
        headers: list[Header] = []
        payload, trailer = b"", b""
        has_payload = has_trailer = False
        while True:
            start = self.space()
            if not self.peek():
                raise self.fault("expected a header or a payload, found the end")
            if has_trailer:
                raise self.fault("nothing can follow the trailer")
            octets = self.octets()
            if octets is not None:
                payload += octets
                has_payload = True
                if len(payload) > MAX_OCTETS:
                    raise self.fault(f"a payload of more than {MAX_OCTETS} octets", start)
            else:
                name = self.match(_NAME)
                if not name:
                    raise self.fault(f"expected a header or a payload, found {self.peek()!r}")
                if name.lower() == "trailer" and self.peek() == "(":
                    trailer = self.in_parentheses("trailer")
                    has_trailer = True
                elif has_payload:
                    raise self.fault("a header cannot follow a payload", start)
                elif len(headers) == MAX_LAYERS:
                    raise self.fault(f"more than {MAX_LAYERS} headers", start)
                else:
                    headers.append(self.header(start, name))
            if not self.peek():
                return _rebuild(headers, payload, trailer)
            self.expect("/", "between headers")

    def header(self, start: int, name: str) -> Header:
        classes = header_classes()
        key = name.lower()
        cls = classes.get(ALIASES.get(key, key))
        if cls is None:
            load_all()
            classes = header_classes()
            cls = classes.get(ALIASES.get(key, key))
        if cls is None:
            known = sorted({*classes, *ALIASES})
            raise self.fault(f"no header {name!r}{_suggest(key, known, 'there are ')}", start)
        plain = self.take("!")
        given: list[tuple[int, str, _Value]] = []
        if self.take("("):
            given = self.arguments(f"in {cls.__name__}")
        if any(not field for _, field, _ in given):
            column = next(column for column, field, _ in given if not field)
            raise self.fault(
                f"the fields of {cls.__name__} are named: {key}({cls.fields[0].name}=...)", column
            )
        if not plain:
            selector = next((v for _, field, v in given if field == vars(cls).get("discriminator")), None)
            row = next((r for r in cls.fields if r.name == vars(cls).get("discriminator")), None)
            chosen = self.convert(row, cls, selector) if row is not None and selector is not None else None
            cls = _variant(cls, chosen)
        header = self.construct(cls, given, start)
        assert isinstance(header, Header)
        return header

    def arguments(self, where: str) -> list[tuple[int, str, _Value]]:
        """The values up to the closing parenthesis, each with its column and its field name or ""."""
        found: list[tuple[int, str, _Value]] = []
        while not self.take(")"):
            column = self.space()
            name = self.match(_NAME)
            if name and self.take("="):
                found.append((column, name, self.value()))
            else:
                self.at = column
                found.append((column, "", self.value()))
            if self.peek() != ")":
                self.expect(",", f"or ')' {where}")
        return found

    def value(self, depth: int = 0) -> _Value:
        column = self.space()
        if self.take("["):
            if depth > 1:
                raise self.fault("lists are nested too deep", column)
            items: list[Any] = []
            while not self.take("]"):
                items.append(self.item(depth + 1))
                if self.peek() != "]":
                    self.expect(",", "or ']' in the list")
            return _Value(column, items)
        octets = self.octets()
        if octets is not None:
            return _Value(column, octets, self.text[column : self.at].rstrip())
        word = self.match(_WORD)
        if not word:
            raise self.fault(
                f"expected a value, found {self.peek()!r}" if self.peek() else "expected a value"
            )
        return _Value(column, word)

    def item(self, depth: int) -> _Value | _Call:
        column = self.space()
        if self.peek() in "[\"'":
            return self.value(depth)
        octets = self.octets()
        if octets is not None:
            return _Value(column, octets, self.text[column : self.at].rstrip())
        name = self.match(_NAME)
        if not name:
            return self.value(depth)
        return _Call(column, name, self.arguments(f"in {name}") if self.take("(") else [])

    def octets(self) -> bytes | None:
        """Octets if there are any here: a string, hexadecimal digits, hex("..."); repeated with "*"."""
        start = self.space()
        if self.peek() and self.peek() in "\"'":
            octets = self.string()
        elif (word := self.match(_WORD))[:2].lower() == "0x":
            digits = word[2:]
            if len(digits) % 2 or not re.fullmatch(r"[0-9a-fA-F]*", digits, re.ASCII):
                # May still be a number; where octets are wanted, the field or the payload says so.
                if self.peek() in ("", "/", "*"):
                    raise self.fault(f"{word[:20]!r} is no even number of hexadecimal digits", start)
                self.at = start
                return None
            octets = bytes.fromhex(digits)
        elif word.lower() == "hex" and self.peek() == "(":
            octets = self.in_parentheses("hex", hexadecimal=True)
        else:
            self.at = start
            return None
        if self.take("*"):
            column = self.space()
            digits = self.match(_WORD)
            times = _number(digits)
            if times is None:
                raise self.fault("expected how many times after '*'", column)
            if times * len(octets) > MAX_OCTETS:
                raise self.fault(f"more than {MAX_OCTETS} octets", start)
            octets *= times
        return octets

    def in_parentheses(self, name: str, hexadecimal: bool = False) -> bytes:
        self.expect("(", f"after {name}")
        column = self.space()
        if hexadecimal:
            text = self.string().decode("latin-1") if self.peek() in ('"', "'") else self.match(_WORD)
            try:
                octets: bytes | None = bytes.fromhex(text.replace(":", " "))
            except ValueError:
                raise self.fault("expected hexadecimal digits, two for each octet", column) from None
        else:
            octets = self.octets()
            if octets is None:
                raise self.fault("expected octets: a string, 0x... or hex(...)", column)
        assert octets is not None
        self.expect(")", f"after the octets of {name}")
        return octets

    def string(self) -> bytes:
        start = self.at
        quote = self.text[start]
        self.at += 1
        parts = bytearray()
        while self.at < len(self.text):
            character = self.text[self.at]
            if character == quote:
                self.at += 1
                return bytes(parts)
            if character == "\\":
                parts.append(self.escape())
                continue
            end = self.at
            while end < len(self.text) and self.text[end] not in (quote, "\\"):
                end += 1
            try:
                # Arguments that are not UTF-8 come from the system with their octets escaped this way.
                parts += self.text[self.at : end].encode("utf-8", "surrogateescape")
            except UnicodeEncodeError as error:
                raise self.fault("a character that has no octets", self.at + error.start) from None
            self.at = end
        raise self.fault("the string does not end", start)

    def escape(self) -> int:
        letter = self.text[self.at + 1 : self.at + 2]
        if letter in _ESCAPES:
            self.at += 2
            return _ESCAPES[letter]
        digits = self.text[self.at + 2 : self.at + 4]
        if letter == "x" and re.fullmatch(r"[0-9a-fA-F]{2}", digits, re.ASCII):
            self.at += 4
            return int(digits, 16)
        raise self.fault(r"""no such escape; there are \n \r \t \0 \\ \" \' and \xHH""")

    # ---- from values to headers

    def construct(self, cls: type[Layout], given: list[tuple[int, str, _Value]], start: int) -> Layout:
        rows = {row.name: row for row in cls.fields}
        values: dict[str, Any] = {}
        for i, (column, name, value) in enumerate(given):
            if not name:
                if i >= len(cls.fields):
                    raise self.fault(f"{cls.__name__} takes {len(cls.fields)} values at most", column)
                name = cls.fields[i].name
            if name not in rows:
                raise self.fault(
                    f"no field {name!r} in {cls.__name__}{_suggest(name, list(rows), 'it has ')}", column
                )
            if name in values:
                raise self.fault(f"{cls.__name__}.{name} is given twice", column)
            values[name] = self.convert(rows[name], cls, value)
        missing = [row.name for row in cls.fields if row.spec.default is ... and row.name not in values]
        if missing:
            raise self.fault(f"{cls.__name__} needs a value for {' and '.join(missing)}", start)
        try:
            return cls(**values)
        except (RawkitError, TypeError, ValueError, OverflowError) as error:
            raise self.fault(str(error), start) from None

    def convert(self, row: FieldInfo, cls: type[Layout], value: _Value) -> Any:
        """The value in the form that the field's kind takes, checked by it."""
        name = f"{cls.__name__}.{row.name}"
        kind, content = row.kind, value.content
        if isinstance(content, str) and content.lower() == "auto":
            if row.spec.default is not AUTO:
                raise self.fault(f"{name} is not computed, so it cannot be auto", value.column)
            return AUTO
        try:
            if isinstance(content, list):
                return kind.convert(self.items(row, name, value), name)
            if isinstance(kind, (Octets, Variable)):
                if isinstance(content, str):
                    wanted = "options in [ ]" if isinstance(kind, OptionList) else "octets"
                    raise self.fault(
                        f'{name}: need {wanted}: a string, 0x... or hex("..."), got {content!r}', value.column
                    )
                return kind.convert(content, name)
            text = value.word if isinstance(content, bytes) and value.word[:1] not in "\"'h" else content
            if isinstance(text, bytes):
                text = text.decode("utf-8", "replace")
            if isinstance(kind, UInt):
                number = _number(text)
                if number is not None:
                    return kind.convert(number, name)
                if not isinstance(kind, FlagBits):
                    return self.named(row, name, text, value.column)
            return kind.convert(text, name)
        except ExpressionError:
            raise
        except (RawkitError, TypeError, ValueError, OverflowError) as error:
            raise self.fault(str(error), value.column) from None

    def named(self, row: FieldInfo, name: str, text: str, column: int) -> int:
        """The number behind a value's name."""
        names = {_normal(known): number for number, known in reversed(list(row.spec.names.items()))}
        if _normal(text) in names:
            return names[_normal(text)]
        reason = f"{name}: need an integer of {row.width} bits, got {text!r}"
        raise self.fault(
            reason + (_suggest(_normal(text), list(names), "names are ") if names else ""), column
        )

    def items(self, row: FieldInfo, name: str, value: _Value) -> list[Any]:
        """The elements of a list: options, or pairs of numbers."""
        assert isinstance(value.content, list)
        found: list[Any] = []
        for item in value.content:
            if isinstance(row.kind, OptionList):
                found.append(self.option(row.kind.family, name, item))
            elif isinstance(row.kind, Pairs):
                found.append(self.pair(name, item))
            else:
                raise self.fault(f"{name}: a list is not what this field holds", value.column)
        return found

    def option(self, family: type[Option], name: str, item: _Value | _Call) -> Layout:
        if isinstance(item, _Value):
            raise self.fault(f"{name}: expected an option such as nop() or mss(1460)", item.column)
        classes = _option_classes(family)
        cls = classes.get(item.name.lower())
        if cls is None:
            load_all()
            classes = _option_classes(family)
            cls = classes.get(item.name.lower())
        if cls is None:
            suggestion = _suggest(item.name.lower(), sorted(classes), "there are ")
            raise self.fault(f"no option {item.name!r} in {name}{suggestion}", item.column)
        return self.construct(cls, item.arguments, item.column)

    def pair(self, name: str, item: _Value | _Call) -> tuple[int, int]:
        if isinstance(item, _Value) and isinstance(item.content, list) and len(item.content) == 2:
            numbers = [
                _number(part.word or str(part.content)) if isinstance(part, _Value) else None
                for part in item.content
            ]
            if numbers[0] is not None and numbers[1] is not None:
                return numbers[0], numbers[1]
        raise self.fault(f"{name}: expected a pair of numbers such as [1,2]", item.column)


def _number(text: str) -> int | None:
    """A decimal, hexadecimal or binary number; None when it is none, or longer than any field."""
    if len(text) > 100 or not _NUMBER.fullmatch(text):
        return None
    return int(text, 0) if text[:2].lower() in ("0x", "0b") else int(text)


def _suggest(wrong: str, known: list[str], introduction: str) -> str:
    from difflib import get_close_matches

    close = get_close_matches(wrong.lower(), known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; {introduction}{', '.join(known)}"


# ---- formatting ----------------------------------------------------------------------------------


def to_expression(packet: Packet, compact: bool = False) -> str:
    """The expression that `parse_expression` makes this packet of: equal to it, and with the same octets.

    Fields with their default value are left out. A parsed packet has a value in every field; with `compact`,
    lengths, checksums and numbers that come out the same when they are computed are left out as well: the
    octets stay the same, but the packet is one in which those fields are `AUTO`.
    """
    layers = list(packet.layers)
    if compact:
        layers = _without_computed(layers, packet.payload, packet.trailer)
    parts = [_header_text(header) for header in layers]
    if packet.payload or not parts:
        parts.append(_octets_text(packet.payload))
    if packet.trailer:
        parts.append(f"trailer({_octets_text(packet.trailer)})")
    return "/".join(parts)


def _without_computed(layers: list[Header], payload: bytes, trailer: bytes) -> list[Header]:
    """The headers, with `AUTO` wherever that does not change an octet of the packet."""
    want = bytes(_rebuild(layers, payload, trailer))
    # From the inside out: a length or checksum outside covers what is further in.
    for i in reversed(range(len(layers))):
        for row in layers[i].fields:
            if row.spec.rule is None or getattr(layers[i], row.slot) is AUTO:
                continue
            trial = [*layers[:i], layers[i].replace(**{row.name: AUTO}), *layers[i + 1 :]]
            try:
                if bytes(_rebuild(trial, payload, trailer)) == want:
                    layers = trial
            except RawkitError:
                continue  # what is there cannot be computed: it stays
    return layers


def _header_text(header: Header) -> str:
    fields = [
        f"{row.name}={_value_text(row, header)}" for row in header.fields if not _is_default(row, header)
    ]
    return f"{_header_name(header, bool(fields))}({','.join(fields)})"


def _header_name(header: Header, has_fields: bool) -> str:
    """The shortest name that stands for this header's class, given what its fields say."""
    cls = type(header)
    short = {name: alias for alias, name in reversed(ALIASES.items())}
    for base in cls.__mro__:
        discriminator = vars(base).get("discriminator") if issubclass(base, Header) else None
        if not discriminator:
            continue
        row = next(row for row in cls.fields if row.name == discriminator)
        value = None if _is_default(row, header) else getattr(header, row.slot)
        if _variant(base, value) is cls:
            return short.get(base.__name__.lower(), base.__name__.lower())
        if base is cls:
            return cls.__name__.lower() + "!"
    return short.get(cls.__name__.lower(), cls.__name__.lower())


def _is_default(row: FieldInfo, header: Layout) -> bool:
    value, default = getattr(header, row.slot), row.spec.default
    if value is AUTO or default is AUTO or default is ...:
        return value is default
    if isinstance(row.kind, Variable):
        return _encoded(row.kind, value) == _encoded(row.kind, default)
    return bool(value == default)


def _encoded(kind: Variable, value: Any) -> bytes:
    return value if isinstance(value, bytes) else kind.encode(value, "")


def _value_text(row: FieldInfo, header: Layout) -> str:
    kind, value = row.kind, getattr(header, row.slot)
    if value is AUTO:
        return "auto"
    if isinstance(kind, OptionList):
        octets = _encoded(kind, value)
        options = kind.decode(octets)
        # What the options do not show (padding after the end of the list) is still part of the header.
        if kind.encode(options, "") != octets:
            return _octets_text(octets)
        return f"[{','.join(_option_text(option) for option in options)}]"
    if isinstance(kind, Pairs):
        octets = _encoded(kind, value)
        pairs = kind.decode(octets)
        if kind.encode(pairs, "") != octets:
            return _octets_text(octets)
        return f"[{','.join(f'[{left},{right}]' for left, right in pairs)}]"
    if isinstance(kind, FlagBits):
        return _flags_text(kind, value)
    if isinstance(kind, UInt):
        return _number_text(row, value)
    if isinstance(kind, Address):
        return str(kind.read(value))
    return _octets_text(bytes(value))


def _number_text(row: FieldInfo, value: int) -> str:
    name = _normal(row.spec.names.get(value, ""))
    namesakes = [number for number, known in row.spec.names.items() if _normal(known) == name]
    if _WORD.fullmatch(name) and _number(name) is None and namesakes[0] == value and name != "auto":
        return name
    return f"{value:#06x}" if row.name == "checksum" else str(value)


def _flags_text(kind: FlagBits, value: int) -> str:
    """Letters where each flag has its own, else names, else a number."""
    initials = kind.letters()
    letters = "".join(letter for letter, bit in initials.items() if value & bit)
    for text in (letters, kind.text(value)):
        try:
            if _WORD.fullmatch(text) and _number(text) is None and kind.convert(text, "") == value:
                return text
        except RawkitError:
            continue  # bits that no flag has
    return hex(value)


def _option_text(option: Option) -> str:
    name = type(option).__name__.lower()
    aliases = [alias for alias, names in OPTION_ALIASES.items() if name in names]
    rows = list(option.fields)
    while rows and _is_default(rows[-1], option):
        rows.pop()
    return f"{(aliases or [name])[0]}({','.join(_value_text(row, option) for row in rows)})"


def _octets_text(octets: bytes) -> str:
    """A string where all is text, else hexadecimal."""
    if octets and not all(32 <= octet < 127 or octet in b"\n\r\t" for octet in octets):
        return f'hex("{octets.hex()}")'
    text = octets.decode("ascii").replace("\\", "\\\\").replace('"', '\\"')
    return '"' + text.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t") + '"'
