"""`rawkit doctor`: what works on this machine, and how to get the rest."""

from __future__ import annotations

import click


@click.command(
    name="doctor",
    epilog="""\b
Examples:
  rawkit doctor
  rawkit doctor --json | jq 'select(.type == "command" and .level != "yes")'

Exit status: 0, whatever it finds.""",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per check and per command.")
def command(as_json: bool) -> None:
    """Try what rawkit needs of the system, and say how to get what is missing.

    Nothing is sent and nothing is changed.
    """
    from rawkit.cli.output import JsonLines
    from rawkit.tools.doctor import abilities, examine

    checks = examine()
    found = abilities(checks, _program())
    if as_json:
        out = JsonLines("doctor")
        for key, check in checks.items():
            out.write(
                "check", check=key, name=check.name, ok=check.ok, detail=check.detail, fixes=check.fixes
            )
        for ability in found:
            out.write(
                "command",
                command=ability.command,
                level=ability.level,
                detail=ability.detail,
                fixes=ability.fixes,
            )
        return

    from rich.text import Text

    from rawkit.cli.output import console

    screen = console()
    colours = {"yes": "green", "ok": "green", "partly": "yellow", "no": "red"}

    def line(mark: str, name: str, detail: str, width: int) -> None:
        text = Text(f"  {mark:<7}", style=colours[mark]).append(f"{name:<{width}}  {detail}", style="default")
        screen.print(text, soft_wrap=True)

    screen.print("This machine")
    for check in checks.values():
        line("ok" if check.ok else "no", check.name, check.detail, max(len(c.name) for c in checks.values()))
    screen.print("\nCommands")
    for ability in found:
        line(ability.level, ability.command, ability.detail, max(len(a.command) for a in found))
    # Several of them lack the same: what gives it stands there once.
    lacking: dict[tuple[str, ...], list[str]] = {}
    for check in checks.values():
        if not check.ok:
            lacking.setdefault(check.fixes, []).append(check.name)
    for ability in found:
        if ability.level != "yes":
            lacking.setdefault(ability.fixes, []).append(ability.command)
    lacking.pop((), None)
    if lacking:
        screen.print("\nTo get more")
    for fixes, names in lacking.items():
        screen.print(f"  {', '.join(names)}{': any one of' if len(fixes) > 1 else ':'}", soft_wrap=True)
        for fix in fixes:
            screen.print(f"    {fix}", soft_wrap=True)


def _program() -> str:
    """`rawkit` as sudo would find it, which looks in few places."""
    import shutil
    import sys
    from pathlib import Path

    beside = Path(sys.executable).with_name("rawkit")
    return str(beside) if beside.exists() else shutil.which("rawkit") or f"{sys.executable} -m rawkit"
