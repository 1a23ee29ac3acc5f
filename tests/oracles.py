"""Other people's programs that tests compare with: `from oracles import oracle`."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

_SETGROUPS = Path("/proc/self/setgroups")


def oracle(program: str) -> str:
    """The path of `program`; without it the test is skipped, or fails under RAWKIT_REQUIRE_ORACLES=1 (CI)."""
    # An ordinary user's PATH often leaves these two out.
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    found = shutil.which(program, path=path)
    if found is None:
        reason = f"{program} is not installed (an oracle that this test compares with)"
        if os.environ.get("RAWKIT_REQUIRE_ORACLES", "") not in ("", "0"):
            pytest.fail(reason)
        pytest.skip(reason)
    if program == "tcpdump" and os.geteuid() == 0 and _SETGROUPS.read_text().strip() == "deny":
        pytest.skip("tcpdump, when root, becomes another user, and this user namespace has none")
    return found
