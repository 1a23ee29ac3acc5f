"""`rawkit replay`: send the packets of a capture file, each at its time."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from rawkit.cli.output import counted, refuse_overwriting
from rawkit.cli.rewriting import rewrite_options, take_rewrite

if TYPE_CHECKING:
    from rawkit.tools.replay import ReplayReport
    from rawkit.tools.replayplan import ReplayConfig


_EXPECT_OPTIONS = {
    "file", "expect", "ignore", "wait", "as_json", "interface", "speed", "pps", "mbps", "topspeed", "limit",
    "skip", "start", "mtu", "as_is",
    "dst_mac", "src_mac", "maps", "src_maps", "dst_maps", "port_maps", "vlan_add", "vlan_remove", "ttl",
    "dscp", "fix_checksums",
}  # fmt: skip
_ABOVE_0 = click.FloatRange(min=0, min_open=True)


@click.command(
    name="replay",
    epilog="""\b
Examples:
  rawkit replay http.pcapng -i veth0                  at the pace of the capture
  rawkit replay http.pcapng -i veth0 -x 10            ten times as fast
  rawkit replay http.pcapng -i veth0 --pps 1000 -l 5  five times over, 1000 a second
  rawkit replay http.pcapng -i veth0 --map 10.0.0.0/8=192.0.2.0/24 --dst-mac 00:00:5e:00:53:02
  rawkit replay http.pcapng -i veth0 -t -l 100 --loop-map 10.0.0.0/24=10.1.0.0/24
  rawkit replay http.pcapng -i veth0 -I veth1         clients' packets on veth0, servers' on veth1
  rawkit replay http.pcapng -i veth0 --topspeed --json | jq .timing_error
  rawkit replay http.pcapng --payload --to 127.0.0.1:8080    the requests again, and are the answers the same?
  rawkit replay http.pcapng -i veth0 --expect --dst-mac 00:00:5e:00:53:02 --map 10.77.0.1=10.77.0.99

Exit status: 0 when every packet went out, or with --payload and --expect all answers are the same; 1 when
not; 2 for bad input; 77 without permission; 130 when interrupted.""",
)
@click.argument("file", type=click.Path(dir_okay=False, readable=False, allow_dash=True))
@click.option("-i", "--interface", help="Ethernet interface to send on.")
@click.option(
    "-I",
    "--intf2",
    "interface2",
    metavar="IFACE",
    help="Send what servers sent on this one, and on the other what clients sent.",
)
@click.option("-x", "--speed", type=_ABOVE_0, help="Multiply the capture's pace.  [default: 1]")
@click.option("-p", "--pps", type=_ABOVE_0, help="A steady rate, in packets per second.")
@click.option("-M", "--mbps", type=_ABOVE_0, help="A steady rate, in Mbit/s of frames.")
@click.option("-t", "--topspeed", is_flag=True, help="As fast as the interface takes them.")
@click.option(
    "-o", "--one-at-a-time", is_flag=True, help="Show each packet and wait for Enter before it goes."
)
@click.option("-l", "--loop", type=click.IntRange(min=1), default=1, help="Send the file N times over.")
@click.option("-L", "--limit", type=click.IntRange(min=1), help="Send N packets at most.")
@click.option(
    "--loop-delay",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="SECONDS",
    help="Wait so long between two times.",
)
@click.option(
    "--loop-map",
    "loop_maps",
    metavar="A=B",
    multiple=True,
    help="Addresses of prefix A get prefix B the first time over, the network behind it the next, and so on.",
)
@click.option("--skip", type=click.IntRange(min=0), default=0, help="Pass over the first N packets.")
@click.option(
    "--start",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="SECONDS",
    help="Begin so far into the capture.",
)
@click.option("--duration", type=_ABOVE_0, metavar="SECONDS", help="End after this long.")
@rewrite_options
@click.option(
    "--mtu", type=click.IntRange(min=68), help="Cut longer packets to this.  [default: the interface's]"
)
@click.option("--as-is", is_flag=True, help="Neither cut packets nor complete checksums left to hardware.")
@click.option(
    "--backend",
    type=click.Choice(["auto", "packet", "af-xdp", "xdp"]),
    default="auto",
    show_default=True,
    help="How to send; af-xdp, and xdp (live frames), are for --topspeed.",
)
@click.option("--no-spin", is_flag=True, help="Sleep until each deadline, sparing the CPU; less exact.")
@click.option(
    "--dry-run",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Write what would be sent, send nothing.",
)
@click.option(
    "--payload",
    is_flag=True,
    help="Let real sockets say what clients said; see above.",
)
@click.option(
    "--expect",
    is_flag=True,
    help="Send clients' packets only, and compare the answers with the servers'; see above.",
)
@click.option(
    "--ignore",
    metavar="FIELD",
    multiple=True,
    help="With --expect: a field that need not be the same, as IPv4.ttl; repeatable.",
)
@click.option(
    "--to",
    metavar="HOST[:PORT]",
    help='Where --payload connects; "captured": to the servers of the capture.',
)
@click.option(
    "--wait",
    type=click.FloatRange(min=0, min_open=True, max=10**9),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="So long without an octet ends the waiting for an answer.",
)
@click.option("--plot", is_flag=True, help="Draw how late packets went.")
@click.option("--json", "as_json", is_flag=True, help="The report as JSON lines.")
def command(file: str, no_spin: bool, dry_run: str | None, as_json: bool, plot: bool, **options: Any) -> int:
    """Send the packets of FILE (pcap or pcapng) on an interface, each at its time.

    Each packet has an absolute deadline, so errors do not add up. Packets that are longer than the
    interface's MTU (captures of offloading hosts have them) are cut as a network card or a router would.
    Checksums follow what is changed: good ones stay good and bad ones bad; those left to hardware are
    completed. The report says how many packets were sent, what failed and why, and how late packets went
    against plan.

    With --payload no packet of the file is sent. For each of its TCP connections, and its UDP ports, a socket
    connects to --to, says what the client said with the same gaps, and compares what comes back with what the
    server said: octet for octet, of HTTP/1 status and content. Needs no privilege; works on loopback.

    With --expect the packets of clients are sent, each after the answers that it had waited for, and every
    answer is compared with the file's, field by field; TCP's numbers may begin elsewhere, and nothing is
    expected of identifications, windows, time stamps and link-layer addresses. --wait without one ends it.
    """
    import signal
    from dataclasses import replace
    from types import FrameType

    from rawkit.cli.errors import INTERRUPTED, NEGATIVE, SUCCESS
    from rawkit.cli.output import emit, escape, status
    from rawkit.pcap import open_pcap
    from rawkit.tools.replay import Replay, dry_run_to
    from rawkit.tools.replayplan import ReplayConfig
    from rawkit.tools.rewrite import parse_prefix_map

    wait, to, ignore = options.pop("wait"), options.pop("to"), options.pop("ignore")
    expects = options.pop("expect")
    if options.pop("payload"):
        from rawkit.cli.replaypayload import play

        return play(file, to, wait, options, as_json)
    if to is not None:
        raise click.UsageError("--to goes with --payload")
    if options["interface"] is None:
        raise click.UsageError("Missing option '-i' / '--interface'")
    if expects:
        from rawkit.cli.replaypayload import refuse_others

        refuse_others(_EXPECT_OPTIONS, "--expect goes by the answers")
    elif ignore:
        raise click.UsageError("--ignore goes with --expect")
    one_by_one = options.pop("one_at_a_time")
    if sum([one_by_one, *(bool(options[name]) for name in ("speed", "pps", "mbps", "topspeed"))]) > 1:
        raise click.UsageError("--speed, --pps, --mbps, --topspeed and --one-at-a-time exclude each other")
    options["topspeed"] |= one_by_one
    if options["interface2"] and options["backend"] in ("xdp", "af-xdp"):
        raise click.UsageError("--intf2 needs the packet backend")
    options["speed"] = options["speed"] or 1.0
    loop_maps = [replace(parse_prefix_map(text), counts=True) for text in options.pop("loop_maps")]
    rewrite = take_rewrite(options)
    options["rewrite"] = replace(rewrite, prefixes=(*loop_maps, *rewrite.prefixes))
    if options["as_is"] and options["rewrite"].is_wanted:
        raise click.UsageError("--as-is and changes to packets exclude each other")
    if plot and (as_json or options["topspeed"] or dry_run is not None):
        raise click.UsageError("--plot needs times, and words: not --topspeed, --dry-run or --json")
    try:
        config = ReplayConfig(**options, spin_ns=0 if no_spin else None)
    except ValueError as error:
        raise click.UsageError(str(error).removeprefix("replay: ")) from None
    if expects:
        from rawkit.cli.replayexpect import expect

        return expect(file, config, wait, ignore, as_json)
    with open_pcap(file) as reader:
        if dry_run is not None:
            refuse_overwriting(dry_run, file)
            planned = dry_run_to(dry_run, reader, config)
            status(f"{counted(planned.planned, 'packet')} written to {escape(dry_run)}, nothing sent")
            _tell(planned, config, file, as_json, sent=False)
            return 1 if planned.skipped else 0
        run = Replay(reader, config, _ask(file) if one_by_one else None)
        report = run.report
        interrupted = False

        def stop(number: int, _: FrameType | None) -> None:
            nonlocal interrupted
            interrupted = True
            run.stop()

        before = signal.signal(signal.SIGINT, stop)
        try:
            for _ in run:
                pass
        finally:
            signal.signal(signal.SIGINT, before)
            _tell(report, config, file, as_json)
            for line in _lateness_lines(report) if plot else []:
                emit(line)
    if interrupted:
        return INTERRUPTED
    return NEGATIVE if report.failed or report.skipped else SUCCESS


def _ask(file: str) -> Callable[[bytes], bool]:
    """Something that shows a packet and says whether it is to go: Enter; not at q or the end of input."""
    from rawkit.cli.output import escape
    from rawkit.wire.packet import Packet

    # Standard input may be the capture file.
    answers = open("/dev/tty", encoding="utf-8") if file == "-" else sys.stdin  # noqa: SIM115

    def ask(octets: bytes) -> bool:
        click.echo(f"{escape(Packet.parse(octets).summary())}  [Enter sends, q ends] ", err=True, nl=False)
        answer = answers.readline()
        return answer != "" and answer.strip().lower() not in ("q", "quit")

    return ask


def _tell(report: ReplayReport, config: ReplayConfig, file: str, as_json: bool, sent: bool = True) -> None:
    """The report, in words or as JSON."""
    from rawkit.cli.output import JsonLines, emit

    if as_json:
        JsonLines("replay").write("report", file=file, **report.to_dict())
        return
    for line in _sent_lines(report) if sent else []:
        emit(line)
    for line in _changes(report, config.rewrite.is_wanted):
        emit(line)
    counts = [("failed", report.failed), ("skipped", report.skipped)]
    for what, causes in counts:
        for cause, count in causes.items():
            emit(f"{count} {what}: {cause}")
    if sent and report.unsent:
        emit(f"{report.unsent} more read, not sent")


def _changes(report: ReplayReport, wanted: bool) -> list[str]:
    """What is different from the file."""
    lines = []
    if report.cut:
        lines.append(f"{counted(report.cut, 'packet')} longer than the MTU cut into {report.pieces}")
    if report.finished:
        lines.append(f"{counted(report.finished, 'checksum')} completed that had been left to hardware")
    if wanted:  # also when that is none
        lines.append(f"{counted(report.changed, 'packet')} changed")
    return lines


def _lateness_lines(report: ReplayReport) -> list[str]:
    """How many packets went how late, a line for each power of two."""
    import shutil

    if not report.lateness:
        return []
    room = max(shutil.get_terminal_size().columns - 40, 10)
    most = max(report.lateness.values())
    lines = []
    below = min(report.lateness)
    while below <= max(report.lateness):
        n = report.lateness.get(below, 0)
        bar = "█" * round(n / most * room) or ("▏" if n else "")
        lines.append(f"{below // 2 / 1000:>12,.3f} to {below / 1000:>12,.3f} us │{bar} {n or ''}".rstrip())
        below *= 2
    return lines


def _sent_lines(report: ReplayReport) -> list[str]:
    """What was sent, and how well in time."""
    seconds = report.duration_ns / 1e9
    where = report.interface + (f" and {report.interface2}" if report.interface2 else "")
    line = (
        f"{counted(report.sent, 'packet')}, {counted(report.octets, 'octet')} sent on {where} "
        f"in {seconds:.6f} s"
    )
    if report.pps:
        line += f" ({report.pps:,.0f} packets/s)"
    how = f"by backend {report.backend}: {report.backend_reason}"
    if report.counted is not None:
        how += f"; the interface counted {counted(report.counted, 'packet')}"
    error = report.timing_error
    if error is None:
        return [line, how]
    median, p99, worst = (f"{ns / 1000:.1f}" for ns in (error.median_ns, error.p99_ns, error.max_ns))
    return [
        line,
        how,
        f"late by {median} us (median), {p99} us (p99), {worst} us (max), by {report.lateness_by}",
    ]
