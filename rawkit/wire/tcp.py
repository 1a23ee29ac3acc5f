"""Transmission Control Protocol (RFC 9293) and its commonest options."""

from __future__ import annotations

from rawkit.wire import role
from rawkit.wire.field import (
    Options,
    auto,
    field,
    flags9,
    header_words,
    inet_checksum,
    octets,
    pairs32,
    u3,
    u4,
    u8,
    u16,
    u32,
)
from rawkit.wire.header import Header
from rawkit.wire.ipv4 import IPv4
from rawkit.wire.ipv6 import IPv6
from rawkit.wire.option import Option


class TCPOption(Option, family=True):
    """An option of the TCP header (RFC 9293 section 3.1): kind, length, data."""

    singles = frozenset({0, 1})
    end = 0
    pad_to = 4


class NoOperation(TCPOption, kind=1):
    """Aligns the option after it."""

    def summary(self) -> str:
        return "nop"


class MSS(TCPOption, kind=2):
    """Maximum segment size in octets (RFC 9293 section 3.7.1)."""

    value: u16

    def summary(self) -> str:
        return f"mss {self.value}"


class WindowScale(TCPOption, kind=3):
    """The window is shifted left by this many bits (RFC 7323 section 2)."""

    shift: u8

    def summary(self) -> str:
        return f"wscale {self.shift}"


class SACKPermitted(TCPOption, kind=4):
    """Selective acknowledgements may be sent (RFC 2018 section 2)."""

    def summary(self) -> str:
        return "sackOK"


class SACK(TCPOption, kind=5):
    """Blocks that were received: pairs of first octet and octet after the last (RFC 2018 section 3)."""

    blocks: pairs32 = ()

    def summary(self) -> str:
        return f"sack {len(self.blocks)} " + "".join(f"{{{first}:{end}}}" for first, end in self.blocks)


class Timestamps(TCPOption, kind=8):
    """Timestamp value and echo reply (RFC 7323 section 3)."""

    value: u32 = 0
    echo: u32 = 0

    def summary(self) -> str:
        return f"TS val {self.value} ecr {self.echo}"


class UnknownTCPOption(TCPOption):
    """An option without a class of its own."""

    number: u8
    data: octets = b""

    def _kind_and_body(self) -> tuple[int, bytes]:
        return self.number, self.data


TCPOption.unknown = UnknownTCPOption


class TCP(Header, over={IPv4: 6, IPv6: 6}):
    """TCP header. `flags` takes letters too: "S", "SA", "." for ACK alone, as tcpdump prints them."""

    common = True
    selected_by = ("dport", "sport")

    sport: u16 = field(0, role=role.src_port)
    dport: u16 = field(0, role=role.dst_port)
    seq: u32 = field(0, role=role.seq())
    ack: u32 = field(0, role=role.ack())
    data_offset: u4 = auto(header_words)
    reserved: u3 = 0
    flags: flags9 = field("S", bits="FIN SYN RST PSH ACK URG ECE CWR AE")
    window: u16 = field(65535, role=role.window())
    checksum: u16 = auto(inet_checksum, pseudo_header=True)
    urgent: u16 = 0
    options: Options[TCPOption] = ()

    def answers(self, request: Header) -> bool:
        return (
            isinstance(request, TCP)
            and (self.sport, self.dport) == (request.dport, request.sport)
            # A reply to a SYN acknowledges it (RFC 9293 section 3.10.7.1); other segments may be old.
            and (not request.flags & TCP.SYN or self.ack == request.seq + 1 & 0xFFFFFFFF)
        )

    def is_quote_of(self, original: Header) -> bool:
        return isinstance(original, TCP) and (self.sport, self.dport) == (original.sport, original.dport)

    def flag_letters(self) -> str:
        """The flags as tcpdump writes them: "S.", "F.", "P.", "R"."""
        letters = "".join(letter for bit, letter in enumerate("FSRP") if self.flags >> bit & 1)
        letters += "".join(
            letter for bit, letter in ((5, "U"), (6, "E"), (7, "W"), (8, "e")) if self.flags >> bit & 1
        )
        return (letters + ("." if self.flags & TCP.ACK else "")) or "none"

    def summary(self) -> str:
        words = [f"Flags [{self.flag_letters()}]", f"seq {self.seq}"]
        if self.flags & TCP.ACK:
            words.append(f"ack {self.ack}")
        words.append(f"win {self.window}")
        if self.flags & TCP.URG:
            words.append(f"urg {self.urgent}")
        if self.options:
            words.append(f"options [{','.join(option.summary() for option in self.options)}]")
        return ", ".join(words)
