"""`rawkit ping`: echo requests, an output like that of the ping everybody knows, or JSON lines."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TextIO

import click

if TYPE_CHECKING:
    from types import FrameType

    from rawkit.tools.ping import Ping, PingConfig, PingEvent, PingSummary
    from rawkit.tools.probeping import ProbePing
    from rawkit.tools.sweep import SweepResult, SweepSummary

MIN_INTERVAL_NS = 2_000_000
"""The shortest interval that an ordinary user may ask for, as with iputils' ping."""


@click.command(
    name="ping",
    epilog="""\b
Examples:
  rawkit ping -c 3 192.0.2.1
  rawkit ping -6 -i 200ms -W 500ms www.example.com
  rawkit ping -c 1 192.0.2.0/29 192.0.2.99
  rawkit ping -c 100 -q --json 192.0.2.1 | jq .p99_ns
  rawkit ping --tcp 443 www.example.com
  rawkit ping --pmtu www.example.com
  rawkit ping --plot -i 100ms 192.0.2.1
  rawkit ping -g 192.0.2.0/24 -a
  rawkit ping -f hosts.txt -c 10 -q --json

Exit status: 0 when every target has answered (interrupted: any target; with -x N: N of them), 1 when one has
not, 2 for bad input, 77 when no kind of socket is allowed, 130 for a sweep that was interrupted.""",
)
@click.argument("targets", metavar="TARGET...", nargs=-1)
@click.option("-c", "--count", type=click.IntRange(min=1), help="Requests to each target  [default: no end]")
@click.option(
    "-i",
    "--interval",
    metavar="TIME",
    default="1",
    show_default=True,
    help="Between requests to a target: 0.2 (seconds), 50ms.",
)
@click.option(
    "-W", "--timeout", metavar="TIME", default="1", show_default=True, help="How long to wait for each reply."
)
@click.option(
    "-s", "--size", type=click.IntRange(0, 65527), default=56, show_default=True, help="Octets of payload."
)
@click.option(
    "-t", "--ttl", type=click.IntRange(1, 255), default=64, show_default=True, help="Time to live, hop limit."
)
@click.option("-I", "--interface", default="", help="Interface to send and hear on.")
@click.option("-4", "ipv4", is_flag=True, help="IPv4 only.")
@click.option("-6", "ipv6", is_flag=True, help="IPv6 only.")
@click.option(
    "-f",
    "--file",
    "files",
    type=click.File("r", encoding="utf-8"),
    multiple=True,
    metavar="FILE",
    help="Sweep the targets in FILE, one a line, # begins a comment; - for standard input.",
)
@click.option(
    "-g", "--generate", is_flag=True, help="Sweep prefixes, ranges, or from a first to a last address."
)
@click.option("-a", "--alive", is_flag=True, help="Sweep, and show who is alive only.")
@click.option("-u", "--unreachable", is_flag=True, help="Sweep, and show who is not.")
@click.option(
    "-r", "--retries", type=click.IntRange(0, 100), help="Sweeps: how often to ask again  [default: 1]"
)
@click.option("--rate", type=float, metavar="PPS", help="Sweeps: requests per second at most.")
@click.option(
    "-x",
    "--reachable",
    type=click.IntRange(min=1),
    metavar="N",
    help="Sweeps: success when N hosts are alive.",
)
@click.option("--tcp", "tcp_port", metavar="PORT", help="Ask a TCP port: open or closed, both are answers.")
@click.option("--udp", "udp_port", metavar="PORT", help="Ask a UDP port: data or port unreachable.")
@click.option("--arp", is_flag=True, help="Ask on the link: ARP, neighbour discovery for IPv6.")
@click.option("--pmtu", is_flag=True, help="Find how long packets may be on the way (path MTU).")
@click.option("-b", "--broadcast", is_flag=True, help="Allow a target that stands for many; all may answer.")
@click.option("-A", "--adaptive", is_flag=True, help="Send the next request as soon as one is answered.")
@click.option("-w", "--deadline", metavar="TIME", help="End after this long, whatever is still missing.")
@click.option("-D", "--timestamps", is_flag=True, help="Put the time of day before each line.")
@click.option(
    "-n", "--numeric", is_flag=True, expose_value=False, help="Accepted; names are never looked up."
)
@click.option("-Q", "--tos", metavar="TOS", default="0", help="Type of service, traffic class: 0..255, 0x...")
@click.option(
    "-M",
    "--fragment",
    type=click.Choice(["do", "want", "dont", "probe"]),
    default=None,
    help="Whether long requests may be fragmented: do forbids it.",
)
@click.option("-p", "--pattern", metavar="HEX", default="", help="Up to 16 octets that fill the payload.")
@click.option("--live", is_flag=True, help="One line for each target, kept up to date; needs a terminal.")
@click.option("--plot", is_flag=True, help="Draw the times as they pass, and a histogram; needs a terminal.")
@click.option("-q", "--quiet", is_flag=True, help="Only the beginning and the statistics.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line; times are nanoseconds.")
def command(
    targets: tuple[str, ...],
    count: int | None,
    interval: str,
    timeout: str,
    size: int,
    ttl: int,
    interface: str,
    ipv4: bool,
    ipv6: bool,
    files: tuple[TextIO, ...],
    generate: bool,
    alive: bool,
    unreachable: bool,
    retries: int | None,
    rate: float | None,
    reachable: int | None,
    tcp_port: str | None,
    udp_port: str | None,
    arp: bool,
    pmtu: bool,
    broadcast: bool,
    adaptive: bool,
    deadline: str | None,
    timestamps: bool,
    tos: str,
    fragment: str | None,
    pattern: str,
    live: bool,
    plot: bool,
    quiet: bool,
    as_json: bool,
) -> int:
    """Ask hosts whether they are there, and measure how long the answer takes.

    A TARGET is an address, a host name, a prefix (192.0.2.0/29) or a range (192.0.2.1-9). Several are asked
    at the same time, with 1 ms at least between two requests. Ctrl-C ends with the statistics, Ctrl-\\ prints
    a line of them and goes on.

    With -f, -g, -a or -u it is a sweep: thousands of targets from one socket, each asked once (-c N: N
    times), as fast as answers come back, or 1000 a second towards public addresses.
    """
    import signal

    from rawkit.cli.errors import NEGATIVE, SUCCESS
    from rawkit.cli.output import JsonLines, emit, escape, status
    from rawkit.units import parse_duration

    if (live or plot) and (as_json or quiet or not sys.stdout.isatty()):
        raise click.UsageError(f"{'--plot' if plot else '--live'} needs a terminal, and no -q or --json")
    if ipv4 and ipv6:
        raise click.UsageError("-4 and -6 exclude each other")
    family = 4 if ipv4 else 6 if ipv6 else 0
    interval_ns = parse_duration(interval)
    if files or generate or alive or unreachable:
        single = {
            "--tcp": tcp_port, "--udp": udp_port, "--arp": arp, "--pmtu": pmtu, "-b": broadcast,
            "-A": adaptive, "-w": deadline, "-D": timestamps, "-M": fragment, "-p": pattern,
            "-Q": tos != "0", "--live": live, "--plot": plot,
        }  # fmt: skip
        if given := [name for name, value in single.items() if value]:
            raise click.UsageError(f"{given[0]} is not for sweeps (-f, -g, -a, -u)")
        from rawkit.cli.pingsweep import SweepOptions, run_sweep

        return run_sweep(
            SweepOptions(
                targets=gather_targets(targets, files, generate),
                family=family,
                count=count or 1,
                interval_ns=interval_ns,
                timeout_ns=parse_duration(timeout),
                retries=1 if retries is None else retries,
                size=size,
                ttl=ttl,
                rate=rate,
                interface=interface,
                alive=alive,
                unreachable=unreachable,
                reachable=reachable,
                quiet=quiet,
                as_json=as_json,
            )
        )
    for name, value in (("-r", retries), ("--rate", rate), ("-x", reachable)):
        if value is not None:
            raise click.UsageError(f"{name} is for sweeps: it needs -f, -g, -a or -u")
    if not targets:
        raise click.UsageError("Missing argument 'TARGET...'.")
    if sum((tcp_port is not None, udp_port is not None, arp, pmtu)) > 1:
        raise click.UsageError("--tcp, --udp, --arp and --pmtu exclude each other")
    if pmtu:
        from rawkit.cli.pingmtu import run_pmtu

        return run_pmtu(targets, family, interface, parse_duration(timeout), as_json=as_json, quiet=quiet)
    from rawkit.tools.ping import PingConfig

    try:
        config = PingConfig(
            count=count,
            interval_ns=interval_ns,
            timeout_ns=parse_duration(timeout),
            size=size,
            ttl=ttl,
            family=family,
            interface=interface,
            broadcast=broadcast,
            adaptive=adaptive,
            deadline_ns=parse_duration(deadline) if deadline is not None else 0,
            tos=_octet(tos),
            fragment=fragment or "",
            pattern=_pattern(pattern),
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    interrupted = False
    kind, port = _kind(tcp_port, udp_port, arp)
    with _session(targets, config, kind, port) as session:
        if interval_ns < MIN_INTERVAL_NS and "raw" not in session.socket_kinds.values():
            raise click.BadParameter("intervals below 2ms need CAP_NET_RAW", param_hint="'-i'")
        json = JsonLines("ping") if as_json else None

        def tell(_: int, frame: FrameType | None) -> None:
            for summary in session.summaries:
                status(running_line(summary))

        before = signal.signal(signal.SIGQUIT, tell)
        try:
            if json is not None:
                json.write("session", targets=session.targets, sockets=session.socket_kinds, config=config)
            else:
                for target in session.targets if kind != "icmp" else ():
                    way = f"{kind} port {port}" if port is not None else kind
                    emit(escape(f"PING {target.name} ({target.address}) by {way}."))
                for target in session.targets if kind == "icmp" else ():
                    whole = f"({size + 28}) bytes of data." if target.address.version == 4 else " data bytes"
                    emit(escape(f"PING {target.name} ({target.address}) {size}{whole}"))
            if live or plot:
                from rawkit.cli.pingplot import Screen

                with Screen(session, plot=plot) as screen:
                    for event in session:
                        screen.add(event)
            for event in session if not (live or plot) else ():
                if quiet:
                    continue
                if json is not None:
                    json.write(event_type(event), **event_fields(event))
                else:
                    stamp = f"[{event.time_ns / 1e9:.6f}] " if timestamps else ""
                    emit(escape(stamp + event_line(event, "icmp_seq" if kind == "icmp" else "seq")))
        except KeyboardInterrupt:
            interrupted = True
        finally:
            signal.signal(signal.SIGQUIT, before)
        summaries = session.summaries
        for summary in summaries:
            if json is not None:
                json.write("summary", **event_fields(summary))
            else:
                emit("\n" + escape(statistics_text(summary), lines=True))
    answered = [summary.received > 0 for summary in summaries]
    return SUCCESS if (any(answered) if interrupted else all(answered)) else NEGATIVE


def _octet(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no number", param_hint="'-Q'") from None


def _pattern(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no row of hexadecimal octets", param_hint="'-p'") from None


def _kind(tcp_port: str | None, udp_port: str | None, arp: bool) -> tuple[str, int | None]:
    """What is asked: "icmp", "tcp" or "udp" with the port, "arp"."""
    from rawkit.addr import parse_ports
    from rawkit.errors import TargetError

    for kind, text in (("tcp", tcp_port), ("udp", udp_port)):
        if text is not None:
            port, *more = parse_ports(text, kind)
            if more:
                raise TargetError(f"bad port {text!r}: one port is asked, these are {len(more) + 1}")
            return kind, port
    return "arp" if arp else "icmp", None


def _session(targets: tuple[str, ...], config: PingConfig, kind: str, port: int | None) -> Ping | ProbePing:
    if kind == "icmp":
        from rawkit.tools.ping import Ping

        return Ping(targets, config)
    from rawkit.tools.probeping import ProbePing

    return ProbePing(targets, kind, port, config)


def gather_targets(targets: tuple[str, ...], files: tuple[TextIO, ...], generate: bool) -> list[str]:
    """What a sweep is to ask, from the command line and from files; -g FIRST LAST is a range."""
    if generate and len(targets) == 2 and not any(char in target for target in targets for char in "/-*,"):
        targets = (f"{targets[0]}-{targets[1]}",)
    found = [target for target in targets if target != "-"]
    streams = [*files, *(sys.stdin for target in targets if target == "-")]
    try:
        for stream in streams:
            lines = (line.partition("#")[0].strip() for line in stream)
            found += filter(None, lines)
    except UnicodeDecodeError:
        raise click.UsageError("a file of targets is no text in UTF-8") from None
    return found


def event_type(event: PingEvent) -> str:
    """The "type" of an event in JSON: "reply", "timeout", "error"."""
    return type(event).__name__.removeprefix("Ping").lower()


def event_fields(event: PingEvent | PingSummary | SweepResult | SweepSummary) -> dict[str, object]:
    """An event's or summary's fields for JSON."""
    return {name: getattr(event, name) for name in type(event).__slots__}


def event_line(event: PingEvent, seq: str = "icmp_seq") -> str:
    """An event as iputils' ping writes it; `seq` is what it calls the sequence number."""
    from rawkit.tools.ping import PingReply, PingTimeout

    if isinstance(event, PingReply):
        named = event.address if event.target == event.address else f"{event.target} ({event.address})"
        remarks = [
            remark
            for remark, applies in (
                ("(DUP!)", event.duplicate),
                ("(late)", event.late),
                ("(CORRUPTED)", event.corrupted),
                ("(reordered)", event.reordered),
            )
            if applies
        ]
        ttl = f" ttl={event.ttl}" if event.ttl else ""
        what = f"{event.detail} " if event.detail else ""
        place = f"{event.size} bytes from {named}: {what}{seq}={event.seq}{ttl}"
        return " ".join([place, f"time={milliseconds(event.rtt_ns)} ms", *remarks])
    if isinstance(event, PingTimeout):
        here = "; this host dropped packets meanwhile" if event.uncertain else ""
        return f"no reply from {event.address}: {seq}={event.seq} within {event.timeout_ns / 1e6:g} ms{here}"
    if event.reporter:
        return f"From {event.reporter}: {seq}={event.seq} to {event.address}: {event.text}"
    return f"cannot send to {event.address}: {seq}={event.seq}: {event.text}"


def milliseconds(time_ns: int) -> str:
    """Four digits that matter: 0.043, 1.23, 12.3, 123."""
    value = time_ns / 1e6
    decimals = next((n for limit, n in ((0.9995, 3), (9.995, 2), (99.95, 1)) if value < limit), 0)
    return f"{value:.{decimals}f}"


def statistics_text(summary: PingSummary) -> str:
    """The block at the end."""
    extra = "".join(
        f", {sign}{number} {word}"
        for number, sign, word in (
            (summary.duplicates, "+", "duplicates"),
            (summary.corrupted, "+", "corrupted"),
            (summary.late, "", "late"),
            (summary.reordered, "", "reordered"),
            (summary.errors, "+", "errors"),
            (summary.uncertain, "", "unknown (this host dropped packets)"),
        )
        if number
    )
    in_a_row = f", {summary.loss_run} in a row" if summary.loss_run > 1 else ""
    lines = [
        f"--- {summary.target} ping statistics ---",
        f"{summary.sent} packets transmitted, {summary.received} received{extra}, "
        f"{summary.loss * 100:.4g}% packet loss{in_a_row}, time {summary.duration_ns // 1_000_000}ms",
    ]
    times = [summary.min_ns, summary.avg_ns, summary.max_ns, summary.mdev_ns]
    if summary.min_ns is not None:
        lines.append(f"rtt min/avg/max/mdev = {slashed(times)} ms")
        more = [summary.median_ns, summary.p90_ns, summary.p95_ns, summary.p99_ns, summary.jitter_ns]
        lines.append(f"rtt median/p90/p95/p99/jitter = {slashed(more)} ms")
    return "\n".join(lines)


def running_line(summary: PingSummary) -> str:
    """What SIGQUIT prints, in the middle of things."""
    line = f"{summary.address}: {summary.received}/{summary.sent} packets, {summary.loss * 100:.4g}% loss"
    if summary.min_ns is None:
        return line
    return line + f", min/avg/max = {slashed([summary.min_ns, summary.avg_ns, summary.max_ns])} ms"


def slashed(times_ns: list[int | None]) -> str:
    return "/".join(f"{(time_ns or 0) / 1e6:.3f}" for time_ns in times_ns)
