"""What the commands that print or write packets share: a packet as one line, more, or a JSON object."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from rawkit.cli.output import emit, escape
from rawkit.pcap.writer import merged_note
from rawkit.wire import TCP, UDP, Frame

if TYPE_CHECKING:
    from rawkit.cli.output import JsonLines
    from rawkit.wire.packet import Packet

TIME_STYLES = ("clock", "relative", "epoch")


def printing_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that say how packets are printed, the same for every command that prints them."""
    for option in reversed(
        (
            click.option(
                "-v", "--verbose", is_flag=True, help="Each packet's headers and fields below its line."
            ),
            click.option("-x", "--hex", "dump", is_flag=True, help="Each packet's octets below its line."),
            click.option(
                "-t",
                "--time",
                "style",
                type=click.Choice(TIME_STYLES),
                default="clock",
                show_default=True,
                help="Time of day, seconds since the first packet, or seconds since 1970.",
            ),
            click.option("--json", "as_json", is_flag=True, help="One JSON object per packet."),
        )
    ):
        command = option(command)
    return command


class PacketPrinter:
    """Prints frames in order: times as `style` says, with `tree` each header, with `dump` each octet.

    With `origin` each line names the interface, and which way the packet went.
    """

    def __init__(
        self,
        style: str = "clock",
        *,
        tree: bool = False,
        dump: bool = False,
        origin: bool = False,
        json: JsonLines | None = None,
    ) -> None:
        self._style = style
        self._tree = tree
        self._dump = dump
        self._origin = origin
        self._json = json
        self._first_ns: int | None = None
        self.printed = 0

    def write(self, frame: Frame) -> None:
        self.printed += 1
        if self._first_ns is None:
            self._first_ns = frame.time_ns
        if self._json is not None:
            self._json.write("packet", **record(frame, self.printed))
            return
        packet = frame.packet()
        above = application(packet)
        line = f"{packet.summary()}{f': {above}' if above else ''}{remarks(frame)}"
        origin = f"{frame.interface or '?'} {frame.direction or '?'} " if self._origin else ""
        emit(escape(f"{self.time(frame.time_ns)} {origin}{line}"))
        for wanted, text in ((self._tree, packet.show), (self._dump, packet.hexdump)):
            if wanted:
                emit(escape("        " + text().replace("\n", "\n        "), lines=True))

    def time(self, time_ns: int) -> str:
        """A frame's time in the chosen style, always with nanoseconds."""
        if self._style == "relative":
            time_ns -= self._first_ns or 0
        sign = "-" if time_ns < 0 else ""
        seconds, fraction = divmod(abs(time_ns), 1_000_000_000)
        if self._style == "clock":
            return f"{time.strftime('%H:%M:%S', time.localtime(seconds))}.{fraction:09d}"
        return f"{sign}{seconds}.{fraction:09d}"


APPLICATION_PORTS = frozenset({53, 67, 68, 80, 123, 443, 5353, 5355, 8000, 8080, 8443})
"""Ports of the applications that a line says something of. Elsewhere the payload is not looked at."""


def application(packet: Packet) -> str | None:
    """What a packet to or from a well-known port carries, in a few words; None when that is not known."""
    layers = packet.layers
    transport = layers[-1] if layers else None
    if not isinstance(transport, (TCP, UDP)):
        return None
    if APPLICATION_PORTS.isdisjoint((transport.sport, transport.dport)) or not packet.payload:
        return None
    from rawkit.interop.dpkt import application_summary

    return application_summary(packet)


def remarks(frame: Frame) -> str:
    """What the line says beyond the packet's summary: bad checksums, segments, comments, missing octets."""
    texts = [
        f"bad {verdict.layer.__name__} checksum {verdict.found:#06x}, should be {verdict.expected:#06x}"
        for verdict in frame.checksums()
        if verdict.state == "bad"
    ]
    if frame.gso_len and (note := merged_note(frame)) not in frame.comments:
        texts.append(note)
    texts += frame.comments
    if frame.wire_len > len(frame.data):
        texts.append(f"{frame.wire_len - len(frame.data)} of {frame.wire_len} octets not captured")
    return "".join(f" [{text}]" for text in texts)


def record(frame: Frame, number: int) -> dict[str, Any]:
    """A frame as the fields of a "packet" record; times are nanoseconds since 1970 and RFC 3339."""
    packet = frame.packet()
    seconds, fraction = divmod(frame.time_ns, 1_000_000_000)
    shown: dict[str, Any] = {
        "number": number,
        "time_ns": frame.time_ns,
        "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{fraction:09d}Z",
        "interface": frame.interface,
        "direction": frame.direction,
        "cap_len": len(frame.data),
        "wire_len": frame.wire_len,
        "linktype": frame.linktype,
        "summary": packet.summary(),
        "application": application(packet),
        "checksums": [
            {"layer": verdict.layer.__name__, "state": verdict.state, "value": verdict.found}
            for verdict in frame.checksums()
        ],
        **packet.to_dict(),
    }
    if frame.gso_len:
        shown["gso_len"] = frame.gso_len
    if frame.comments:
        shown["comments"] = list(frame.comments)
    return shown
