"""`rawkit capture`: frames from an interface, printed, written to a file, or both."""

from __future__ import annotations

import os
import re
import sys
import time
from typing import TYPE_CHECKING, Any, Literal

import click

from rawkit.cli.lines import PacketPrinter, printing_options
from rawkit.cli.output import counted

if TYPE_CHECKING:
    from rawkit.cli.output import JsonLines
    from rawkit.pcap import PcapngWriter, PcapWriter, RotatingWriter
    from rawkit.tools.capture import Capture


@click.command(
    name="capture",
    epilog="""\b
Examples:
  rawkit capture -i veth0 'tcp port 80'
  rawkit capture -c 100 -w out.pcapng
  rawkit capture -C 100 -W 10 -w ring.pcapng.zst
  rawkit capture -G 1h -w '%Y%m%d-%H%M%S.pcapng'
  rawkit capture -i eth0 -i wlan0 -Q in --until 'tcp[tcpflags] & tcp-rst != 0' -w both.pcapng
  rawkit capture -i lo --duration 5 --json icmp | jq .summary
  rawkit capture -i veth0 --explain 'vlan 7 and tcp port 80'
  rawkit lab run -- sh -c 'rawkit capture -c 6 icmp & sleep 1; rawkit ping -q -c 3 10.77.0.2'

Exit status: 0, also when ended by Ctrl-C, SIGTERM or SIGHUP; 2 for bad input, and when the disk is full, a
file cannot be made or the interface disappears, with whole files up to then; 77 without permission.""",
)
@click.argument("filter", nargs=-1)
@click.option(
    "-i",
    "--interface",
    "interfaces",
    metavar="NAME",
    multiple=True,
    help="Interface; may be given several times; any: all of them, without link headers  [default: the first "
    "that is up and is not lo]",
)
@click.option(
    "-Q",
    "--direction",
    type=click.Choice(["in", "out", "inout"]),
    default="inout",
    show_default=True,
    help="What arrives, or what this host sends, alone.",
)
@click.option("-c", "--count", type=click.IntRange(min=1), help="Stop after N packets.")
@click.option("--duration", metavar="TIME", help="Stop after TIME: 10 (seconds), 500ms, 2min.")
@click.option(
    "--octets", "most", metavar="SIZE", help="Stop after SIZE octets in packets, a number or 64k, 10M, 1G."
)
@click.option("--until", metavar="FILTER", help="Stop with the first packet that passes this filter too.")
@click.option(
    "-w",
    "--write",
    type=click.Path(dir_okay=False, allow_dash=True),
    help="Write to a .pcapng or .pcap file, packed if .zst, .gz or .lz4 follows; print nothing.",
)
@click.option(
    "--comment",
    "comments",
    metavar="TEXT",
    multiple=True,
    help="With -w: a note in the .pcapng file; may be given several times.",
)
@click.option(
    "-C",
    "--rotate-size",
    "size",
    metavar="SIZE",
    help="With -w: another file (FILE1, FILE2...) after SIZE million octets; 10k, 10M, 1G: KiB, MiB, GiB.",
)
@click.option(
    "-G",
    "--rotate-time",
    "interval",
    metavar="TIME",
    help="With -w: another file every TIME (60, 10min, 1h); FILE goes through strftime: '%H%M%S.pcapng'.",
)
@click.option(
    "-W",
    "--files",
    type=click.IntRange(1, 1_000_000),
    metavar="N",
    help="With -C: write over the oldest of N files (FILE0...). With -G: end after N files.",
)
@click.option("--tee", is_flag=True, help="With -w: print as well.")
@click.option(
    "-Z",
    "--user",
    metavar="USER",
    help="Become USER, without any privilege, before the first packet. FILE is opened before; with -C or -G "
    "all files are made by USER.",
)
@click.option("-p", "--promiscuous", is_flag=True, help="See frames for other hosts too.")
@click.option(
    "-s", "--snaplen", type=click.IntRange(1, 262144), default=262144, help="Cut packets to N octets."
)
@click.option(
    "--split",
    is_flag=True,
    help="Frames that the kernel merged, or had not cut yet, as the segments that a wire carries; slower.",
)
@click.option(
    "--buffer",
    type=click.IntRange(1, 4000),
    default=64,
    show_default=True,
    help="Octets kept of each interface while nobody reads, in MiB.",
)
@click.option(
    "--latency",
    metavar="TIME",
    help="A packet waits that long for others at most, 1ms to 1s  [default: 10ms; with -w alone, and one "
    "interface, 100ms]",
)
@click.option(
    "--ready-fd",
    type=click.IntRange(min=3),
    metavar="N",
    help='Besides saying "capturing on": write a newline to file descriptor N, and close it.',
)
@click.option(
    "--explain", "explanation", is_flag=True, help="Say what of the filter runs where, and capture nothing."
)
@printing_options
def command(
    filter: tuple[str, ...],
    interfaces: tuple[str, ...],
    direction: Literal["in", "out", "inout"],
    count: int | None,
    duration: str | None,
    most: str | None,
    until: str | None,
    write: str | None,
    comments: tuple[str, ...],
    size: str | None,
    interval: str | None,
    files: int | None,
    tee: bool,
    user: str | None,
    promiscuous: bool,
    snaplen: int,
    split: bool,
    buffer: int,
    latency: str | None,
    ready_fd: int | None,
    explanation: bool,
    verbose: bool,
    dump: bool,
    style: str,
    as_json: bool,
) -> None:
    """Capture from interfaces; FILTER is a tcpdump expression.

    When "capturing on" appears (on standard error), no packet can be missed any more. Ctrl-C ends the
    capture; what was captured is complete, and the counters say what the kernel had to drop. While only a
    file is written, a terminal shows the rate.

    With -C and -G the files follow each other without a gap, and each one is valid by itself. A name that was
    the last file's too gets a number after it.
    """
    import signal
    from contextlib import ExitStack
    from types import FrameType

    import rawkit
    from rawkit.cli.output import JsonLines, emit, status
    from rawkit.errors import EngineError
    from rawkit.pcap import PcapngWriter, RotatingWriter, create_pcap
    from rawkit.pcap.pack import pack_of_name
    from rawkit.pcap.writer import kind_of_name
    from rawkit.privileges import drop_privileges
    from rawkit.tools.capture import ALL, Capture, explain
    from rawkit.tools.capturefile import ClockWatch, describe, processor, remarks, system, write_statistics
    from rawkit.tools.wiresize import split_merged
    from rawkit.units import parse_duration

    if tee and write is None:
        raise click.UsageError("--tee needs -w FILE")
    if comments and (write is None or kind_of_name(write) == "pcap"):
        raise click.UsageError("--comment needs -w FILE.pcapng")
    if write == "-" and (tee or as_json):
        raise click.UsageError("-w - gives standard output to the file: nothing else can be printed there")
    interval_ns = None if interval is None else parse_duration(interval)
    duration_ns = None if duration is None else parse_duration(duration)
    _check_rotation(write, size, interval_ns, files)
    if interval_ns is not None and files is not None:
        duration_ns = min(interval_ns * files, duration_ns or interval_ns * files)
    if ready_fd is not None:
        try:
            os.fstat(ready_fd)
        except OSError as error:
            raise click.UsageError(f"--ready-fd {ready_fd}: {error.strerror}") from error
    if ALL in interfaces and len(set(interfaces)) > 1:
        raise click.UsageError("-i any means all interfaces: no other can be named beside it")
    if promiscuous and ALL in interfaces:
        raise click.UsageError("-p needs interfaces that are named")
    if latency is None:
        latency = "10ms" if write is None or tee or len(interfaces) > 1 else "100ms"
    expression = " ".join(filter)
    if explanation:
        emit(explain(interfaces or None, expression))
        return
    with ExitStack() as stack:
        capture = stack.enter_context(
            Capture(
                interfaces or None,
                expression,
                direction=direction,
                count=count,
                octets=None if most is None else _octets(most, "--octets"),
                until=until,
                duration_ns=duration_ns,
                promiscuous=promiscuous,
                snaplen=snaplen,
                buffer_len=buffer << 20,
                latency=parse_duration(latency) / 1e9,
            )
        )
        before: dict[int, Any] = {}
        clock = ClockWatch()
        endings: list[str] = []  # why it ended, where that is worth a comment

        def stop(number: int, _: FrameType | None) -> None:
            capture.stop()
            endings.append(f"ended by {signal.Signals(number).name}")
            signal.signal(number, before[number])  # the second time it ends at once

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            before[number] = signal.signal(number, stop)
            stack.callback(signal.signal, number, before[number])
        if len(set(capture.linktypes)) > 1 and write and kind_of_name(write) == "pcap":
            raise click.UsageError(
                f"{write}: a pcap file has one link type, and {capture.name} differ; pcapng"
            )
        json = JsonLines("capture") if as_json else None
        several = capture.name == ALL or len(capture.interfaces) > 1
        printer = None
        if write is None or tee:
            printer = PacketPrinter(style, tree=verbose, dump=dump, origin=several, json=json)

        rotates = size is not None or interval_ns is not None
        if user is not None:
            import_all()
            pack_of_name(write or "")
            if write is None or rotates:
                drop_privileges(user)

        def open_file(path: str) -> PcapWriter | PcapngWriter:
            file = create_pcap(
                path,
                capture.linktype,
                application=f"rawkit {rawkit.__version__}",
                hardware=processor(),
                os_name=system(),
                comments=comments,
                notes=True,
                kind=kind_of_name(write or ""),
            )
            if user is not None and not rotates:
                drop_privileges(user)
            if isinstance(file, PcapngWriter):
                describe(file, capture, snaplen)
            return file

        def finish(file: PcapWriter | PcapngWriter) -> None:
            if isinstance(file, PcapngWriter):
                write_statistics(file, capture, endings + remarks(capture) + clock.remarks())

        writer = None
        if write is not None:
            try:
                writer = RotatingWriter(
                    write,
                    open_file,
                    size=None if size is None else _octets(size, "-C"),
                    interval_ns=interval_ns,
                    files=files,
                    finish=finish,
                )
            except PermissionError as error:
                if user is None or not rotates or error.filename is None:
                    raise
                reason = f"{error.filename}: {error.strerror}; with -C and -G, files are made as user {user}"
                raise click.UsageError(reason) from error
            stack.enter_context(writer)
        status(f"capturing on {capture.name}" + (f", filter {expression!r}" if expression else ""))
        for interface in capture.interfaces:
            if not interface.up and capture.name != ALL:
                status(f"{interface.name} is down: packets will come when it is up")
        if ready_fd is not None:
            with os.fdopen(ready_fd, "wb") as ready:
                ready.write(b"\n")
        rates = None
        if writer is not None and printer is None and sys.stderr.isatty():
            rates = RateLine(capture, writer)
        try:
            if writer is not None and printer is None and not split:
                for _ in capture.record(writer):
                    clock.look()
                    if rates is not None:
                        rates.show()
            else:
                for batch in capture.batches():
                    clock.look()
                    if rates is not None:
                        rates.show()
                    if split:
                        batch = split_merged(batch)
                    if writer is not None:
                        if len(batch):
                            writer.write_batch(batch, interface_names=capture.names)
                        else:
                            writer.pause()
                    if printer is not None:
                        for frame in batch.frames(interface_names=capture.names):
                            printer.write(frame)
        except EngineError as error:
            endings.append(f"ended by an error: {error}")
            raise
        finally:
            capture.close()
            if rates is not None:
                rates.clear()
            try:
                if writer is not None:
                    writer.close()
            finally:
                # Told also when the disk is full, or the interface gone; the error follows.
                _summarize(capture, writer, json)
                for remark in remarks(capture) + clock.remarks():
                    status(remark)


class RateLine:
    """A line on a terminal that says once a second what is being captured."""

    def __init__(self, capture: Capture, writer: RotatingWriter) -> None:
        self._capture = capture
        self._writer = writer
        self._then = time.monotonic()
        self._counts = capture.captured, writer.octets

    def show(self) -> None:
        """Rewrite the line if the second is over; to be called often."""
        now = time.monotonic()
        elapsed = now - self._then
        if elapsed < 1:
            return
        packets, octets = self._capture.captured, self._writer.octets
        before_packets, before_octets = self._counts
        self._then, self._counts = now, (packets, octets)
        self._put(
            f"{counted(packets, 'packet')}, {(packets - before_packets) / elapsed:.0f} packets/s, "
            f"{(octets - before_octets) / elapsed / 1e6:.1f} MB/s written, "
            f"{self._capture.counters().dropped} dropped"
        )

    def clear(self) -> None:
        self._put("")

    def _put(self, text: str) -> None:
        sys.stderr.write(f"\r\x1b[K{text}")  # the cursor to the start, the rest of the line empty
        sys.stderr.flush()


def import_all() -> None:
    """Import whatever a packet may need to be printed: another user may not be able to read it later."""
    import importlib
    import pkgutil

    import dpkt  # noqa: F401

    import rawkit.interop.dpkt
    import rawkit.wire

    for module in pkgutil.iter_modules(rawkit.wire.__path__, "rawkit.wire."):
        importlib.import_module(module.name)


def _check_rotation(write: str | None, size: str | None, interval_ns: int | None, files: int | None) -> None:
    """Raise what is wrong with -C, -G and -W."""
    if size is None and interval_ns is None:
        if files is not None:
            raise click.UsageError("-W needs -C or -G")
        return
    if write is None or write == "-":
        raise click.UsageError("-C and -G need -w FILE")
    if interval_ns is not None and interval_ns < 1_000_000_000:
        raise click.UsageError("-G: the shortest time is one second")
    if size is not None and interval_ns is not None and files is not None:
        raise click.UsageError("-W has no meaning with both -C and -G")


def _octets(size: str, option: str) -> int:
    """A size as tcpdump's -C has it: millions of octets, or with k, M or G KiB, MiB or GiB."""
    match = re.fullmatch(r"0*([1-9]\d{0,8})([kKmMgG]?)", size, re.ASCII)
    if match is None:
        raise click.UsageError(
            f"{option}: bad size {size!r}: expected a number, or one with k, M or G: 100 or 64k"
        )
    units = {"": 10**6, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
    return int(match[1]) * units[match[2].lower()]


def _summarize(capture: Capture, writer: RotatingWriter | None, json: JsonLines | None) -> None:
    """Say how many packets there were, and what became of them."""
    from rawkit.cli.output import escape, status

    counters = capture.counters()
    details = capture.details()
    place = ""
    if writer is not None:
        place = escape(writer.path)
        if writer.opened > 1:
            place = f"{writer.opened} files, the last is {place}"
    status(
        f"{counted(capture.captured, 'packet')} captured, {counters.received} received by the "
        f"filter, {counters.dropped} dropped by the kernel"
        + (f"; {writer.packets} written to {place}" if writer is not None else "")
    )
    parts = capture.counters_by_interface()
    for name, (part, captured) in parts.items():
        if len(parts) > 1:
            status(f"{name}: {captured} captured, {part.received} received, {part.dropped} dropped")
    if details.merged:
        name = capture.name if len(capture.interfaces) == 1 else "NAME"
        status(
            f"{counted(details.merged, 'packet')} longer than on the wire: the kernel merges segments, or "
            f"leaves cutting them to the card (ethtool -K {name} gro off gso off tso off)"
        )
    if details.undescribed:
        status(
            f"{counted(details.undescribed, 'merged SCTP packet')} dropped: the kernel cannot describe them"
        )
    if json is not None:
        json.write(
            "summary",
            interface=capture.name,
            captured=capture.captured,
            received=counters.received,
            dropped=counters.dropped,
            merged=details.merged,
            interruptions=capture.interruptions,
            interfaces=[
                {"name": name, "captured": captured, "received": part.received, "dropped": part.dropped}
                for name, (part, captured) in parts.items()
            ],
            file=None if writer is None else writer.path,
            files=None if writer is None else writer.opened,
            written=None if writer is None else writer.packets,
        )
