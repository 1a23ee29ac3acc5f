"""Header classes: what a declaration gives, and that its mistakes surface when the class is created."""

from __future__ import annotations

import traceback
from ipaddress import IPv4Address
from typing import ClassVar

import pytest

from rawkit.addr import MAC
from rawkit.errors import FieldError, Malformed
from rawkit.wire import AUTO, TCP, UDP, Ether, Header, IPv4, IPv6, Option, Packet
from rawkit.wire.field import (
    Options,
    auto,
    field,
    flags3,
    flags8,
    header_words,
    inet_checksum,
    ip4,
    mac,
    octets,
    payload_length,
    u3,
    u4,
    u5,
    u8,
    u16,
    u24,
)  # fmt: skip
from rawkit.wire.tcp import MSS, NoOperation, TCPOption

# ---- mistakes ------------------------------------------------------------------------------------


def test_bits_that_fill_no_octet() -> None:
    with pytest.raises(TypeError, match="Odd: its fields make 12 bits, which is no whole number of octets"):

        class Odd(Header):
            a: u8
            b: u4


def test_a_whole_field_inside_an_octet() -> None:
    with pytest.raises(TypeError, match="Askew.b: starts inside an octet \\(bit 4\\)"):

        class Askew(Header):
            a: u4
            b: mac
            c: u4


def test_unknown_kinds() -> None:
    with pytest.raises(TypeError, match="Plain.a: <class 'int'> is no field kind"):

        class Plain(Header):
            a: int

    with pytest.raises(TypeError, match="Missing.a: name 'u17' is not defined"):

        class Missing(Header):
            a: u17  # type: ignore[name-defined]  # noqa: F821


def test_nothing_follows_a_field_that_fills_the_header() -> None:
    with pytest.raises(TypeError, match="Greedy.b: follows a, which fills the header to its end"):

        class Greedy(Header):
            a: octets
            b: u8


def test_a_header_length_needs_a_variable_last_field() -> None:
    with pytest.raises(TypeError, match="Fixed.hlen: a header length needs a last field that can fill"):

        class Fixed(Header):
            hlen: u8 = auto(header_words)
            b: u24 = 0


def test_a_length_in_words_needs_whole_words() -> None:
    with pytest.raises(TypeError, match="Uneven: 3 octets before rest are no whole number of 32-bit words"):

        class Uneven(Header):
            hlen: u8 = auto(header_words)
            b: u16 = 0
            rest: octets = b""


def test_a_number_taken_twice_names_both() -> None:
    class Former(Header, over={UDP: 61001}):
        a: u8 = 0

    try:
        with pytest.raises(TypeError) as caught:

            class Latter(Header, over={UDP: 61001}):
                a: u8 = 0

        assert "UDP 61001 is taken" in str(caught.value)
        assert "Former" in str(caught.value)
        assert "Latter" in str(caught.value)
        assert UDP.uppers[61001] is Former
    finally:
        del UDP.uppers[61001], UDP.numbers[Former]


def test_an_option_kind_taken_twice_names_both() -> None:
    with pytest.raises(TypeError, match="option kind 2 is taken: .*MSS and .*Again both claim it"):

        class Again(TCPOption, kind=2):
            a: u8 = 0


def test_padding_needs_an_end() -> None:
    with pytest.raises(TypeError, match="Padded: lists are padded with zeros, so kind 0 must be their end"):

        class Padded(Option, family=True):
            pad_to = 4


def test_flag_names_need_a_flags_kind_with_room() -> None:
    with pytest.raises(TypeError, match="Letters.a: bits= needs a flags kind"):

        class Letters(Header):
            a: u8 = field(0, bits="A B")

    with pytest.raises(TypeError, match="Many.a: 4 flag names for 3 bits"):

        class Many(Header):
            a: flags3 = field(0, bits="A B C D")
            b: u5 = 0


def test_underscores_are_for_slots() -> None:
    with pytest.raises(TypeError, match="Hidden._a: a field's name cannot start with an underscore"):

        class Hidden(Header):
            _a: u8


def test_defaults_must_fit() -> None:
    with pytest.raises(FieldError, match="Wide.a: 256 does not fit 8 bits"):

        class Wide(Header):
            a: u8 = 256

    with pytest.raises(FieldError, match="Named.a: no flag 'X'"):

        class Named(Header):
            a: flags8 = field("X", bits="S A")


def test_an_inherited_field_keeps_its_width() -> None:
    class Base(Header):
        a: u8 = 0

    with pytest.raises(TypeError, match="Wider.a: 16 bits, but 8 in the class it extends"):

        class Wider(Base):
            a: u16 = 0


# ---- what a declaration gives --------------------------------------------------------------------


def test_annotations_inside_functions() -> None:
    """`from __future__ import annotations` leaves text, whose names may be local to a function."""
    local_kind = u16

    class Local(Header):
        limit: ClassVar[int] = 7
        a: local_kind = 3  # type: ignore[valid-type]
        mac: mac = field("00:00:5e:00:53:01")
        octets: octets = b"xy"

    assert bytes(Local()) == bytes.fromhex("0003 00005e005301 7879")
    assert (Local.limit, [row.name for row in Local.fields]) == (7, ["a", "mac", "octets"])
    assert Local().mac == MAC("00:00:5e:00:53:01")


def test_inheritance_adds_fields_and_changes_defaults() -> None:
    class Base(Header):
        a: u8 = 1
        b: u8 = 2

    class Derived(Base):
        b: u8 = 9
        c: u16 = 3

    assert bytes(Base()) == b"\1\2"
    assert bytes(Derived()) == b"\1\x09\0\3"
    assert [(row.name, row.offset) for row in Derived.fields] == [("a", 0), ("b", 8), ("c", 16)]
    assert isinstance(Derived.parse(b"\1\2\0\4"), Base)


def test_bits_are_laid_out_from_the_highest() -> None:
    class Bits(Header):
        a: u3
        b: u5
        c: u4
        d: u24
        e: u4

    header = Bits(a=5, b=17, c=0xA, d=0x123456, e=0xF)
    assert bytes(header) == bytes([5 << 5 | 17, 0xA1, 0x23, 0x45, 0x6F])
    assert Bits.parse(bytes(header)) == header
    assert [(row.name, row.offset, row.width) for row in Bits.fields] == [
        ("a", 0, 3), ("b", 3, 5), ("c", 8, 4), ("d", 12, 24), ("e", 36, 4),
    ]  # fmt: skip


def test_required_fields() -> None:
    class Needy(Header):
        a: u8
        b: u8 = 0

    with pytest.raises(TypeError, match="'a'"):
        Needy()  # type: ignore[call-arg]
    assert bytes(Needy(a=1)) == b"\1\0"


def test_a_rule_of_ones_own() -> None:
    def parity(header: Header, payload: bytes) -> int:
        return len(payload) % 2

    class Ruled(Header):
        a: u8 = auto(parity)

    assert bytes(Ruled() / b"abc") == b"\1abc"
    assert bytes(Ruled(a=7) / b"abc") == b"\7abc"

    class Wild(Header):
        a: u8 = auto(lambda header, payload: 1000)

    with pytest.raises(FieldError, match="Wild: a computed value does not fit its field \\(3 octets"):
        bytes(Wild() / b"abc")


def test_generated_code_is_shown_in_tracebacks() -> None:
    try:
        IPv4.parse(b"\x4f" + bytes(19))
    except Malformed as error:
        text = "".join(traceback.format_exception(error))
    assert "raise bad_length(cls, 'ihl'" in text


def test_signatures_name_the_fields() -> None:
    import inspect

    assert list(inspect.signature(UDP).parameters) == ["sport", "dport", "length", "checksum"]
    assert repr(inspect.signature(UDP).parameters["checksum"].default) == "AUTO"


# ---- values --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TCP(sport="80"), "TCP.sport: need an integer of 16 bits, got '80'"),
        (lambda: TCP(sport=80.5), "TCP.sport: need an integer of 16 bits, got 80.5"),
        (lambda: TCP(sport=None), "TCP.sport: need an integer of 16 bits, got None"),
        (lambda: TCP(sport=65536), "TCP.sport: 65536 does not fit 16 bits (0..65535)"),
        (lambda: TCP(seq=-1), "TCP.seq: -1 does not fit 32 bits (0..4294967295)"),
        (lambda: TCP(reserved=8), "TCP.reserved: 8 does not fit 3 bits (0..7)"),
        (lambda: TCP(flags=512), "TCP.flags: 512 does not fit 9 bits (0..511)"),
        (lambda: TCP(sport=AUTO), "TCP.sport: needs a value, nothing computes it"),
        (lambda: TCP(flags=AUTO), "TCP.flags: needs a value, nothing computes it"),
        (lambda: TCP(checksum=1 << 16), "TCP.checksum: 65536 does not fit 16 bits (0..65535)"),
        (lambda: IPv4(dst="192.0.2.256"), "IPv4.dst: need an IPv4 address, got '192.0.2.256'"),
        (lambda: IPv4(dst="2001:db8::1"), "IPv4.dst: need an IPv4 address, got '2001:db8::1'"),
        (lambda: IPv4(dst=b"123"), "IPv4.dst: need an IPv4 address, got b'123'"),
        (lambda: IPv4(dst=AUTO), "IPv4.dst: need an IPv4 address, got AUTO"),
        (lambda: IPv6(src="192.0.2.1"), "IPv6.src: need an IPv6 address, got '192.0.2.1'"),
        (lambda: Ether(dst="00:00:5e"), "Ether.dst: need a MAC address, got '00:00:5e'"),
        (lambda: MSS(1 << 16), "MSS.value: 65536 does not fit 16 bits (0..65535)"),
    ],
)
def test_values_that_do_not_fit(make: object, message: str) -> None:
    with pytest.raises(FieldError) as caught:
        make()  # type: ignore[operator]
    assert str(caught.value) == message


def test_attributes_are_checked_at_the_latest_when_packed() -> None:
    header = TCP()
    for name, value, message in (
        ("sport", 70000, "TCP.sport: 70000 does not fit 16 bits"),
        ("data_offset", 16, "TCP.data_offset: 16 does not fit 4 bits"),
        ("window", "x", "TCP.window: need an integer of 16 bits, got 'x'"),
        ("urgent", AUTO, "TCP.urgent: needs a value"),
    ):
        changed = header.replace()
        setattr(changed, name, value)
        with pytest.raises(FieldError) as caught:
            bytes(changed)
        assert str(caught.value).startswith(message)
    with pytest.raises(FieldError, match="IPv4.src: need an IPv4 address, got 'x'"):
        IPv4().src = "x"
    with pytest.raises(FieldError, match="IPv4.dst: need an IPv4 address, got AUTO"):
        IPv4().dst = AUTO
    header = IPv4(src="192.0.2.1")
    header.src = AUTO
    assert header.src is AUTO


def test_misspelt_names() -> None:
    with pytest.raises(
        TypeError, match="TCP has no field 'spot'; did you mean 'sport'\\? it has sport, dport"
    ):
        TCP(spot=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="IPv4 has no field 'qqq'; it has version"):
        IPv4(qqq=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="NoOperation has no field 'value'; it has no fields"):
        NoOperation(value=1)  # type: ignore[call-arg]
    with pytest.raises(AttributeError, match="spot"):
        TCP().spot = 1  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match="spot"):
        _ = TCP().spot  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="TCP has no field 'spot'; did you mean 'sport'"):
        TCP().replace(spot=1)
    with pytest.raises(TypeError, match="positional"):
        TCP(1, 2)  # type: ignore[misc]


def test_addresses_take_every_form() -> None:
    same = [
        IPv4(dst=value).dst for value in ("192.0.2.1", 0xC0000201, b"\xc0\0\2\1", IPv4Address("192.0.2.1"))
    ]
    assert same == [IPv4Address("192.0.2.1")] * 4
    macs = [
        Ether(dst=value).dst for value in ("00-00-5E-00-53-01", 0x5E005301, bytes.fromhex("00005e005301"))
    ]
    assert macs == [MAC("00:00:5e:00:53:01")] * 3


def test_a_network_address_is_no_address() -> None:
    with pytest.raises(FieldError, match="IPv4.dst"):
        IPv4(dst="192.0.2.0/24")


class Sized(Header):
    """A header whose length field counts what follows, and that ends with octets of its own."""

    hlen: u4 = auto(header_words)
    flags: u4 = 0
    length: u16 = auto(payload_length)
    kind: u8 = 0
    reserved: u16 = 0
    checksum: u16 = auto(inet_checksum)
    where: ip4 = field("192.0.2.1")
    options: Options[TCPOption] = ()


def test_computed_and_given_lengths() -> None:
    sized = Sized(options=[MSS(5)])
    octets_ = bytes(sized / b"abc")
    assert (octets_[0] >> 4, int.from_bytes(octets_[1:3], "big")) == (4, 3)
    parsed = Packet.parse(octets_ + b"padding", first=Sized)
    assert (parsed.payload, parsed.trailer) == (b"abc", b"padding")
    lies = bytes(Sized(hlen=15, length=9, checksum=1) / b"abc")
    assert (lies[0] >> 4, lies[1:3], lies[6:8]) == (15, b"\0\x09", b"\0\1")
    assert sized.hlen is AUTO, "building writes nothing back"


def test_equality_is_of_class_and_values() -> None:
    assert TCP(sport=1) == TCP(sport=1)
    assert TCP(sport=1) != TCP(sport=2)
    assert TCP() != UDP()
    assert TCP(options=[MSS(1460)]) == TCP(options=b"\2\4\5\xb4")
    with pytest.raises(TypeError, match="unhashable"):
        hash(TCP())


def test_options_have_a_family() -> None:
    class Family(Option, family=True):
        """Options of one test."""

    class Unknown(Family):
        number: u8
        data: octets = b""

        def _kind_and_body(self) -> tuple[int, bytes]:
            return self.number, self.data

    Family.unknown = Unknown

    class Size(Family, kind=7):
        value: u16

    assert Family.decode(b"\7\4\1\2\x08\3\xff") == (Size(0x102), Unknown(8, b"\xff"))
    assert Family.encode((Size(0x102), Unknown(8, b"\xff")), "options") == b"\7\4\1\2\x08\3\xff"
