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
        click.option(
            "--on", type=click.Choice(["a", "b"]), default="a", show_default=True, help="The host to be on."
        ),
        click.option(
            "--chain",
            type=click.IntRange(1, 100),
            metavar="N",
            help="Put so many routers between the hosts; not with --delay and --loss.",
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
  rawkit lab run --chain 5 -- rawkit trace 10.77.0.2

Exit status: COMMAND's; 128 and the signal's number when a signal ended it; 127 when it is not found, 126 when
it cannot be run; 2 for bad options; 77 when namespaces are not allowed.""",
)
@_link_options
@click.argument("argv", metavar="COMMAND...", nargs=-1, required=True, type=click.UNPROCESSED)
def run(
    argv: tuple[str, ...], delay: str, loss: str, seed: int, on: str, chain: int | None, serve: str | None
) -> int:
    """Run COMMAND on one of two hosts.

    When it ends, the hosts and every process that is still running on them end too.
    """
    return _run(list(argv), delay, loss, seed, on, chain, serve)


@command.command("shell")
@_link_options
def shell(delay: str, loss: str, seed: int, on: str, chain: int | None, serve: str | None) -> int:
    """Run an interactive shell ($SHELL) on one of two hosts."""
    return _run([os.environ.get("SHELL") or "/bin/sh"], delay, loss, seed, on, chain, serve, interactive=True)


def _run(
    argv: list[str],
    delay: str,
    loss: str,
    seed: int,
    on: str,
    chain: int | None,
    serve: str | None,
    interactive: bool = False,
) -> int:
    import signal

    from rawkit.errors import RawkitError
    from rawkit.lab.container import SignalMask, run_contained, supervise
    from rawkit.lab.host import parse_services
    from rawkit.units import parse_duration, parse_ratio

    # Bad options are refused before anything is made.
    impaired = parse_duration(delay) > 0 or parse_ratio(loss) > 0
    if chain is not None and impaired:
        raise click.UsageError("--chain and --delay or --loss exclude each other")
    if serve is not None:
        parse_services(serve)

    in_foreground = interactive and os.isatty(0) and os.tcgetpgrp(0) == os.getpgrp()

    def body() -> int:
        from rawkit.cli.errors import report
        from rawkit.cli.output import status
        from rawkit.lab import Lab

        try:
            with Lab(delay, loss, seed) if chain is None else Lab.chain(chain) as lab:
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
                    return supervise(start)
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
