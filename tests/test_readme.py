"""What the README shows works: its Python, its commands, its links."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from rawkit.cli.main import COMMANDS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def run(code: str) -> str:
    """What a program prints; it must say nothing else."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.net
def test_the_first_example_prints_the_servers_answer() -> None:
    summary, options = run(BLOCKS[0]).splitlines()
    assert "IP 10.77.0.2.80 > 10.77.0.1.4321: Flags [S.], " in summary
    assert re.search(r"MSS\(\d+\)", options)


def test_the_second_example_declares_a_protocol() -> None:
    program = "\n".join([
        "from rawkit import *",
        "from rawkit.wire.field import *",
        BLOCKS[1],
        "packet = IPv4(src='192.0.2.1', dst='192.0.2.2') / Courier(sport=1, dport=2, seq=7) / b'data'",
        "again = Packet.parse(bytes(packet), first=IPv4, strict=True)",
        "print(again[Courier].seq, again.payload, [verdict.state for verdict in again.checksums()])",
        "print(Courier.diagram())",
    ])  # fmt: skip
    first, *diagram = run(program).splitlines()
    assert first == "7 b'data' ['good', 'good']"
    assert any("checksum" in line for line in diagram)


def test_there_are_no_other_python_examples() -> None:
    assert len(BLOCKS) == 2


def test_the_table_lists_every_command() -> None:
    listed = re.findall(r"^\| `rawkit (\w+)", README, re.MULTILINE)
    assert sorted(listed) == sorted(COMMANDS)


@pytest.mark.parametrize("name", sorted(set(re.findall(r"\brawkit (\w+)[ `]", README)) & set(COMMANDS)))
def test_each_command_named_has_help_with_examples(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rawkit", name, "--help"], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: rawkit {name}")
    assert "Examples:" in done.stdout or name == "doctor"


def test_links_lead_somewhere() -> None:
    targets = [target for target in re.findall(r"\]\(([^)#]+)\)", README) if "://" not in target]
    assert targets
    missing = [target for target in targets if not (ROOT / target).exists()]
    assert missing == []


def test_the_commands_of_make_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for name in re.findall(r"^\$ make (\w+)", README, re.MULTILINE):
        assert re.search(rf"^{name}:", makefile, re.MULTILINE)
