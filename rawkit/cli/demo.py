"""`rawkit demo`: the main jobs, done by the real commands on real traffic between two private hosts."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rawkit.cli.output import counted

if TYPE_CHECKING:
    from rich.console import Console

    from rawkit.lab import Host, Lab

RAWKIT = (sys.executable, "-P", "-m", "rawkit")
"""This rawkit, whatever PATH says; -P: and not a source tree that happens to be the current directory."""


@click.command(
    name="demo",
    epilog="""\b
Examples:
  rawkit demo
  rawkit demo --write first.pcapng

Needs neither root nor a network: all traffic stays between two network namespaces made for it.""",
)
@click.option(
    "-w",
    "--write",
    type=click.Path(dir_okay=False),
    default="demo.pcapng",
    show_default=True,
    help="Keep the capture in this file.",
)
@click.option("--svg", type=click.Path(dir_okay=False), help="Save a picture of the output too.")
def command(write: str, svg: str | None) -> int:
    """Ping, scan, capture, read and replay between two private hosts, a and b."""
    from rich.console import Console

    from rawkit.lab import Lab

    for path in filter(None, (write, svg)):
        open(path, "ab").close()  # refused now rather than in the middle
    # A picture has one width, whatever the terminal's.
    console = Console(record=svg is not None, width=110 if svg else None, markup=False, highlight=False)
    # A link with a delay carries frames as they are on a wire, not merged as between two local hosts.
    with Lab(delay="1ms") as lab:
        failures = Demo(console, lab, write).run()
    if svg is not None:
        # A font that this machine does not have is not fetched from anywhere.
        picture = re.sub(r",\s*url\([^)]*\) format\([^)]*\)", "", console.export_svg(title="make demo"))
        Path(svg).write_text(picture, encoding="utf-8")
    return 1 if failures else 0


class Demo:
    """The steps of the demonstration, each a command run on host a; counts those that fail."""

    def __init__(self, console: Console, lab: Lab, file: str) -> None:
        self._console = console
        self._lab = lab
        self._file = file
        self._failures = 0

    def run(self) -> int:
        """Run all steps; returns how many failed."""
        a, b = self._lab.a, self._lab.b
        b.serve("http,echo")
        self._say(
            f"Two private hosts, joined by a link with {self._lab.delay_ns / 1e6:g} ms of delay:\n"
            f"  a  {a.ipv4}  {a.ipv6}  where the commands below run\n"
            f"  b  {b.ipv4}  {b.ipv6}  which serves HTTP (port 80) and echo (port 7)"
        )
        self._title("Is b there? How far is it?")
        self._command("ping", "-c", "3", "-i", "200ms", str(b.ipv4))
        self._title("Which doors are open?")
        self._command("scan", str(b.ipv4), "-p", "1-1024")
        self._title("What goes over the wire when a fetches a page?")
        self._capture_a_fetch(b)
        self._command("read", "-t", "relative", "-c", "8", self._file)
        self._title("One packet, field by field")
        self._command("show", self._file, "-n", "1")
        self._title("Craft a packet, send it, see the answer")
        self._command("send", f"ip(dst={b.ipv4})/icmp()/'hello'", "--wait", "1")
        self._command("send", f"ip6(dst={b.ipv6})/udp(sport=7777,dport=9)/'anybody?'", "--wait", "1")
        self._title("Send the capture again, each packet at its time")
        self._command("replay", self._file, "-i", a.interface)
        failed = counted(self._failures, "step")
        verdict = f"{failed} failed." if self._failures else "Every step worked."
        self._say(f"{verdict} The capture is in {self._file}, for `rawkit read` or Wireshark.")
        return self._failures

    def _say(self, text: str) -> None:
        self._console.print(f"\n{text}", style="bold")

    def _title(self, text: str) -> None:
        self._console.print()
        self._console.rule(text, align="left", style="cyan")

    def _print(self, text: str, style: str = "") -> None:
        """Print lines; those too long for a terminal or picture are cut, in a pipe they stay whole."""
        from rich.text import Text

        cut = self._console.is_terminal or self._console.record
        for line in text.split("\n"):
            self._console.print(
                Text(line, style=style),
                soft_wrap=not cut,
                no_wrap=True,
                overflow="ellipsis" if cut else "ignore",
            )

    def _command(self, *words: str) -> None:
        """Show a command, run it on host a, show what it says."""
        self._show_prompt(words)
        done = self._lab.a.run([*RAWKIT, *words], capture_output=True, text=True, timeout=60)
        self._show(done.stdout, done.stderr, done.returncode)

    def _show_prompt(self, words: tuple[str, ...]) -> None:
        from shlex import quote

        # Single quotes within a word look better between double ones than escaped.
        shown = [
            f'"{word}"' if "'" in word and not set(word) & set('"$`\\!') else quote(word) for word in words
        ]
        self._print(f"$ rawkit {' '.join(shown)}", "bold green")

    def _show(self, output: str, messages: str, code: int) -> None:
        for text, style in ((output, ""), (messages, "dim")):
            if text:
                self._print(text.rstrip("\n"), style)
        if code:
            self._failures += 1
            self._print(f"exit status {code}", "bold red")

    def _capture_a_fetch(self, server: Host) -> None:
        """Capture in the background while this process, standing on host a, fetches a page."""
        import signal
        from http.client import HTTPConnection  # not urllib, which would ask a proxy

        words = ("capture", "-i", self._lab.a.interface, "-w", self._file, "tcp port 80")
        self._show_prompt(words)
        process = self._lab.a.spawn(
            [*RAWKIT, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stderr is not None
        self._print(process.stderr.readline().rstrip("\n"), "dim")
        with self._lab.a:
            client = HTTPConnection(str(server.ipv4), timeout=5)
            client.request("GET", "/")
            page = client.getresponse().read()
            client.close()
        self._print(f"(a fetches http://{server.ipv4}/ now: {len(page)} octets)", "italic")
        time.sleep(0.05)  # until both have said goodbye
        process.send_signal(signal.SIGINT)
        output, messages = process.communicate(timeout=10)
        self._show(output, messages, process.returncode)
