"""`rawkit transport compare`: protocols and the kernel's TCP on the same emulated link."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from rawkit.cli.transportseen import link_options

if TYPE_CHECKING:
    from rich.table import Table

    from rawkit.report.costs import Costs
    from rawkit.report.run import Run
    from rawkit.tools.comparison import Contender, Passage

REFERENCES = {
    "stop-and-wait": "rawkit.transport.protocols.stop_and_wait:StopAndWait",
    "go-back-n": "rawkit.transport.protocols.go_back_n:GoBackN",
    "selective-repeat": "rawkit.transport.protocols.selective_repeat:SelectiveRepeat",
}


@click.command(
    "compare",
    epilog="""\b
Examples:
  rawkit transport compare courier.py:Courier
  rawkit transport compare courier.py:Courier go-back-n,window=16 selective-repeat,control=cubic
  rawkit transport compare selective-repeat --kernel reno --beside reno --loss 0.1% --rate 20Mbit/s
  rawkit transport compare courier.py:Courier --report both.html --json

\b
Columns, of each alone on the link:
  GOODPUT  delivered octets, in Mbit/s           QUEUE  delay that packets met in the queue, mean ...
  EXTRA    octets sent beyond those delivered,   P95    ... and what 95 % of them did not exceed, in ms
           of which AGAIN is payload sent again and the rest headers, IP's included
  BACK     octets of acknowledgements; these three as shares of what was delivered
and of each beside a flow of the kernel's TCP, from when both had begun until one was done:
  OWN      its goodput, OTHER that flow's, JAIN Jain's index (1: equal; 0.5: one has everything)

Exit status: 0 when all arrived, of each alone; 1 when not, 2 for bad input, 77 when namespaces are not
allowed.""",
)
@click.argument("contenders", metavar="PROTOCOL...", nargs=-1)
@click.option(
    "--kernel",
    "kernels",
    multiple=True,
    metavar="CONTROL",
    help="The kernel's TCP too: reno, cubic, bbr (all that it has); or none.",
)
@click.option(
    "--beside",
    default="cubic",
    show_default=True,
    metavar="CONTROL",
    help="Who shares the link, for fairness: the kernel's TCP with this control; or none.",
)
@click.option(
    "--octets", type=click.IntRange(min=1), default=2_000_000, show_default=True, help="Each sends."
)
@link_options
@click.option(
    "--timeout", type=click.FloatRange(min=0), default=60.0, show_default=True, help="Of each run, seconds."
)
@click.option(
    "--report",
    "reports",
    multiple=True,
    metavar="FILE",
    help="Plots of all on the same axes, each alone: .html .svg .png .pdf .csv.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def compare_command(
    contenders: tuple[str, ...],
    kernels: tuple[str, ...],
    beside: str,
    octets: int,
    preset: str,
    rate: str | None,
    delay: str | None,
    loss: str | None,
    queue: int | None,
    schedule: str,
    seed: int,
    timeout: float,
    reports: tuple[str, ...],
    as_json: bool,
) -> int:
    """Run protocols, and the kernel's TCP, over the same emulated link, and compare what each costs others.

    PROTOCOL is MODULE:CLASS, or stop-and-wait, go-back-n or selective-repeat, which are the references;
    options follow as ,NAME=VALUE. They run over raw IP between the hosts of a lab. Root is not needed.
    """  # fmt: skip
    from rawkit.cli.output import JsonLines, console, emit, status
    from rawkit.cli.transportseen import links, save_runs
    from rawkit.lab import Lab
    from rawkit.sim import Schedule
    from rawkit.tools.comparison import side_by_side

    link, back = links(preset, rate, delay, loss, queue)
    told = {"link": link, "link_back": back, "schedule": Schedule.parse(schedule), "seed": seed}

    def run(*entrants: Contender) -> list[Passage]:
        with Lab(**told) as lab:
            return side_by_side(entrants, lab, octets=octets, seed=seed, timeout=timeout)

    entrants = [*map(contender, contenders), *map(_kernel, _controls(kernels))]
    if not entrants:
        raise click.UsageError("nobody to compare")
    rival = None if beside == "none" else _kernel(*_controls((beside,)))
    lines = JsonLines("transport.compare") if as_json else None
    if lines:
        lines.write("link", link=_said(link, back), seed=seed, octets=octets)
    rows, runs, ok = [], [], True
    for entrant in entrants:
        if not as_json:
            status(f"{entrant.name} ...")
        (alone,) = run(entrant)
        shown = run_of(alone, link, {"link": _said(link, back), "seed": str(seed)})
        pair = run(entrant, rival) if rival else []
        row = figures(alone, shown, pair)
        runs.append(shown)
        rows.append(row)
        ok &= row["complete"]
        if lines:
            lines.write("result", name=entrant.name, beside=rival.name if rival else None, **row)
    if not as_json:
        emit(f"{octets} octets each over {_said(link, back)}, seed {seed}")
        console().print(table([entrant.name for entrant in entrants], rows, rival.name if rival else None))
        for entrant, row in zip(entrants, rows):
            if not row["complete"]:
                status(f"{entrant.name}: not all octets arrived within {timeout:g} s")
            if row["degraded"]:
                status(f"* degraded, {entrant.name} {'; '.join(row['degraded'])}")
    for path in reports:
        save_runs(runs, path)
    return 0 if ok else 1


def contender(text: str) -> Contender:
    """The protocol that an argument names, with its options.

    Raises:
        click.UsageError: there is none, or an option makes no sense.
    """
    from functools import partial

    from rawkit.cli.transport import load, read_option
    from rawkit.tools.comparison import Contender

    place, *options = text.split(",")
    cls = load(REFERENCES.get(place, place))
    made = partial(cls, **dict(map(read_option, options)))
    try:
        made()
    except TypeError as error:
        raise click.UsageError(f"{text!r}: {error}") from None
    return Contender(" ".join([place if place in REFERENCES else cls.__name__, *options]), made)


def _controls(asked: tuple[str, ...]) -> list[str]:
    from rawkit.tools.comparison import kernel_controls

    ready = kernel_controls()
    unknown = [control for control in asked if control not in (*ready, "none")]
    if unknown:
        raise click.UsageError(f"this kernel has no {unknown[0]!r}; it has {', '.join(ready)}")
    return [control for control in asked or ready if control != "none"]


def _kernel(control: str) -> Contender:
    from rawkit.tools.comparison import Contender

    return Contender(f"kernel {control}", control=control)


def _said(link: Any, back: Any) -> str:
    from rawkit.sim.transfer import brief

    return brief(link) + (f" and {brief(back)} back" if back else "")


def run_of(passage: Passage, link: Any, settings: dict[str, str]) -> Run:
    """A passage as a run to be shown: its packets at both hosts, and what its endpoints said."""
    from rawkit.report.analysis import Roles
    from rawkit.report.run import Run, versions
    from rawkit.tools.comparison import FIRST_NUMBER
    from rawkit.wire import TCP

    return Run(
        passage.events,
        Roles.of(passage.endpoint) if passage.endpoint else Roles(TCP),
        passage.contender.name,
        settings={**settings, **versions()},
        rate_bps=link.constant_rate_bps,
        protocol=FIRST_NUMBER if passage.endpoint else 6,
    )


def figures(alone: Passage, shown: Run, pair: list[Passage]) -> dict[str, Any]:
    """What is reported of a contender, in octets, bits per second and seconds."""
    from rawkit.report.costs import costs
    from rawkit.tools.comparison import jain, shared_rates_bps

    cost: Costs = costs(shown)
    rates = shared_rates_bps(pair) if pair else []
    return {
        "complete": alone.complete,
        "octets": alone.received,
        "goodput_bps": alone.goodput_bps,
        "packets": cost.packets,
        "sent_octets": cost.sent,
        "again_packets": cost.again_packets,
        "again_octets": cost.again,
        "header_octets": cost.headers,
        "back_packets": cost.back_packets,
        "back_octets": cost.back,
        "queueing_mean_s": cost.mean_delay_s,
        "queueing_p95_s": cost.p95_delay_s,
        "own_bps": rates[0] if rates else None,
        "other_bps": rates[1] if rates else None,
        "jain": jain(rates) if any(rates) else None,
        "degraded": [f"alone, {reason}" for reason in alone.degraded]
        + [f"beside another, {reason}" for reason in (pair[0].degraded if pair else [])],
    }


def table(names: list[str], rows: list[dict[str, Any]], rival: str | None) -> Table:
    """The rows as people read them; those of runs that were not what was asked for have a star."""
    from rich.table import Table

    from rawkit.cli.output import escape

    shown = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="")
    shown.add_column("PROTOCOL", overflow="fold")
    columns = ["GOODPUT", "EXTRA", "AGAIN", "BACK", "QUEUE", "P95"]
    for name in [*columns, *(["OWN", "OTHER", "JAIN"] if rival else [])]:
        shown.add_column(name, justify="right", no_wrap=True)
    for name, row in zip(names, rows):
        octets = row["octets"]
        extra = row["sent_octets"] - octets
        shares = [
            f"{n / octets:.1%}" if octets else "-" for n in (extra, row["again_octets"], row["back_octets"])
        ]
        fairness = [row["own_bps"], row["other_bps"]] if rival else []
        shown.add_row(
            escape(name) + (" *" if row["degraded"] else ""),
            f"{row['goodput_bps'] / 1e6:.2f}",
            *shares,
            f"{row['queueing_mean_s'] * 1e3:.1f}",
            f"{row['queueing_p95_s'] * 1e3:.1f}",
            *(f"{bps / 1e6:.2f}" for bps in fairness),
            *(["-" if row["jain"] is None else f"{row['jain']:.3f}"] if rival else []),
        )
    return shown
