"""The commands of `rawkit transport` that make a run, or its packets, visible."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click


@click.command(
    "dissector",
    epilog="""\b
Examples:
  rawkit transport dissector courier.py:Courier -o courier.lua
  tshark -X lua_script:courier.lua -r run.pcapng
  rawkit transport dissector courier.py:CourierHeader --udp-port 4321 > courier.lua
  rawkit transport dissector rawkit.transport.protocols.go_back_n:GoBackN -O bits=8 -O window=99

Exit status: 0; 2 for bad input.""",
)
@click.argument("place", metavar="MODULE:CLASS")
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="A file, in place of standard output.")
@click.option("-O", "--option", "options", multiple=True, metavar="NAME=VALUE", help="Of a protocol class.")
@click.option("--name", default="", help="What the names of the fields begin with.")
@click.option("--ip-proto", type=click.IntRange(0, 255), help="For packets of this IP protocol.")
@click.option("--udp-port", type=click.IntRange(1, 65535), help="For packets of this UDP port.")
def dissector_command(
    place: str,
    output: str | None,
    options: tuple[str, ...],
    name: str,
    ip_proto: int | None,
    udp_port: int | None,
) -> int:
    """Write a Lua script with which Wireshark and tshark show a protocol's packets.

    CLASS is a header, or a protocol: that one knows, with its options, how its numbers wrap. Besides the
    fields there are verdicts, as .analysis.retransmission, for headers whose fields have roles.
    """
    from rawkit.cli.output import emit, status
    from rawkit.cli.transport import load_class, read_option
    from rawkit.report.analysis import numbering
    from rawkit.report.dissector import dissector
    from rawkit.transport import Endpoint
    from rawkit.wire import Header

    cls = load_class(place)
    told = {}
    if issubclass(cls, Endpoint):
        told = numbering(cls(**dict(map(read_option, options))))
        cls = cls.header
    elif options or not issubclass(cls, Header):
        what = (
            "options belong to a protocol class" if options else f"{cls.__name__} is no header, no protocol"
        )
        raise click.UsageError(f"{place!r}: {what}")
    try:
        script = dissector(cls, name=name, ip_proto=ip_proto, udp_port=udp_port, **told)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if output is None:
        emit(script.rstrip())
        return 0
    with open(output, "w", encoding="utf-8") as file:
        file.write(script)
    status(f"wrote {output}; try: tshark -X lua_script:{output} -r FILE")
    return 0


def transfer_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which transfer is simulated; `transfers` reads them."""
    function = link_options(function)
    for option in reversed(
        [
            click.option(
                "-O", "--option", "options", multiple=True, metavar="NAME=VALUE", help="Option of the class."
            ),
            click.option("--octets", type=click.IntRange(min=0), default=200_000, show_default=True,
                         help="To the server."),
            click.option("--back", type=click.IntRange(min=0), default=0, show_default=True,
                         help="To the client."),
        ]
    ):  # fmt: skip
        function = option(function)
    return function


def link_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which link, and what chance does there; `links` reads them but the last two."""
    for option in reversed(
        [
            click.option("--preset", metavar="NAME", default="standard", show_default=True,
                         help="A link by name; what follows changes it."),
            click.option("--rate", metavar="RATE", help="Of the link: 10Mbit/s."),
            click.option("--delay", metavar="TIME", help="Of the link, each way: 20ms."),
            click.option("--loss", metavar="RATIO", help="Of the link, each way: 1% or 0.01."),
            click.option("--queue", type=click.IntRange(min=0), help="Packets that may wait for the link."),
            click.option("--schedule", default="", metavar="FAULTS", help="As 'drop 4, delay 7 by 9ms'."),
            click.option("--seed", type=int, default=0, show_default=True, help="Decides what chance does."),
        ]
    ):  # fmt: skip
        function = option(function)
    return function


def transfers(
    places: tuple[str, ...],
    options: tuple[str, ...],
    octets: int,
    back: int,
    preset: str,
    rate: str | None,
    delay: str | None,
    loss: str | None,
    queue: int | None,
    schedule: str,
    seed: int,
) -> list[Any]:
    """The results of the transfers that options ask for, one for each protocol."""
    from rawkit.cli.transport import load, read_option
    from rawkit.sim import Schedule, Transfer

    link, other = links(preset, rate, delay, loss, queue)
    given = dict(map(read_option, options))
    return [
        Transfer(
            load(place),
            given,
            octets=octets,
            back=back,
            link=link,
            link_back=other,
            schedule=Schedule.parse(schedule),
            seed=seed,
        ).run()
        for place in places
    ]


def links(preset: str, rate: str | None, delay: str | None, loss: str | None, queue: int | None) -> Any:
    """The link that options ask for, and the way back where that differs."""
    from dataclasses import replace

    from rawkit.sim import PRESETS, Bernoulli, DropTail
    from rawkit.units import parse_ratio

    if preset not in PRESETS:
        raise click.UsageError(f"no link is called {preset!r}; there are {', '.join(PRESETS)}")
    changes: dict[str, Any] = {} if rate is None else {"rate": rate}
    changes |= {} if delay is None else {"delay": delay}
    changes |= {} if queue is None else {"queue": DropTail(packets=queue)}
    changes |= {} if loss is None else {"models": (Bernoulli(parse_ratio(loss)),)}
    link, other = PRESETS[preset]
    return replace(link, **changes), other and replace(other, **changes)


@click.command(
    "sim",
    epilog="""\b
Examples:
  rawkit transport sim courier.py:Courier
  rawkit transport sim courier.py:Courier --preset "two-packet buffer" --seed 7 --ladder
  rawkit transport sim rawkit.transport.protocols.selective_repeat:SelectiveRepeat -O control=cubic --json
  rawkit transport sim courier.py:Courier --loss 1% --report run.html --report run.pcapng

Exit status: 0 when all octets arrived and both sides closed in order, 1 when not, 2 for bad input.""",
)
@click.argument("place", metavar="MODULE:PROTOCOL")
@transfer_options
@click.option("--ladder", is_flag=True, help="Show the packets as a ladder diagram.")
@click.option("--report", "reports", multiple=True, metavar="FILE", help="Write a file, as `report` does.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def sim_command(place: str, ladder: bool, reports: tuple[str, ...], as_json: bool, **told: Any) -> int:
    """Run a transport protocol over a simulated link, in virtual time, and say what came of it."""
    from rawkit.cli.output import JsonLines, emit
    from rawkit.report.page import value_text

    (result,) = transfers((place,), **told)
    for path in reports:
        save_runs([result], path)
    wrong, metrics = result.violation(), result.metrics()
    if as_json:
        JsonLines("transport.sim").write(
            "result", protocol=place, ok=not wrong, wrong=wrong, script=result.repro(), **metrics
        )
        return 1 if wrong else 0
    if ladder:
        emit(result.ladder())
    emit(f"{result.transfer.protocol.__name__}: {wrong or 'nothing wrong'}")
    width = max(map(len, metrics))
    for name, value in metrics.items():
        emit(f"{name:<{width}}  {value_text(value)}")
    return 1 if wrong else 0


@click.command(
    "report",
    epilog="""\b
Examples:
  rawkit transport report courier.py:Courier -o run.html            zoom into it in a browser
  rawkit transport report courier.py:Courier --loss 1% -o run.svg --only sequence --only window
  rawkit transport report first.py:First second.py:Second -o both.html       on the same axes
  rawkit transport report courier.py:Courier --from run.pcapng -o run.html   what a capture holds
  rawkit transport report courier.py:Courier --over raw --kernel cubic --delay 10ms --loss 1% -o both.html
  rawkit transport report rawkit.transport.protocols.selective_repeat:SelectiveRepeat -o control.html \\
    --vary control=newreno,cubic,vegas                              one run for each
  rawkit transport report courier.py:Courier -o run.csv             the numbers behind the plots

Files: .html .svg .png .pdf .csv .pcapng .qlog .qvis .xpl.
Plots: sequence, window, rtt, goodput, queue, delivered; ladder or states (the state machine) as .svg.

Exit status: 0; 2 for bad input.""",
)
@click.argument("places", metavar="MODULE:PROTOCOL...", nargs=-1, required=True)
@click.option(
    "-o", "--output", required=True, multiple=True, metavar="FILE", help="What to write; may be repeated."
)
@click.option(
    "--from", "source", metavar="FILE", help="A capture of the protocol's packets, in place of a simulation."
)
@click.option(
    "--over",
    type=click.Choice(["raw", "udp", "tun", "packet"]),
    help="Between two hosts of a lab, over real sockets; the link has --delay, --loss and --seed.",
)
@click.option(
    "--kernel", "kernels", multiple=True, metavar="CONTROL", help="The kernel's TCP too: reno, cubic, bbr."
)
@click.option(
    "--vary",
    metavar="NAME=V1,V2...",
    help="Once for each value of this option of the class, on the same axes.",
)
@click.option("--only", multiple=True, metavar="PLOT", help="Not all plots, of a picture.")
@click.option(
    "--theme", type=click.Choice(["light", "dark"]), default="light", show_default=True, help="Of a picture."
)
@click.option("--title", default="", help="Above everything.")
@transfer_options
def report_command(
    places: tuple[str, ...],
    output: tuple[str, ...],
    source: str | None,
    over: str | None,
    kernels: tuple[str, ...],
    vary: str | None,
    only: tuple[str, ...],
    theme: Any,
    title: str,
    **told: Any,
) -> int:
    """Write plots of a run: a page to zoom into, a picture, the numbers, or files for other programs.

    Each protocol is simulated, or runs between two hosts of a lab; several are shown on the same axes.
    """
    runs: list[Any]
    if kernels and over is None:
        raise click.UsageError("--kernel goes with --over: the kernel's TCP runs between hosts of a lab")
    if over is not None:
        runs = _in_lab(places, over, kernels, **told)
    elif source is None and vary is not None:
        runs = _varied(places, vary, **told)
    elif source is None:
        runs = transfers(places, **told)
    else:
        runs = [_captured(place, source, told["options"]) for place in places]
    for path in output:
        save_runs(runs, path, title=title, theme=theme, only=only)
    return 0


def _varied(places: tuple[str, ...], vary: str, options: tuple[str, ...], **told: Any) -> list[Any]:
    """A run for each protocol and each value of an option, called by what is different."""
    from rawkit.report.run import Run

    name, equals, values = vary.partition("=")
    if not equals or not values:
        raise click.UsageError(f"--vary {vary!r}: expected NAME=VALUE,VALUE...")
    runs = []
    for value in values.split(","):
        for result in transfers(places, options=(*options, f"{name}={value}"), **told):
            protocol = f"{result.transfer.protocol.__name__}, " if len(places) > 1 else ""
            runs.append(Run.of(result, f"{protocol}{name} {value}"))
    return runs


def _in_lab(
    places: tuple[str, ...],
    over: str,
    kernels: tuple[str, ...],
    options: tuple[str, ...],
    octets: int,
    back: int,
    delay: str | None,
    loss: str | None,
    seed: int,
    **others: Any,
) -> list[Any]:
    """The same transfer by each protocol, and by the kernel, each in a lab of its own with the same link."""
    from dataclasses import replace
    from functools import partial

    from rawkit.cli.transport import load, read_option
    from rawkit.lab import Lab
    from rawkit.report.analysis import Roles
    from rawkit.report.run import Run, versions
    from rawkit.tools.kerneltcp import kernel_transfer
    from rawkit.tools.labrun import run_in_lab
    from rawkit.wire import TCP

    if any(others[name] for name in ("rate", "queue", "schedule")) or others["preset"] != "standard":
        raise click.UsageError("the link of a lab has --delay, --loss and --seed, and nothing else")
    given = dict(map(read_option, options))
    settings = {"link": f"delay {delay or 0}, loss {loss or 0}", "seed": str(seed), **versions()}
    lab_of_its_own = partial(Lab, delay or 0, loss or 0, seed)
    runs = []
    for cls in map(load, places):
        with lab_of_its_own() as lab:
            made = run_in_lab(
                partial(cls, **given), lab, over, octets=octets, back=back, seed=seed, trace=True
            )
        runs.append(replace(Run.of(made), settings={"over": over, **settings}))
    for control in kernels:
        with lab_of_its_own() as lab:
            kernel = kernel_transfer(lab, octets, control=control)
        runs.append(Run(kernel.trace, Roles(TCP), f"kernel {control}", kernel.metrics(), settings))
    return runs


def _captured(place: str, source: str, options: tuple[str, ...]) -> Any:
    from rawkit.cli.transport import load, read_option
    from rawkit.report.analysis import Roles
    from rawkit.report.capture import read_trace
    from rawkit.report.run import Run

    endpoint = load(place)(**dict(map(read_option, options)))
    trace, protocol = read_trace(source)
    return Run(
        trace, Roles.of(endpoint), type(endpoint).__name__, settings={"capture": source}, protocol=protocol
    )


def save_runs(results: list[Any], path: str, **options: Any) -> None:
    from rawkit.cli.output import status
    from rawkit.report.files import save
    from rawkit.report.run import Run

    runs = [result if isinstance(result, Run) else Run.of(result) for result in results]
    try:
        save(runs, path, **options)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    status(f"wrote {path}")
