"""Dissectors of headers that hypothesis makes up: tshark shows what rawkit reads, whatever the packets."""

from __future__ import annotations

import tempfile
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Annotated, Any

import hypothesis.strategies as st
from hypothesis import Phase, given, settings
from report.tshark import columns

from rawkit.addr import MAC
from rawkit.errors import FieldError, HeaderError
from rawkit.pcap import create_pcap
from rawkit.report.dissector import dissector
from rawkit.wire import Ether, Header, IPv4, IPv6, Option
from rawkit.wire.field import (
    FlagBits,
    Octets,
    Options,
    Size,
    UInt,
    auto,
    field,
    header_words,
    inet_checksum,
    ip4,
    ip6,
    mac,
    octets,
    pairs32,
    payload_length,
    total_length,
    u4,
    u8,
    u16,
    u32,
)
from rawkit.wire.frame import Frame
from rawkit.wire.record import ip4s, pairs16, u16s, u24s, u32s

FIRST_NUMBER = 140


class DrawnOption(Option, family=True):
    singles = frozenset({1})
    end = 0
    pad_to = 4


class DrawnPad(DrawnOption, kind=1):
    pass


class DrawnToken(DrawnOption, kind=2):
    token: u32
    rest: octets = b""


class UnknownDrawnOption(DrawnOption):
    number: u8
    data: octets = b""


DrawnOption.unknown = UnknownDrawnOption

WIDTHS = st.sampled_from([8, 16, 24, 32, 40, 48, 64])
TAILS = [None, octets, pairs32, u16s, u24s, u32s, ip4s, pairs16, Options[DrawnOption]]


@st.composite
def bit_fields(draw: st.DrawFn) -> list[tuple[Any, Any]]:
    """Kinds and specs of integers, some with flags or names, that fill whole octets together."""
    left = draw(WIDTHS)
    rows = []
    while left:
        width = draw(st.integers(1, left))
        left -= width
        if width <= 32 and draw(st.booleans()):
            rows.append(
                (Annotated[int, FlagBits(width)], field(0, bits=[f"F{i}" for i in range(min(width, 4))]))
            )
        else:
            rows.append((Annotated[int, UInt(width)], field(0, names={0: "none", 1: 'one "1"'})))
    return rows


OTHERS = st.sampled_from(
    [(mac, "0:0:0:0:0:0"), (ip4, "0.0.0.0"), (ip6, "::"), (Annotated[bytes, Octets(3)], b"abc")]
)


@st.composite
def headers(draw: st.DrawFn) -> type[Header]:
    """A header class: bits, addresses, lengths, fields that may be absent or of any length, a list."""
    rows: list[tuple[Any, Any]] = []
    for group in draw(
        st.lists(st.one_of(bit_fields(), st.lists(OTHERS, min_size=1, max_size=1)), max_size=4)
    ):
        rows += group
    length = draw(st.sampled_from([None, payload_length, total_length]))
    if length is not None:
        rows.append((u16, auto(length)))
    if draw(st.booleans()):
        rows.append((u16, auto(inet_checksum, pseudo_header=draw(st.booleans()))))
    tail = draw(st.sampled_from(TAILS))
    named = {f"x{i}": row for i, row in enumerate(rows)}
    moving = draw(st.booleans())
    if tail is not None and not moving:
        octets_n = sum(kind.__metadata__[0].width for kind, _ in rows) // 8
        named["spare"] = (Annotated[int, UInt(4)], 0)
        named["words"] = (u4, auto(header_words))
        named |= {f"fill{i}": (u8, 0) for i in range(-(octets_n + 1) % 4)}
    if moving:
        named |= {"is_there": (u8, 0), "size": (u8, 0), "maybe": (u16, field(when="is_there"))}
        named |= {
            "id": (octets, field(b"", size=Size("size"))),
            "exact": (u32 | None, field(when=("is_there", 7))),
        }
    if tail is not None:
        named["tail"] = (tail, b"" if tail is octets else ())
    if not named:
        named["only"] = (u8, 0)
    namespace = {name: spec for name, (_, spec) in named.items()}
    annotations = {name: kind for name, (kind, _) in named.items()}
    made: type[Header] = type(Header)(
        "Drawn", (Header,), {**namespace, "__annotations__": annotations, "__module__": __name__}
    )
    return made


def texts(value: Any, kind: Any) -> list[str]:
    """A field's value as tshark prints it; integers in decimal."""
    if value is None:
        return []
    if isinstance(value, (bytes, IPv4Address, IPv6Address, MAC)):
        text = value.hex() if isinstance(value, bytes) else str(value).lower()
        return [text] if text else []
    return [str(value)]


def expected(parsed: Any, name: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in parsed.fields:
        value, path = getattr(parsed, row.name), f"{name}.{row.name}"
        if row.name == "tail" and not isinstance(value, bytes):
            rows = list(value)
            if rows and isinstance(rows[0], tuple):
                found[f"{path}.first"], found[f"{path}.second"] = (
                    [str(pair[i]) for pair in rows] for i in (0, 1)
                )
            elif rows and isinstance(rows[0], Option):
                tokens = [option for option in rows if isinstance(option, DrawnToken)]
                found[f"{path}.drawntoken.token"] = [str(option.token) for option in tokens]
                kinds = [
                    option.number if isinstance(option, UnknownDrawnOption) else option.kind
                    for option in rows
                    if type(option).__name__ != "UnparsedOptions"
                ]
                found[f"{path}.kind"] = [str(kind) for kind in kinds]
            elif rows:
                found[path] = [text for item in rows for text in texts(item, None)]
            continue
        found[path] = texts(value, row.kind)
        for i, flag in enumerate(getattr(row.kind, "names", ())):
            found[f"{path}.{flag.lower()}"] = [str(value >> i & 1)]
    return found


def normal(text: str) -> str:
    return str(int(text, 16)) if text.startswith("0x") else text


@settings(max_examples=3, deadline=None, phases=[Phase.generate])  # to shrink costs a run of tshark each time
@given(
    st.lists(headers(), min_size=16, max_size=16),
    st.lists(st.binary(max_size=60), min_size=6, max_size=6),
    st.booleans(),
)
def test_every_field_of_any_header(classes: list[type[Header]], pieces: list[bytes], as_v6: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        scripts, frames, wanted = [], [], []
        for i, cls in enumerate(classes):
            name = f"drawn{i}"
            scripts.append(Path(folder, f"{name}.lua"))
            scripts[-1].write_text(dissector(cls, name=name, ip_proto=FIRST_NUMBER + i))
            for piece in pieces:
                for content in filter(None, (piece, built(cls, piece))):  # of no octets IP makes no packet
                    lower: Header = IPv4(src="192.0.2.1", dst="192.0.2.2", protocol=FIRST_NUMBER + i)
                    if as_v6:
                        lower = IPv6(src="2001:db8::1", dst="2001:db8::2", next_header=FIRST_NUMBER + i)
                    frames.append(bytes(Ether() / lower / content))
                    wanted.append((name, cls, content))
        capture = Path(folder, "drawn.pcap")
        with create_pcap(capture) as file:
            for octets_ in frames:
                file.write(Frame(octets_))
        names = sorted(
            {
                f"drawn{i}.{row.name}"
                for i, cls in enumerate(classes)
                for row in cls.fields
                if row.name != "tail"
            }
        )
        flags = [f"drawn{i}.{row.name}.{flag.lower()}" for i, cls in enumerate(classes) for row in cls.fields
                 for flag in getattr(row.kind, "names", ())]  # fmt: skip
        rows = columns_of(capture, scripts, [*names, *flags])
        for (name, cls, content), row in zip(wanted, rows, strict=True):
            try:
                parsed, at, end = cls._parse(content, 0, len(content))
            except HeaderError:
                assert row[f"{name}.expert.malformed"], (content, cls.fields)
                continue
            assert not row[f"{name}.expert.malformed"]
            assert "".join(row["data.data"]) == content[at:end].hex()
            for path, values in expected(parsed, name).items():
                assert [normal(text) for text in row[path]] == values, (path, content.hex(), cls.fields)


def columns_of(capture: Path, scripts: list[Path], names: list[str]) -> list[dict[str, list[str]]]:
    tails = [line.split('"')[3] for script in scripts for line in script.read_text().splitlines()
             if line.startswith("fields[\"tail")]  # fmt: skip
    malformed = [f"{script.stem}.expert.malformed" for script in scripts]
    return columns(capture, scripts, [*names, *tails, *malformed, "data.data"])


def built(cls: type[Header], piece: bytes) -> bytes:
    """A packet as rawkit builds it, with values taken from some octets."""
    number = int.from_bytes(piece, "big")
    values: dict[str, Any] = {}
    for row in cls.fields:
        if row.name == "tail" and row.kind.width == 0:
            values["tail"] = (piece[: len(piece) // 4 * 4])[:40]
        elif isinstance(row.kind, UInt) and row.spec.rule is None and not row.spec.when:
            values[row.name] = number % (1 << row.width)
            number >>= 3
    if "size" in values:
        values["size"], values["id"] = len(piece[:9]), piece[:9]
        values["is_there"] = len(piece) % 3 * 7 // 2
    try:
        return bytes(IPv4(src="192.0.2.1", dst="192.0.2.2") / cls(**values) / piece)[20:]
    except FieldError:  # longer than its length can say
        return piece
