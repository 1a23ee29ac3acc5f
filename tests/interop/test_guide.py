"""docs/scapy.md is a program that does what it says."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from rawkit.lab import Lab

GUIDE = (Path(__file__).parents[2] / "docs" / "scapy.md").read_text()


@pytest.mark.net
def test_it_runs() -> None:
    program = "\n".join(re.findall(r"^```python\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL))
    quiet = "import logging; logging.getLogger('scapy').setLevel(logging.ERROR)\n"
    with Lab() as lab:
        done = lab.a.run([sys.executable, "-c", quiet + program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    reply, ours, theirs, same = done.stdout.splitlines()
    assert reply.startswith("IP / ICMP 10.77.0.2 > 10.77.0.1 echo-reply 0")
    assert "> 192.0.2.1: ICMP echo request, id 7" in ours
    assert theirs.endswith("> 192.0.2.1 echo-request 0")
    assert same == "True"
