"""`rawkit transport`: start a transport protocol, and look for what breaks it."""

from __future__ import annotations

from typing import Any

import click

from rawkit.cli.transportcompare import compare_command
from rawkit.cli.transportseen import dissector_command, report_command, sim_command

ACTIONS = ("drop", "delay", "swap", "duplicate", "corrupt")


@click.group(
    name="transport",
    epilog="""\b
Examples:
  rawkit transport new courier                        writes courier.py, a protocol that works
  rawkit transport check courier.py:Courier           looks for what breaks it
  rawkit transport run courier.py:Courier             runs it between two hosts, over raw IP
  rawkit transport compare courier.py:Courier         beside the kernel's TCP: how fast, and how fair
  rawkit transport report courier.py:Courier -o run.html          plots to zoom into
  rawkit transport dissector courier.py:Courier > courier.lua     shows its packets in Wireshark
  rawkit transport check rawkit.transport.protocols.go_back_n:GoBackN -o window=4 -o bits=3""",
)
def command() -> None:
    """Transport protocols of one's own: begin one, check one, run one.

    `check` works in a simulated network in virtual time, `run` between private hosts: neither needs root.
    """


@command.command(
    "new",
    epilog="""\b
Examples:
  rawkit transport new courier

Exit status: 0; 2 for a name that cannot be, or a file that is there.""",
)
@click.argument("name")
@click.option("--force", is_flag=True, help="Write over a file that is there.")
def new(name: str, force: bool) -> int:
    """Write NAME.py: a header, stop-and-wait, and a run that shows it."""
    import os

    from rawkit.cli.output import status
    from rawkit.tools.scaffold import scaffold

    source = scaffold(name)
    path = f"{name.lower()}.py"
    if os.path.lexists(path) and not force:
        raise click.UsageError(f"{path} is there already; --force writes over it")
    with open(path, "w", encoding="utf-8") as file:
        file.write(source)
    status(f"wrote {path}; try: python {path}")
    return 0


@command.command(
    "check",
    epilog="""\b
Examples:
  rawkit transport check courier.py:Courier
  rawkit transport check courier.py:Courier --drops 3 --first 20 --octets 10000
  rawkit transport check courier.py:Courier --faults drop,duplicate       what it claims to survive
  rawkit transport check courier.py:Courier --json | jq .violation

Exit status: 0 when nothing was found wrong, 1 when something breaks it, 2 for bad input.""",
)
@click.argument("protocol", metavar="MODULE:PROTOCOL")
@click.option("-o", "--option", "options", multiple=True, metavar="NAME=VALUE", help="Option of the class.")
@click.option("--octets", type=click.IntRange(min=0), default=6000, show_default=True, help="To the server.")
@click.option("--back", type=click.IntRange(min=0), default=0, show_default=True, help="To the client.")
@click.option(
    "--drops",
    type=click.IntRange(min=0),
    default=2,
    show_default=True,
    help="Try all schedules with at most so many losses ...",
)
@click.option(
    "--first",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    help="... among so many transmissions.",
)
@click.option(
    "--random", "count", type=click.IntRange(min=0), default=150, show_default=True, help="Random schedules."
)
@click.option("--faults", default=",".join(ACTIONS), show_default=True, help="Kinds of faults in those.")
@click.option("--seed", type=int, default=0, show_default=True, help="Decides which.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def check_command(
    protocol: str,
    options: tuple[str, ...],
    octets: int,
    back: int,
    drops: int,
    first: int,
    count: int,
    faults: str,
    seed: int,
    as_json: bool,
) -> int:
    """Try to break a transport protocol, and show the simplest way that was found.

    PROTOCOL is a class of MODULE, which is a file or a name that Python can import. It is run without
    faults, with all schedules of few losses, and with random ones of many faults.
    """
    from rawkit.cli.output import JsonLines, emit
    from rawkit.sim import check

    kinds: Any = tuple(faults.split(","))
    unknown = [kind for kind in kinds if kind not in ACTIONS]
    if unknown:
        raise click.UsageError(f"no fault is called {unknown[0]!r}; there are {', '.join(ACTIONS)}")
    cls = load(protocol)
    report = check(
        cls,
        dict(map(read_option, options)),
        octets=octets,
        back=back,
        drops=drops,
        first=first,
        random=count,
        actions=kinds,
        seed=seed,
    )
    found = report.counterexample
    if as_json:
        lines = JsonLines("transport.check")
        lines.write(
            "result",
            protocol=protocol,
            ok=report.ok,
            proved=report.proved,
            violation=found.violation if found else None,
            schedule=str(found.transfer.schedule) if found else None,
            octets=found.transfer.octets if found else None,
            script=found.transfer.script() if found else None,
        )
    else:
        emit(str(report))
    return 0 if report.ok else 1


@command.command(
    "run",
    epilog="""\b
Examples:
  rawkit transport run courier.py:Courier
  rawkit transport run courier.py:Courier --over udp --delay 10ms --loss 1%
  rawkit transport run courier.py:Courier --capture run.pcapng --ladder

Exit status: 0 when all octets arrived and both sides closed in order, 1 when not, 2 for bad input, 77 when
namespaces are not allowed.""",
)
@click.argument("protocol", metavar="MODULE:PROTOCOL")
@click.option("-o", "--option", "options", multiple=True, metavar="NAME=VALUE", help="Option of the class.")
@click.option(
    "--over",
    type=click.Choice(["raw", "udp", "tun", "packet"]),
    default="raw",
    show_default=True,
    help="What carries packets.",
)
@click.option("-6", "six", is_flag=True, help="IPv6 in place of IPv4.")
@click.option(
    "--number", type=click.IntRange(1, 254), default=253, show_default=True, help="IP protocol number."
)
@click.option(
    "--octets", type=click.IntRange(min=0), default=20_000, show_default=True, help="To the server."
)
@click.option("--back", type=click.IntRange(min=0), default=0, show_default=True, help="To the client.")
@click.option("--delay", metavar="TIME", default="0", help="Of the link, each way: 20ms.")
@click.option("--loss", metavar="RATIO", default="0", help="Of the link, each way: 1% or 0.01.")
@click.option("--seed", type=int, default=0, show_default=True, help="Decides which packets are lost.")
@click.option(
    "--timeout", type=click.FloatRange(min=0), default=60.0, show_default=True, help="Give up after, seconds."
)
@click.option("--capture", metavar="FILE", help="Write the frames that pass the client's interface.")
@click.option("--ladder", is_flag=True, help="Show the packets as a ladder diagram.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def run_command(
    protocol: str,
    options: tuple[str, ...],
    over: str,
    six: bool,
    number: int,
    octets: int,
    back: int,
    delay: str,
    loss: str,
    seed: int,
    timeout: float,
    capture: str | None,
    ladder: bool,
    as_json: bool,
) -> int:
    """Run a transport protocol between two hosts of a lab, over real sockets.

    The hosts are network namespaces that nobody else can reach; root is not needed.
    """
    from rawkit.cli.output import JsonLines, emit
    from rawkit.lab import Lab
    from rawkit.tools.labrun import run_in_lab

    cls = load(protocol)
    given = dict(map(read_option, options))
    with Lab(delay=delay, loss=loss, seed=seed) as lab:
        outcome = run_in_lab(
            lambda: cls(**given),
            lab,
            over,
            version=6 if six else 4,
            number=number,
            capture=capture,
            octets=octets,
            back=back,
            seed=seed,
            timeout=timeout,
            trace=ladder,
        )
    metrics = outcome.metrics()
    wrong = outcome.client_app.wrong or outcome.server_app.wrong
    ok = outcome.complete and outcome.closed
    if as_json:
        lines = JsonLines("transport.run")
        lines.write("result", protocol=protocol, over=over, ok=ok, wrong=wrong, **metrics)
        return 0 if ok else 1
    if outcome.trace is not None:
        from rawkit.sim.ladders import ladder as draw

        emit(draw(outcome.trace, cls.header))
    verdict = wrong or ("complete" if outcome.complete else "not all octets arrived")
    emit(f"{cls.__name__} over {over}: {verdict}, {'closed in order' if outcome.closed else 'not closed'}")
    if outcome.server_app.finished_ns:
        emit(f"{octets} octets in {metrics['finished_s']:.3f} s, {outcome.goodput_bps / 1e6:.2f} Mbit/s")
    emit(f"{metrics['client_packets']} packets by the client, {metrics['server_packets']} by the server")
    for name in ("dropped_by_client", "dropped_by_server", "lost_in_this_host"):
        if found := ", ".join(f"{n} {reason}" for reason, n in metrics[name].items() if n):
            emit(f"{name.replace('_', ' ')}: {found}")
    emit(f"kernel kept silent by {metrics['kernel_silenced_by']}")
    return 0 if ok else 1


def load(place: str) -> Any:
    """The protocol class at "courier.py:Courier" or "package.module:Courier".

    Raises:
        click.UsageError: there is no such module or class, or it is none of a protocol.
    """
    from rawkit.transport import Endpoint

    cls = load_class(place)
    if not issubclass(cls, Endpoint):
        raise click.UsageError(f"{place!r}: {cls.__name__} is no class of a protocol")
    return cls


def load_class(place: str) -> type[Any]:
    """The class at such a place, of whatever; raises as `load` does."""
    import importlib
    import importlib.util
    import os
    import sys

    module_name, colon, name = place.rpartition(":")
    if not colon or not name:
        raise click.UsageError(f"{place!r}: expected MODULE:PROTOCOL, such as courier.py:Courier")
    if module_name.endswith(".py"):
        if not os.path.isfile(module_name):
            raise click.UsageError(f"{module_name}: there is no such file")
        stem = os.path.basename(module_name)[:-3]
        spec = importlib.util.spec_from_file_location(stem, module_name)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[stem] = module  # where annotations of headers are looked up
        spec.loader.exec_module(module)
    else:
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            raise click.UsageError(f"{place!r}: {error}") from None
    cls = getattr(module, name, None)
    if not isinstance(cls, type):
        raise click.UsageError(f"{place!r}: there is no class {name} in {module_name}")
    return cls


def read_option(text: str) -> tuple[str, Any]:
    """A keyword argument from NAME=VALUE; the value as Python reads it, or as text."""
    import ast

    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise click.UsageError(f"option {text!r}: expected NAME=VALUE")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


for other in (sim_command, compare_command, report_command, dissector_command):
    command.add_command(other)
