"""`rawkit trace`: a line for each hop, a table, a table that lives, JSON lines, or a picture of the paths."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.table import Table

    from rawkit.cli.output import JsonLines
    from rawkit.tools.trace import Trace, TraceEvent, TraceHop, TraceNode

_LINES_COUNT, _REPORT_COUNT = 3, 10
_NAMES_NS = 2_000_000_000  # to wait for names before a line or a table without them
_TIMES_MAX = 5  # written one by one
_REDRAWS = 8  # of a live table, per second


@click.command(
    name="trace",
    epilog="""\b
Examples:
  rawkit trace 192.0.2.1
  rawkit trace -T -p 443 --flows 16 --svg paths.svg www.example.com
  rawkit trace --live --names 2001:db8::1
  rawkit trace --mtu --json 192.0.2.1 | jq 'select(.type == "hop").nodes[].mtu'

Exit status: 0 when the target has answered, 1 when it has not, 2 for bad input, 77 when no kind of socket
that the method can use is allowed, 130 when interrupted (but not with --live).""",
)
@click.argument("target")
@click.option("-U", "--udp", "method", flag_value="udp", default="udp", help="UDP probes  [default]")
@click.option("-I", "--icmp", "method", flag_value="icmp", help="ICMP echo requests.")
@click.option("-T", "--tcp", "method", flag_value="tcp", help="TCP SYN; needs CAP_NET_RAW.")
@click.option("--sctp", "method", flag_value="sctp", help="SCTP INIT; needs CAP_NET_RAW.")
@click.option(
    "-p", "--port", type=click.IntRange(1, 65535), help="Of the target  [default: 33434 for UDP, 80]"
)
@click.option(
    "--flows",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    metavar="N",
    help="Try so many flows, which may take different paths.",
)
@click.option("-f", "--first", type=click.IntRange(1, 255), default=1, show_default=True, help="First hop.")
@click.option(
    "-m", "--max-hops", type=click.IntRange(1, 255), default=30, show_default=True, help="Last hop at most."
)
@click.option(
    "-q",
    "-c",
    "--count",
    type=click.IntRange(min=1),
    help="Probes to each hop, of each flow  [default: 3; 10 with --report, no end with --live]",
)
@click.option(
    "-i",
    "--interval",
    metavar="TIME",
    help="Between rounds of probes to all hops  [default: none; 1s with --report and --live]",
)
@click.option(
    "-w",
    "--wait",
    metavar="TIME",
    default="2",
    show_default=True,
    help="How long to wait for an answer at most.",
)
@click.option(
    "--retries",
    type=click.IntRange(0, 100),
    default=2,
    show_default=True,
    metavar="N",
    help="Repeat a flow's probe that goes unanswered where others are answered: routers limit their answers.",
)
@click.option(
    "--rate",
    type=click.FloatRange(0, 1e6, min_open=True),
    default=1000.0,
    show_default=True,
    metavar="PPS",
    help="Probes per second at most.",
)
@click.option(
    "--ahead",
    type=click.IntRange(1, 255),
    default=8,
    show_default=True,
    metavar="N",
    help="Hops beyond the known ones to probe at the same time.",
)
@click.option("-s", "--size", type=click.IntRange(34, 65535), help="Octets of an IP packet of UDP or ICMP.")
@click.option("--mtu", is_flag=True, help="Find the path MTU, and where it gets smaller.")
@click.option("--interface", default="", metavar="IFACE", help="Interface to send and hear on.")
@click.option("-4", "ipv4", is_flag=True, help="IPv4 only.")
@click.option("-6", "ipv6", is_flag=True, help="IPv6 only.")
@click.option("--names/-n", "names", default=False, help="Look up host names, or not  [default: not]")
@click.option("-r", "--report", is_flag=True, help="A table at the end.")
@click.option("--live", is_flag=True, help="A table that is kept up to date, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line; times are nanoseconds.")
@click.option(
    "--dot", "dot_path", type=click.Path(dir_okay=False), help="Write the paths for Graphviz to a file."
)
@click.option("--svg", "svg_path", type=click.Path(dir_okay=False), help="Draw the paths into a file.")
def command(
    target: str,
    method: str,
    port: int | None,
    flows: int,
    first: int,
    max_hops: int,
    count: int | None,
    interval: str | None,
    wait: str,
    retries: int,
    rate: float,
    ahead: int,
    size: int | None,
    mtu: bool,
    interface: str,
    ipv4: bool,
    ipv6: bool,
    names: bool,
    report: bool,
    live: bool,
    as_json: bool,
    dot_path: str | None,
    svg_path: str | None,
) -> int:
    """Show the routers on the way to TARGET, an address or a host name.

    All hops are probed at the same time, and the probes of a flow look alike to routers that spread traffic
    over several paths: what is shown is a path that packets take. --flows looks for the others.
    """
    import time
    from contextlib import ExitStack

    from rawkit.cli.errors import INTERRUPTED, NEGATIVE, SUCCESS
    from rawkit.cli.names import Names
    from rawkit.tools.trace import Trace, TraceConfig
    from rawkit.units import parse_duration

    if ipv4 and ipv6:
        raise click.UsageError("-4 and -6 exclude each other")
    if report + live + as_json > 1:
        raise click.UsageError("--report, --live and --json exclude each other")
    if count is None and not live:
        count = _REPORT_COUNT if report else _LINES_COUNT
    try:
        config = TraceConfig(
            method=method,
            port=port,
            flows=flows,
            first_hop=first,
            max_hops=max_hops,
            count=count,
            interval_ns=parse_duration(interval or ("1s" if report or live else "0")),
            timeout_ns=parse_duration(wait),
            retries=retries,
            rate=rate,
            ahead=ahead,
            size=size,
            mtu=mtu,
            family=4 if ipv4 else 6 if ipv6 else 0,
            interface=interface,
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    interrupted = False
    begin_ns = time.monotonic_ns()
    with ExitStack() as stack:
        session = stack.enter_context(Trace(target, config))
        # Opened before there is anything to lose.
        dot, svg = (
            path and stack.enter_context(open(path, "w", encoding="utf-8")) for path in (dot_path, svg_path)
        )
        label = Names().label if names else _address_only
        show = (_Json if as_json else _Live if live else _Report if report else _Lines)(session, label)
        try:
            for event in session:
                show.add(event)
        except KeyboardInterrupt:
            interrupted = True
        finally:
            show.end(time.monotonic_ns() - begin_ns)
        if dot:
            dot.write(session.graph().to_dot())
        if svg:
            svg.write(session.graph().to_svg())
    if interrupted and not live:
        return INTERRUPTED
    return SUCCESS if session.reached else NEGATIVE


Label = Callable[[str, int], str]
"""What to call an address, known by a moment of the monotonic clock."""


def _address_only(address: str, end_ns: int) -> str:
    return address


class _Lines:
    """A line for each hop as soon as it and those before it are complete, as traceroute has them."""

    def __init__(self, session: Trace, label: Label) -> None:
        from rawkit.cli.output import emit, escape

        self._session = session
        self._label = label
        self._next = session.config.first_hop
        self._rtts: dict[int, list[tuple[str, int]]] = {}
        emit(escape(heading(session)))

    def add(self, event: TraceEvent) -> None:
        from rawkit.tools.trace import TraceAnswer, TraceError

        if isinstance(event, TraceAnswer) and not event.duplicate and event.kind != "too big":
            self._rtts.setdefault(event.hop, []).append((event.address, event.rtt_ns))
        elif isinstance(event, TraceError):
            from rawkit.cli.output import escape, status

            status(escape(f"hop {event.hop}, flow {event.flow}: {event.text}"))
        while self._next <= self._session.last_hop and self._session.is_complete(self._next):
            self._show(self._next)

    def _show(self, number: int) -> None:
        from rawkit.cli.output import emit, escape

        lines = hop_lines(self._session.hop(number), self._rtts.pop(number, []), self._label)
        self._next = number + 1  # before Ctrl-C can come while a line is on its way
        for line in lines:
            emit(escape(line))

    def end(self, duration_ns: int) -> None:
        # Interrupted: what is known of the hops that were not complete.
        for hop in self._session.hops():
            if hop.hop >= self._next:
                self._show(hop.hop)
        _remarks(self._session)


class _Report:
    """A table at the end."""

    def __init__(self, session: Trace, label: Label) -> None:
        from rawkit.cli.output import emit, escape

        self._session = session
        self._label = label
        emit(escape(heading(session)))

    def add(self, event: TraceEvent) -> None:
        pass

    def end(self, duration_ns: int) -> None:
        from rawkit.cli.output import console

        console().print(table(self._session, self._label, _NAMES_NS))
        _remarks(self._session)


class _Live:
    """The table on a terminal, drawn again and again."""

    def __init__(self, session: Trace, label: Label) -> None:
        from rich.console import Group
        from rich.live import Live
        from rich.text import Text

        from rawkit.cli.output import console, escape

        self._session = session
        terminal = console()
        if not terminal.is_terminal:
            raise click.UsageError("--live needs a terminal; --report does without")
        title = Text(escape(heading(session)))
        self._live = Live(
            get_renderable=lambda: Group(title, table(session, label)),
            console=terminal,
            refresh_per_second=_REDRAWS,
            # A thread of rich's would look at the session while events change it.
            auto_refresh=False,
        )
        self._drawn_ns = 0
        self._live.start()

    def add(self, event: TraceEvent) -> None:
        import time

        now_ns = time.monotonic_ns()
        if now_ns - self._drawn_ns >= 1_000_000_000 // _REDRAWS:
            self._drawn_ns = now_ns
            self._live.refresh()

    def end(self, duration_ns: int) -> None:
        self._live.refresh()
        self._live.stop()
        _remarks(self._session)


class _Json:
    """Every answer at once, and at the end the hops, the paths and a summary."""

    def __init__(self, session: Trace, label: Label) -> None:
        from rawkit.cli.output import JsonLines

        self._session = session
        self._json: JsonLines = JsonLines("trace")
        self._json.write(
            "session",
            target=session.name,
            address=session.target,
            source=session.source,
            sockets=session.socket_kind,
            config=session.config,
        )

    def add(self, event: TraceEvent) -> None:
        from rawkit.tools.trace import TraceSent

        if not isinstance(event, TraceSent):
            kind = type(event).__name__.removeprefix("Trace").lower()
            self._json.write(kind, **{name: getattr(event, name) for name in type(event).__slots__})

    def end(self, duration_ns: int) -> None:
        session = self._session
        for kind, items in (("hop", session.hops()), ("path", session.paths())):
            for item in items:
                self._json.write(kind, **{name: getattr(item, name) for name in type(item).__slots__})
        self._json.write(
            "summary",
            reached=session.reached,
            hops=len(session.hops()),
            paths=len({path.addresses for path in session.paths()}),
            unmatched=session.unmatched,
            dropped=session.dropped,
            duration_ns=duration_ns,
        )


def _remarks(session: Trace) -> None:
    """What the result does not show, on standard error."""
    from rawkit.cli.output import status

    if session.unmatched:
        status(f"{session.unmatched} ICMP errors quoted too little to tell which probe they are about")
    if session.dropped:
        status(f"{session.dropped} packets were dropped because the receive buffer was full")


def heading(session: Trace) -> str:
    """The first line: what is traced, from where, and how."""
    config = session.config
    how = config.method.upper() + (f" port {session.port}" if session.port else "")
    flows = f", {config.flows} flows" if config.flows > 1 else ""
    named = (
        str(session.target) if session.name == str(session.target) else f"{session.name} ({session.target})"
    )
    return (
        f"trace to {named} from {session.source}, {how}{flows}, "
        f"{config.max_hops} hops max, {session.size} octet packets"
    )


def hop_lines(hop: TraceHop, rtts: list[tuple[str, int]], label: Label) -> list[str]:
    """A hop as traceroute writes it, a line for each address; `rtts` are addresses and times in ns."""
    import time

    lines = []
    end_ns = time.monotonic_ns() + _NAMES_NS
    for node in hop.nodes:
        if node.received > _TIMES_MAX:
            figures = (node.min_ns, node.avg_ns, node.max_ns)
            times = "/".join(f"{ns / 1e6:.3f}" for ns in figures) + f" ms min/avg/max of {node.received}"
        else:
            times = "  ".join(f"{ns / 1e6:.3f} ms" for address, ns in rtts if address == node.address)
        lines.append(f"{label(node.address, end_ns)}  {times}{''.join(remarks(node))}")
    if hop.lost:
        stars = " ".join("*" * min(hop.lost, 3)) + (f" ({hop.lost} lost)" if hop.lost > 3 else "")
        lines = [f"{lines[0]}  {stars}", *lines[1:]] if lines else [stars]
    several = len(hop.nodes) > 1
    return [
        f"{hop.hop if i == 0 else '':>2}  {line}{_flows_of(hop.nodes[i]) if several else ''}"
        for i, line in enumerate(lines or ["*"])
    ]


def _flows_of(node: TraceNode) -> str:
    from rawkit.tools.tracegraph import flow_list

    return f"  [{flow_list(node.flows)}]"


def remarks(node: TraceNode) -> list[str]:
    """What there is to say of a node besides its times."""
    texts = [f"!{node.text}"] if node.kind == "unreachable" else []
    if node.mtu is not None:
        texts.append(f"mtu {node.mtu}")
    texts += [
        f"MPLS label {label.label} tc {label.traffic_class} ttl {label.ttl}{' S' if label.bottom else ''}"
        for label in node.mpls
    ]
    for interface in node.interfaces:
        facts = [interface.name, interface.address, interface.ifindex and f"#{interface.ifindex}"]
        mtu = f" mtu {interface.mtu}" if interface.mtu is not None else ""
        texts.append(f"{interface.role} {' '.join(str(fact) for fact in facts if fact)}{mtu}")
    return [f"  [{text}]" for text in texts]


def table(session: Trace, label: Label, wait_ns: int = 0) -> Table:
    """The hops as mtr shows them; times are milliseconds. Names are waited for `wait_ns` in all."""
    import time

    from rich.table import Table

    from rawkit.cli.output import escape

    end_ns = time.monotonic_ns() + wait_ns
    columns = Table(box=None, pad_edge=False, header_style="")
    columns.add_column("HOP", justify="right")
    columns.add_column("ADDRESS", overflow="fold")
    for name in ("LOSS", "SENT", "LAST", "AVG", "BEST", "WORST", "STDEV"):
        columns.add_column(name, justify="right", no_wrap=True)
    for hop in session.hops():
        about = [f"{hop.loss:.1%}", str(hop.sent)]
        if not hop.nodes:
            columns.add_row(str(hop.hop), "*", *about)
        for i, node in enumerate(hop.nodes):
            figures = (node.last_ns, node.avg_ns, node.min_ns, node.max_ns, node.mdev_ns)
            which = _flows_of(node) if len(hop.nodes) > 1 else ""
            columns.add_row(
                "" if i else str(hop.hop),
                escape("".join([label(node.address, end_ns), which, *remarks(node)])),
                *(["", ""] if i else about),
                *(f"{figure / 1e6:.3f}" for figure in figures),
            )
    return columns
