"""What `rawkit ping` prints of a sweep."""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO, cast

import click

from rawkit.cli.ping import event_fields, milliseconds, slashed

if TYPE_CHECKING:
    from types import FrameType

    from rawkit.tools.sweep import SweepResult, SweepSummary

_PUBLIC_MAX = 65536


@dataclass(frozen=True)
class SweepOptions:
    """The command line, times in nanoseconds."""

    targets: list[str]
    family: int
    count: int
    interval_ns: int
    timeout_ns: int
    retries: int
    size: int
    ttl: int
    rate: float | None
    interface: str
    alive: bool
    unreachable: bool
    reachable: int | None
    quiet: bool
    as_json: bool


class _Held(io.TextIOBase):
    """A stream that is flushed by somebody else."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self.write = stream.write  # type: ignore[method-assign]

    def flush(self) -> None:
        pass


def run_sweep(options: SweepOptions) -> int:
    """Sweep, print, and return the exit status."""
    import signal

    from rawkit.addr import parse_target
    from rawkit.cli.errors import INTERRUPTED, NEGATIVE, SUCCESS
    from rawkit.cli.output import JsonLines, emit, escape, status
    from rawkit.tools.scan.config import public_count
    from rawkit.tools.sweep import ALIVE, UNREACHABLE, Sweep, SweepConfig

    targets = parse_target(options.targets, family=options.family)
    if options.rate is None and (public := public_count(targets)) > _PUBLIC_MAX:
        raise click.UsageError(f"{public} addresses outside private ranges: give a --rate if that is meant")
    shown = {ALIVE, UNREACHABLE}
    if options.quiet:
        shown = set()
    elif options.alive != options.unreachable:
        shown = {ALIVE} if options.alive else {UNREACHABLE}
    try:
        config = SweepConfig(
            targets,
            count=options.count,
            interval_ns=options.interval_ns,
            timeout_ns=options.timeout_ns,
            retries=options.retries,
            size=options.size,
            ttl=options.ttl,
            rate=options.rate,
            interface=options.interface,
            report=frozenset(shown),
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    interrupted = False
    with Sweep(config) as sweep:
        for note in sweep.notes:
            status(note)
        # Thousands of lines at once: they are flushed when there is nothing else to do.
        sweep.before_wait = sys.stdout.flush
        json = JsonLines("ping", stream=cast(TextIO, _Held(sys.stdout))) if options.as_json else None
        if json is not None:
            facts = {name: value for name, value in vars(config).items() if name != "targets"}
            json.write(
                "session", targets=sweep.config.targets.count, sockets=sweep.socket_kinds, config=facts
            )

        def tell(_: int, frame: FrameType | None) -> None:
            status(running_line(sweep.summary))

        before = signal.signal(signal.SIGQUIT, tell)
        try:
            for result in sweep:
                if json is not None:
                    json.write("result", **event_fields(result))
                else:
                    sys.stdout.write(escape(result_line(result)) + "\n")
        except KeyboardInterrupt:
            interrupted = True
        finally:
            signal.signal(signal.SIGQUIT, before)
    summary = sweep.summary
    if json is not None:
        json.write("summary", **event_fields(summary), complete=not interrupted)
        sys.stdout.flush()
    else:
        emit("\n" + summary_text(summary) if shown else summary_text(summary))
    if interrupted:
        return INTERRUPTED
    wanted = summary.targets if options.reachable is None else options.reachable
    return SUCCESS if summary.alive >= wanted else NEGATIVE


def result_line(result: SweepResult) -> str:
    """As fping writes it, with more reasons."""
    named = result.address if result.target == result.address else f"{result.target} ({result.address})"
    if not result.alive:
        by = f", says {result.reporter}" if result.reporter not in ("", result.address) else ""
        return f"{named} is unreachable: {result.reason}{by}"
    remarks = [f"{milliseconds(result.rtt_ns)} ms" if result.rtt_ns is not None else "asked again"]
    if result.corrupted:
        remarks.append("CORRUPTED")
    return f"{named} is alive ({', '.join(remarks)})"


def running_line(summary: SweepSummary) -> str:
    """What SIGQUIT prints."""
    return f"{summary.received}/{summary.asked} answered, {summary.sent} packets transmitted"


def summary_text(summary: SweepSummary) -> str:
    """The block at the end."""
    rate = summary.asked / summary.duration_ns * 1e9 if summary.duration_ns else 0
    extra = "".join(
        f", {number} {word}"
        for number, word in (
            (summary.duplicates, "duplicates"),
            (summary.corrupted, "corrupted"),
            (summary.late, "late"),
            (summary.errors, "errors"),
            (summary.unsent, "not sent"),
        )
        if number
    )
    known = summary.asked > summary.unsent + summary.uncertain
    loss = f", {summary.loss * 100:.4g}% loss" if known else ""
    lines = [
        f"{summary.targets} targets, {summary.alive} alive, {summary.targets - summary.alive} not",
        f"{summary.sent} packets transmitted, {summary.received} received{extra}{loss}, "
        f"time {summary.duration_ns / 1e6:.0f}ms ({rate:,.0f} targets/s)",
    ]
    if summary.dropped:
        lines.append(
            f"this host dropped {summary.dropped} answers for lack of buffer space; "
            f"{summary.uncertain} targets are therefore not known, and not counted as lost"
        )
    if summary.min_ns is not None:
        times = [summary.min_ns, summary.avg_ns, summary.max_ns, summary.mdev_ns]
        lines.append(f"rtt min/avg/max/mdev = {slashed(times)} ms")
        lines.append(
            f"rtt median/p90/p99 = {slashed([summary.median_ns, summary.p90_ns, summary.p99_ns])} ms"
        )
    return "\n".join(lines)
