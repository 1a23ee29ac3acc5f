"""`rawkit`: finds the command, and turns whatever it raises into a line and an exit status.

A command lives in a module of its own as `command`, a `click.Command`. Its callback returns an exit status,
or None for 0; it lets exceptions through.
"""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Sequence
from typing import Any

import click

import rawkit
from rawkit.cli.errors import SUCCESS, report, settle_stdout

COMMANDS = {
    "ping": ("rawkit.cli.ping", "Ask hosts whether they are there, and measure how long the answer takes."),
    "trace": ("rawkit.cli.trace", "Show the routers on the way to a host, over one path or several."),
    "scan": ("rawkit.cli.scan", "Find open ports, and who is there."),
    "capture": ("rawkit.cli.capture", "Show or save the packets of an interface."),
    "read": ("rawkit.cli.read", "Show the packets of a capture file."),
    "pcap": ("rawkit.cli.pcap", "Cut, join, change, repair and measure capture files."),
    "show": ("rawkit.cli.show", "Explain the octets of one packet, header by header."),
    "send": ("rawkit.cli.send", "Build packets and send them."),
    "replay": ("rawkit.cli.replay", "Send the packets of a capture file, in their time."),
    "lab": ("rawkit.cli.lab", "Run commands on private hosts in network namespaces."),
    "demo": ("rawkit.cli.demo", "Show the main jobs on real traffic between two private hosts."),
    "transport": ("rawkit.cli.transport", "Begin a transport protocol of one's own, or check one."),
    "protocols": ("rawkit.cli.protocols", "List the protocols, or show the layout of one."),
    "shell": ("rawkit.cli.shell", "A Python prompt with rawkit's names in it."),
    "doctor": ("rawkit.cli.doctor", "Say what works on this machine, and how to get the rest."),
}
"""Command to its module and its line of help. The module is imported when the command runs, not before."""


class LazyGroup(click.Group):
    """A group that knows its commands' names and one-line help without importing them.

    `lazy` has a module and a line of help for each.
    """

    def __init__(self, *args: Any, lazy: dict[str, tuple[str, str]], **extra: Any) -> None:
        super().__init__(*args, **extra)
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._lazy:
            return None
        command = importlib.import_module(self._lazy[cmd_name][0]).command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in self._lazy and not args[0].startswith("-"):
            import difflib

            close = difflib.get_close_matches(args[0], self._lazy, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise click.UsageError(f"there is no command {args[0]!r}{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self._lazy.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        names = [
            CompletionItem(name, help=line)
            for name, (_, line) in self._lazy.items()
            if name.startswith(incomplete)
        ]
        return names + click.Command.shell_complete(self, ctx, incomplete)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.exceptions.Exit:
            raise
        except BrokenPipeError:  # whoever read our output has seen enough
            return SUCCESS
        except (Exception, KeyboardInterrupt) as error:
            return report(error, " ".join(filter(None, [ctx.command_path, ctx.invoked_subcommand])))

    def main(  # type: ignore[override]
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> int:
        """Run the command line and exit, or return the exit status when `standalone_mode` is false."""
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):  # a terminal that cannot show a character still gets the line
                stream.reconfigure(errors="backslashreplace")
        try:
            result = super().main(args, prog_name or self.name, standalone_mode=False, **extra)
            code = result if isinstance(result, int) else SUCCESS
        except (Exception, KeyboardInterrupt) as error:
            code = report(error, self.name or "rawkit")
        failure = settle_stdout()
        if failure and code == SUCCESS and not isinstance(failure, BrokenPipeError):
            code = report(failure, self.name or "rawkit")
        if standalone_mode:
            gc.freeze()  # or Python looks through all there is once more, for what goes away with the process
            sys.exit(code)
        return code


@click.group(
    "rawkit",
    cls=LazyGroup,
    lazy=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit status: 0 success, 1 a negative result, 2 usage or bad input, 77 missing permission, "
    "130 interrupted.",
)
@click.version_option(rawkit.__version__, message="%(prog)s %(version)s")
def main() -> None:
    """Craft, send, capture, replay and invent packets."""
