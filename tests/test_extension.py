"""A distribution of somebody else's adds a protocol through the entry points `rawkit.protocols`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import rawkit
from rawkit import UDP
from rawkit.pcap import open_pcap

PROTOCOL = '''
"""Whisper, a protocol for these tests."""
from rawkit import Header, UDP
from rawkit.wire.field import u16

class Whisper(Header, over={UDP: 7777}):
    """Says very little."""
    volume: u16 = 1
'''

READ = """
import sys
from rawkit import IPv4, UDP, Packet
import rawkit.wire
print("loaded" if "whisper" in sys.modules else "waits")
print(Packet.parse(bytes(IPv4(src="192.0.2.1") / UDP(dport=7777) / b"\\0\\7"), IPv4).layers[-1])
"""


def wheel(
    folder: Path, name: str, modules: dict[str, str], entries: list[str], group: str = "rawkit.protocols"
) -> Path:
    """A wheel of pure Python, as a build tool would make it."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    files = {f"{module}.py": source for module, source in modules.items()} | {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "\n".join([f"[{group}]", *entries, ""]),
    }
    record = "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in (files | {f"{info}/RECORD": record}).items():
            archive.writestr(file, text)
    return path


def install(target: Path, *wheels: Path) -> Path:
    words = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", target]
    subprocess.run([*words, *wheels], check=True, timeout=120)
    return target


def run(code: str, *places: Path, module: str = "") -> subprocess.CompletedProcess[str]:
    """Run code, or `python -m rawkit ARGUMENTS`, where these directories are on the path."""
    path = os.pathsep.join(map(str, [Path(rawkit.__file__).parents[1], *places]))
    words = [sys.executable, "-P", *(["-m", *module.split()] if module else ["-c", code])]
    environment = os.environ | {"PYTHONPATH": path}
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60)


def test_a_protocol_installed_by_somebody_else_is_used(tmp_path: Path) -> None:
    entry = "whisper = whisper"
    target = install(tmp_path / "site", wheel(tmp_path, "whisper_rawkit", {"whisper": PROTOCOL}, [entry]))
    done = run(READ, target)
    assert (done.stdout.splitlines(), done.stderr) == (["waits", "Whisper(volume=7)"], "")
    assert "Whisper" not in run(READ).stdout

    shown = run("", target, module="rawkit show ip()/udp(dport=7777)/whisper(volume=300)")
    assert "volume  300" in shown.stdout
    listed = run("", target, module="rawkit protocols whisper")
    assert "Says very little." in listed.stdout


def test_a_number_that_is_taken_names_both(tmp_path: Path) -> None:
    source = (
        PROTOCOL.replace("Whisper", "Shout")
        .replace("over={UDP: 7777}", "over={IPv4: 6}")
        .replace("UDP", "IPv4")
    )
    target = install(tmp_path / "site", wheel(tmp_path, "shouting", {"shout": source}, ["shout = shout"]))
    done = run(READ, target)
    assert done.returncode == 1
    assert (
        "RawkitError: extension shout = shout of the distribution shouting cannot be used: IPv4 6 is taken: "
        "rawkit.wire.tcp.TCP and shout.Shout both claim it"
    ) in done.stderr
    assert run("", target, module="rawkit show ip()/udp(dport=9)/0x00").returncode == 2


def test_two_extensions_with_one_name_or_number_are_both_named(tmp_path: Path) -> None:
    first = wheel(tmp_path / "1", "first_dist", {"whisper": PROTOCOL}, ["whisper = whisper"])
    other = PROTOCOL.replace("Whisper", "Murmur")
    for entry, reason in (
        ("whisper = murmur", "two extensions are called 'whisper'"),
        ("zmurmur = murmur", "UDP 7777 is taken: whisper.Whisper and murmur.Murmur both claim it"),
    ):
        second = wheel(tmp_path / "2", "second_dist", {"murmur": other}, [entry])
        target = install(tmp_path / entry[:2], first, second)
        done = run(READ, target)
        assert done.returncode == 1
        assert reason in done.stderr
        assert "second_dist" in done.stderr


def test_a_module_that_is_missing_is_said_at_every_look_up(tmp_path: Path) -> None:
    target = install(tmp_path / "site", wheel(tmp_path, "hollow", {}, ["hollow = nowhere"]))
    code = (
        "from rawkit import *\n"
        "for _ in range(2):\n"
        "    try:\n"
        "        Packet.parse(bytes(IPv4()/UDP(dport=9)/b'x'), IPv4).layers\n"
        "    except RawkitError as error:\n"
        "        print(error)\n"
    )
    done = run(code, target)
    line = "extension hollow = nowhere of the distribution hollow cannot be used: No module named 'nowhere'"
    assert done.stdout.splitlines() == [line, line]


def test_without_extensions_the_metadata_is_not_read() -> None:
    code = "import sys\nfrom rawkit import UDP\nUDP.uppers[1]\nprint('importlib.metadata' in sys.modules)"
    assert run(code).stdout == "False\n"


def test_a_scan_s_probe_installed_by_somebody_else_is_used(tmp_path: Path) -> None:
    """The one of the guide. A dry run sends nothing."""
    guide = (Path(__file__).parents[1] / "docs/scan.md").read_text()
    (source,) = re.findall(r"```python\n([^`]*class ParrotProbe.*?)```", guide, re.DOTALL)
    entries = ["parrot = parrot:ParrotProbe", "hollow = parrot:Nothing", "lorry = parrot:ParrotProbe"]
    made = wheel(tmp_path, "parrot_rawkit", {"parrot": source}, entries, "rawkit.probes")
    target = install(tmp_path / "site", made)
    path = tmp_path / "probes.pcapng"
    done = run("", target, module=f"rawkit scan --type parrot 127.0.0.1 --dry-run {path}")
    assert (done.returncode, done.stderr) == (0, f"1 probes written to {path}, none sent\n")
    with open_pcap(path) as file:
        (packet,) = (frame.packet() for frame in file)
    assert (packet[UDP].dport, len(packet.payload)) == (7777, 8)
    for kind, reason in (
        ("hollow", "probe hollow = parrot:Nothing of the distribution parrot_rawkit cannot be used"),
        ("lorry", "its class has another name"),
        ("parrots", "--type: kind 'parrots': there are auto, syn"),
    ):
        done = run("", target, module=f"rawkit scan --type {kind} 127.0.0.1")
        assert done.returncode == 2
        assert reason in done.stderr
        assert done.stderr.count("\n") == 1
