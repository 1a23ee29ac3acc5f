"""What `rawkit ping --pmtu` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rawkit.cli.ping import milliseconds

if TYPE_CHECKING:
    from rawkit.tools.pathmtu import MTUStep, PathMTU


def run_pmtu(
    targets: tuple[str, ...], family: int, interface: str, timeout_ns: int, *, as_json: bool, quiet: bool
) -> int:
    """Find the path MTU to each target, print it, and return the exit status."""
    from rawkit.cli.errors import NEGATIVE, SUCCESS
    from rawkit.cli.output import JsonLines, emit, escape, plain
    from rawkit.tools.pathmtu import PathMTUSearch

    json = JsonLines("ping") if as_json else None
    found = []
    for target in targets:
        try:
            search = PathMTUSearch(target, timeout=timeout_ns / 1e9, family=family, interface=interface)
        except ValueError as error:
            raise click.UsageError(str(error)) from None
        for step in search:
            if json is not None and not quiet:
                json.write("step", target=str(search.target.address), **plain(step))
            elif json is None and not quiet:
                emit(escape(step_line(step)))
        found.append(result := search.result)
        if json is not None:
            json.write("pmtu", **plain(result))
        else:
            emit(escape(result_line(result)))
    return SUCCESS if all(result.mtu for result in found) else NEGATIVE


def step_line(step: MTUStep) -> str:
    """One packet's fate."""
    if step.rtt_ns is not None:
        return f"{step.size} octets: answered, time={milliseconds(step.rtt_ns)} ms"
    if step.outcome == "silent":
        return f"{step.size} octets: no answer"
    says = f" for {step.reporter}, which passes on {step.mtu}" if step.reporter else " for this host's link"
    return f"{step.size} octets: too big{says}"


def result_line(result: PathMTU) -> str:
    """The end of it."""
    named = result.address if result.target == result.address else f"{result.target} ({result.address})"
    if not result.mtu:
        return f"{named}: no answer at any length"
    why = f", says {result.reporter}" if result.reporter else ""
    hole = "; longer packets vanish without a word" if result.black_hole else ""
    return f"{named}: path MTU {result.mtu} (first link {result.link_mtu}){why}{hole}"
