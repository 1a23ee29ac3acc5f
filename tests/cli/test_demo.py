"""`rawkit demo`: every step works, the capture is a capture, the picture is a picture."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from oracles import oracle

pytestmark = pytest.mark.net

SECTIONS = {
    "Is b there? How far is it?": r"3 packets transmitted, 3 received, 0% packet loss",
    "Which doors are open?": r"7/tcp +open +echo .*\n80/tcp +open +http ",
    "What goes over the wire when a fetches a page?": r"(\d+) packets captured, \1 received .* 0 dropped by",
    "One packet, field by field": r"flags +SYN \(0x2\)\n  window .*\n  checksum +0x[0-9a-f]{4}  \[good\]",
    "Craft a packet, send it, see the answer": r"answer  IP 10\.77\.0\.2 > 10\.77\.0\.1: ICMP echo reply,",
    "Send the capture again, each packet at its time": r"\d+ packets, \d+ octets sent on veth0 in 0\.",
}


def demo(*args: str | Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "rawkit", "demo", *map(str, args)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Path]:
    """What the demonstration prints, its capture and its picture."""
    at = tmp_path_factory.mktemp("demo")
    done = demo("-w", at / "demo.pcapng", "--svg", at / "demo.svg")
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return done.stdout, at / "demo.pcapng", at / "demo.svg"


def test_every_step_is_there_and_worked(shown: tuple[str, Path, Path]) -> None:
    output, path, _ = shown
    rest = output
    for title, result in SECTIONS.items():
        before, found, rest = rest.partition(f"{title} ─")
        assert found, title
        assert "exit status" not in before
        assert re.search(result, rest), title
    assert "port unreachable" in output
    end = f"Every step worked. The capture is in {path}, for `rawkit read` or Wireshark."
    assert " ".join(output.split()).endswith(end)


def test_the_capture_is_a_whole_connection_for_tshark_too(shown: tuple[str, Path, Path]) -> None:
    done = subprocess.run(
        [oracle("tshark"), "-n", "-r", shown[1], "-T", "fields",
         "-e", "tcp.flags.str", "-e", "http.request.uri"],
        capture_output=True, text=True, timeout=60, check=True,
    ).stdout  # fmt: skip
    assert "S·" in done.splitlines()[0]
    assert done.count("F") == 2
    assert "\t/\n" in done


def test_the_picture_shows_the_same(shown: tuple[str, Path, Path]) -> None:
    _, _, picture = shown
    texts = ElementTree.parse(picture).getroot().iter("{http://www.w3.org/2000/svg}text")
    lines = ["".join(text.itertext()).replace("\xa0", " ") for text in texts]
    for title in SECTIONS:
        assert any(line.startswith(title) for line in lines)
    assert max(map(len, lines)) <= 110
    assert picture.stat().st_size < 100_000


def test_lines_in_a_pipe_are_whole(tmp_path: Path) -> None:
    done = demo("-w", tmp_path / "demo.pcapng")
    assert done.returncode == 0
    assert re.search(r"^0\.000000000 IP .* options \[mss \d+,.*\], length 0$", done.stdout, re.MULTILINE)
    assert "\x1b" not in done.stdout


def test_a_step_that_fails_is_told(tmp_path: Path) -> None:
    done = demo("-w", "/dev/full")
    assert done.returncode == 1
    assert "write on /dev/full: No space left on device" in done.stdout
    assert "exit status 2" in done.stdout
    assert re.search(r"\d steps failed\.", done.stdout)
    assert "Traceback" not in done.stdout + done.stderr
