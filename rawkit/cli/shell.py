"""`rawkit shell`: a Python prompt that has rawkit's names, completes fields and shows packets whole."""

from __future__ import annotations

import re
import sys
from types import CodeType
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rawkit.wire.layout import Layout

BANNER = """rawkit {version} on Python {python}. All public names are here: IPv4, TCP, open_pcap, ping, ...
p = IPv4(dst="192.0.2.1") / TCP(dport=80)   shows p when you type it; TAB completes names and fields."""


@click.command(
    name="shell",
    epilog="""\b
Examples:
  rawkit shell
  echo 'TCP(dport=80)' | rawkit shell

IPython is used where it is installed, else Python's own prompt.
Exit status: 0; what the session passes to exit().""",
)
@click.option("--plain", is_flag=True, help="Python's own prompt, also where there is IPython.")
def command(plain: bool) -> int:
    """A Python prompt with rawkit's public names and all header classes in it."""
    from importlib.util import find_spec

    import rawkit

    names = namespace()
    banner = BANNER.format(version=rawkit.__version__, python=sys.version.split()[0])
    try:
        if not plain and sys.stdin.isatty() and find_spec("IPython"):
            _ipython(names, banner)
        else:
            _python(names, banner)
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    return 0


def namespace() -> dict[str, Any]:
    """What the prompt has: rawkit's public names, the header and option classes, the module itself."""
    import rawkit
    from rawkit.wire.expression import _subclasses, header_classes
    from rawkit.wire.option import Option
    from rawkit.wire.registry import load_all

    load_all()
    classes = [*header_classes().values(), *_subclasses(Option)]
    names = {cls.__name__: cls for cls in classes}
    return names | {name: getattr(rawkit, name) for name in rawkit.__all__} | {"rawkit": rawkit}


def shown(value: Any) -> str | None:
    """How the prompt prints a value of rawkit's; None for values that it prints as Python does."""
    from rawkit.cli.output import escape
    from rawkit.wire import Frame, Header, Packet

    if isinstance(value, (Packet, Header)):
        return escape(value.show(), lines=True)
    if isinstance(value, Frame):
        return escape(value.packet().show(), lines=True)
    if isinstance(value, (list, tuple)) and value and all(isinstance(v, (Packet, Frame)) for v in value):
        packets = [v.packet() if isinstance(v, Frame) else v for v in value]
        return "\n".join(f"{i:>4}  {escape(packet.summary())}" for i, packet in enumerate(packets))
    return None


# ---- prompts -------------------------------------------------------------------------------------------


def _python(names: dict[str, Any], banner: str) -> None:
    import code

    interactive = sys.stdin.isatty()
    if interactive:
        _complete_with_readline(names)

    def display(value: Any) -> None:
        text = shown(value)
        if text is None:
            sys.__displayhook__(value)
        else:
            names["_"] = value
            print(text)

    class Console(code.InteractiveConsole):
        # Whatever a session raises is its own affair, but Ctrl-C ends the statement, not the session.
        def runcode(self, code: CodeType) -> None:
            try:
                super().runcode(code)
            except KeyboardInterrupt:
                self.write("KeyboardInterrupt\n")

    before = sys.displayhook
    sys.displayhook = display
    try:
        console = Console(names)
        if interactive:
            console.interact(banner, exitmsg="")
        else:
            _run_lines(console)
    finally:
        sys.displayhook = before


def _run_lines(console: Any) -> None:
    """Run what comes through a pipe: no banner, no prompts."""
    more = False
    for line in sys.stdin:
        more = console.push(line.rstrip("\n"))
    if more:
        console.push("")


def _ipython(names: dict[str, Any], banner: str) -> None:
    from IPython.terminal.embed import InteractiveShellEmbed  # type: ignore[import-not-found,unused-ignore]

    from rawkit.wire import Frame, Header, Packet

    shell = InteractiveShellEmbed(user_ns=names, banner1=banner, exit_msg="")
    plain = shell.display_formatter.formatters["text/plain"]
    for cls in (Packet, Header, Frame):
        plain.for_type(cls, lambda value, printer, cycle: printer.text(shown(value)))
    shell.Completer.use_jedi = False  # it does not know fields, which are there when a class is made
    shell.set_custom_completer(lambda completer, text: field_matches(completer.line_buffer, names))
    shell()


def _complete_with_readline(names: dict[str, Any]) -> None:
    try:
        import readline
        import rlcompleter
    except ImportError:  # a Python built without it: a prompt all the same
        return
    usual = rlcompleter.Completer(names)
    found: list[str] = []

    def complete(text: str, state: int) -> str | None:
        if state == 0:
            line = readline.get_line_buffer()[: readline.get_endidx()]
            found[:] = field_matches(line, names)
        if found:
            return found[state] if state < len(found) else None
        match: str | None = usual.complete(text, state)
        return match

    # What is completed starts after any of these: brackets and quotes are among them, the dot is not.
    readline.set_completer_delims(" \t\n`~!@#$%^&*()-=+[{]}\\|;:'\",<>/?")
    readline.set_completer(complete)
    readline.parse_and_bind("tab: complete")


# ---- completion ----------------------------------------------------------------------------------------

_KEYWORD = re.compile(r"([A-Za-z_]\w*)\(([^()]*,)?\s*(\w*)$")
_OF_LAYER = re.compile(r"([A-Za-z_]\w*)\[([A-Za-z_]\w*)\]\.(\w*)$")
_PATH = re.compile(r"""([A-Za-z_]\w*)\[["']([A-Za-z_]\w*(?:\[\d+\])?)\.(\w*)$""")


def field_matches(line: str, names: dict[str, Any]) -> list[str]:
    """What the last word of a line may become where fields are wanted, [] elsewhere.

    What comes back stands for the part behind the last bracket or quote. In `TCP(dp` these are keywords, in
    `packet[TCP].dp` and `packet["tcp.dp` fields. Only names are looked up: nothing is called.
    """
    from rawkit.wire import Packet
    from rawkit.wire.layout import Layout

    if match := _PATH.search(line):
        packet = names.get(match[1])
        if isinstance(packet, Packet):
            try:
                return _starting(packet[match[2]], match[3], prefix=f"{match[2]}.")
            except KeyError:
                return []
    if match := _OF_LAYER.search(line):
        packet, kind = names.get(match[1]), names.get(match[2])
        if isinstance(packet, Packet) and isinstance(kind, type) and issubclass(kind, Layout):
            return _starting(kind, match[3], prefix=".")
    if match := _KEYWORD.search(line):
        kind = names.get(match[1])
        if isinstance(kind, type) and issubclass(kind, Layout):
            given = re.findall(r"(\w+)\s*=", match[2] or "")
            return [f"{name}=" for name in _starting(kind, match[3]) if name not in given]
    return []


def _starting(layout: Layout | type[Layout], start: str, prefix: str = "") -> list[str]:
    return [prefix + row.name for row in layout.fields if row.name.startswith(start)]
