"""`rawkit capture`: frames from an interface, printed, written to a file, or both."""

from __future__ import annotations

import click

from rawkit.cli.lines import PacketPrinter, counted, printing_options


@click.command(
    name="capture",
    epilog="""\b
Examples:
  rawkit capture -i veth0 'tcp port 80'
  rawkit capture -c 100 -w out.pcapng
  rawkit capture -i lo --duration 5 --json icmp | jq .summary
  rawkit lab run -- sh -c 'rawkit capture -c 6 icmp & sleep 1; rawkit ping -q -c 3 10.77.0.2'

Exit status: 0, also when ended by Ctrl-C; 2 for bad input; 77 without permission.""",
)
@click.argument("filter", nargs=-1)
@click.option("-i", "--interface", help="Interface  [default: the first that is up and is not lo]")
@click.option("-c", "--count", type=click.IntRange(min=1), help="Stop after N packets.")
@click.option(
    "-w",
    "--write",
    type=click.Path(dir_okay=False, allow_dash=True),
    help="Write to a .pcapng or .pcap file, print nothing.",
)
@click.option("--tee", is_flag=True, help="With -w: print as well.")
@click.option("--duration", metavar="TIME", help="Stop after TIME: 10 (seconds), 500ms, 2min.")
@click.option("-p", "--promiscuous", is_flag=True, help="See frames for other hosts too.")
@printing_options
def command(
    filter: tuple[str, ...],
    interface: str | None,
    count: int | None,
    write: str | None,
    tee: bool,
    duration: str | None,
    promiscuous: bool,
    verbose: bool,
    dump: bool,
    style: str,
    as_json: bool,
) -> None:
    """Capture from an interface; FILTER is a tcpdump expression.

    When "capturing on" appears (on standard error), no packet can be missed any more. Ctrl-C ends the
    capture; what was captured is complete, and the counters say what the kernel had to drop.
    """
    import signal
    from contextlib import ExitStack
    from types import FrameType

    from rawkit.cli.output import JsonLines, escape, status
    from rawkit.engine import realtime_ns
    from rawkit.pcap import create_pcap
    from rawkit.pcap.writer import PcapngWriter
    from rawkit.tools.capture import Capture
    from rawkit.units import parse_duration

    if tee and write is None:
        raise click.UsageError("--tee needs -w FILE")
    if write == "-" and (tee or as_json):
        raise click.UsageError("-w - gives standard output to the file: nothing else can be printed there")
    expression = " ".join(filter)
    with ExitStack() as stack:
        capture = stack.enter_context(
            Capture(
                interface,
                expression,
                count=count,
                duration_ns=None if duration is None else parse_duration(duration),
                promiscuous=promiscuous,
            )
        )

        def stop(number: int, _: FrameType | None) -> None:
            capture.stop()

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            stack.callback(signal.signal, number, signal.signal(number, stop))
        name = capture.interface.name
        json = JsonLines("capture") if as_json else None
        printer = None if write and not tee else PacketPrinter(style, tree=verbose, dump=dump, json=json)
        writer = None
        if write is not None:
            writer = create_pcap(write, linktype=capture.linktype)
            stack.enter_context(writer)
            if isinstance(writer, PcapngWriter):
                writer.add_interface(name, capture.linktype, filter=expression)
        status(f"capturing on {name}" + (f", filter {expression!r}" if expression else ""))
        if not capture.interface.up:
            status(f"{name} is down: packets will come when it is up")
        try:
            for frames in capture.batches():
                for frame in frames:
                    if writer is not None:
                        writer.write(frame)
                    if printer is not None:
                        printer.write(frame)
                if writer is not None:
                    writer.flush()
        finally:
            capture.close()
            counters = capture.counters()
            try:
                if isinstance(writer, PcapngWriter):
                    now_ns = realtime_ns()
                    writer.write_statistics(
                        name,
                        accepted=counters.received,
                        dropped=counters.dropped,
                        os_dropped=counters.dropped,
                        delivered=capture.captured,
                        time_ns=now_ns,
                        start_ns=capture.opened_ns,
                        end_ns=now_ns,
                    )
                if writer is not None:
                    writer.close()
            finally:
                # Told also when the disk is full, or the interface gone; the error follows.
                written = None if writer is None else writer.packets
                status(
                    f"{counted(capture.captured, 'packet')} captured, {counters.received} received by the "
                    f"filter, {counters.dropped} dropped by the kernel"
                    + (f"; {written} written to {escape(write)}" if write else "")
                )
                if capture.interruptions:
                    status(f"{name} went down {counted(capture.interruptions, 'time')} meanwhile")
                if json is not None:
                    json.write(
                        "summary",
                        interface=name,
                        captured=capture.captured,
                        received=counters.received,
                        dropped=counters.dropped,
                        interruptions=capture.interruptions,
                        file=write,
                        written=written,
                    )
