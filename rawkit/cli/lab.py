"""`rawkit lab`: commands on private hosts in network namespaces."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import click

_NOT_FOUND = 127
_NOT_EXECUTABLE = 126


def _link_options(function: Callable[..., int]) -> Callable[..., int]:
    options: list[Callable[[Any], Any]] = [
        click.option(
            "--delay", metavar="TIME", default="0", help="Hold every frame, in both directions: 20ms."
        ),
        click.option(
            "--loss", metavar="RATIO", default="0", help="Lose frames, in both directions: 1% or 0.01."
        ),
        click.option("--seed", type=int, default=0, show_default=True, help="Decides which frames are lost."),
        click.option("--rate", metavar="RATE", help="What the link carries, in both directions: 10Mbit/s."),
        click.option(
            "--queue",
            type=click.IntRange(0),
            metavar="N",
            help="Packets that wait for it at most (default: 100).",
        ),
        click.option(
            "--link", metavar="NAME", help="A link of rawkit.sim.presets, as wifi, in place of these."
        ),
        click.option(
            "--schedule", metavar="FAULTS", help="Fates of single packets: 'drop 3, delay a 5 by 10ms'."
        ),
        click.option(
            "--on", type=click.Choice(["a", "b"]), default="a", show_default=True, help="The host to be on."
        ),
        click.option(
            "--chain",
            type=click.IntRange(1, 100),
            metavar="N",
            help="Put so many routers between the hosts; not with an option of the link.",
        ),
        click.option("--serve", metavar="LIST", help="Servers on the other host: http, echo, or http,echo."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


@click.group(
    name="lab",
    epilog="""\b
Examples:
  rawkit lab run --serve http,echo -- rawkit scan 10.77.0.2
  rawkit lab run --delay 20ms --loss 1% --seed 7 -- rawkit ping -c 5 10.77.0.2
  rawkit lab shell --serve http""",
)
def command() -> None:
    """Run commands on private hosts in network namespaces.

    Host a has the addresses 10.77.0.1 and fd77::1, host b 10.77.0.2 and fd77::2; their interface is veth0.
    Nobody else can reach them, or be reached by them. Needs no root, and nothing is left behind.
    """


@command.command(
    "run",
    context_settings={"ignore_unknown_options": False, "allow_interspersed_args": False},
    epilog="""\b
Examples:
  rawkit lab run --serve http,echo -- rawkit scan 10.77.0.2
  rawkit lab run --delay 20ms --loss 1% --seed 7 -- rawkit ping -c 5 10.77.0.2
  rawkit lab run --rate 10Mbit/s --delay 20ms --queue 50 --serve http -- curl -o x http://10.77.0.2/1MB
  rawkit lab run --link satellite -- rawkit ping -c 5 10.77.0.2
  rawkit lab run --chain 5 -- rawkit trace 10.77.0.2

With --rate, --link or --schedule the link is the simulator's, and it is said afterwards if the machine could
not keep time.

Exit status: COMMAND's; 128 and the signal's number when a signal ended it; 127 when it is not found, 126 when
it cannot be run; 2 for bad options; 77 when namespaces are not allowed.""",
)
@_link_options
@click.argument("argv", metavar="COMMAND...", nargs=-1, required=True, type=click.UNPROCESSED)
def run(argv: tuple[str, ...], on: str, chain: int | None, serve: str | None, **link: Any) -> int:
    """Run COMMAND on one of two hosts.

    When it ends, the hosts and every process that is still running on them end too.
    """
    return _run(list(argv), on, chain, serve, link)


@command.command("shell")
@_link_options
def shell(on: str, chain: int | None, serve: str | None, **link: Any) -> int:
    """Run an interactive shell ($SHELL) on one of two hosts."""
    return _run([os.environ.get("SHELL") or "/bin/sh"], on, chain, serve, link, interactive=True)


def _lab_arguments(
    delay: str,
    loss: str,
    seed: int,
    rate: str | None,
    queue: int | None,
    link: str | None,
    schedule: str | None,
) -> dict[str, Any]:
    """The arguments of a `Lab`, from the options that are about its link."""
    from rawkit.units import parse_duration, parse_rate, parse_ratio

    delay_ns, share = parse_duration(delay), parse_ratio(loss)
    if link is None and rate is None and queue is None and schedule is None:
        return {"delay": delay, "loss": loss, "seed": seed} if delay_ns or share else {}

    from rawkit.sim import Bernoulli, DropTail, LinkSpec, Schedule
    from rawkit.sim.presets import preset

    arguments: dict[str, Any] = {"seed": seed}
    if link is not None:
        if delay_ns or share or rate is not None or queue is not None:
            raise click.UsageError("--link and --delay, --loss, --rate or --queue exclude each other")
        try:
            arguments |= preset(link)
        except LookupError as error:
            raise click.UsageError(str(error.args[0])) from None
    else:
        if queue is not None and rate is None:
            raise click.UsageError("--queue goes with --rate")
        models = (Bernoulli(share),) if share else ()
        limit = DropTail(packets=100 if queue is None else queue)
        arguments["link"] = LinkSpec(rate and parse_rate(rate), delay, limit, models)
    if schedule is not None:
        arguments["schedule"] = Schedule.parse(schedule)
    return arguments


def _run(
    argv: list[str],
    on: str,
    chain: int | None,
    serve: str | None,
    link: dict[str, Any],
    interactive: bool = False,
) -> int:
    import signal

    from rawkit.errors import RawkitError
    from rawkit.lab.container import SignalMask, run_contained, supervise
    from rawkit.lab.host import parse_services

    # Bad options are refused before anything is made.
    arguments = _lab_arguments(**link)
    if chain is not None and arguments.keys() - {"seed"}:
        raise click.UsageError("--chain and options of the link exclude each other")
    if serve is not None:
        parse_services(serve)

    in_foreground = interactive and os.isatty(0) and os.tcgetpgrp(0) == os.getpgrp()

    def body() -> int:
        from rawkit.cli.errors import report
        from rawkit.cli.output import status
        from rawkit.lab import Lab

        try:
            with Lab(**arguments) if chain is None else Lab.chain(chain) as lab:
                host, other = (lab.a, lab.b) if on == "a" else (lab.b, lab.a)
                if serve is not None:
                    other.serve(serve)
                if interactive:
                    status(
                        f"this shell is on host {host.name}, {host.ipv4}, {host.ipv6}; host {other.name} is "
                        f"{other.ipv4}, {other.ipv6}. Leave with exit."
                    )

                def start(mask: SignalMask) -> int:
                    def prepare() -> None:
                        if in_foreground:
                            # Shells hand the terminal back to the group they got it from, and one outside
                            # this process namespace has no number in it.
                            os.setpgid(0, 0)
                            _take_terminal()
                        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

                    return host.spawn(argv, env=_environment(), preexec_fn=prepare).pid

                try:
                    code = supervise(start)
                    if isinstance(lab, Lab) and lab.link is not None and lab.relay is not None:
                        for reason in lab.relay.degraded():
                            status(f"rawkit lab: not the link that was asked for: {reason}")
                    return code
                except FileNotFoundError:
                    return _cannot_run(argv[0], "command not found", _NOT_FOUND)
                except OSError as error:
                    if isinstance(error, RawkitError):
                        raise
                    return _cannot_run(argv[0], error.strerror or str(error), _NOT_EXECUTABLE)
        except (Exception, KeyboardInterrupt) as error:
            return report(error, "rawkit lab")

    try:
        return run_contained(body)
    finally:
        if in_foreground:
            _take_terminal()


def _take_terminal() -> None:
    """Bring this process's group to the foreground of the terminal that is its standard input."""
    import signal

    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTTOU])  # which would stop it
    with suppress(OSError):  # the terminal is gone
        os.tcsetpgrp(0, os.getpgrp())
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _environment() -> dict[str, str]:
    """The command's environment: this one, where `rawkit` is this rawkit also when its venv is not active."""
    scripts = os.path.dirname(sys.executable)
    path = os.environ.get("PATH") or os.defpath
    return {**os.environ, "PATH": f"{scripts}{os.pathsep}{path}"}


def _cannot_run(name: str, reason: str, code: int) -> int:
    from rawkit.cli.output import escape, status

    status(f"rawkit lab: {escape(name)}: {reason}")
    return code
