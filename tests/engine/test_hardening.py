"""The extension that is installed was built with what makes a mistake in it hard to exploit."""

from __future__ import annotations

import os
import subprocess

import pytest
from oracles import oracle

from rawkit import _native

pytestmark = pytest.mark.skipif(
    "RAWKIT_TEST_INSTALLED" not in os.environ, reason="a debugging build may do without"
)


def readelf(*options: str) -> str:
    return subprocess.run(
        [oracle("readelf"), "-W", *options, _native.__file__], capture_output=True, text=True, check=True
    ).stdout


def test_relocations_are_done_at_load_and_then_read_only() -> None:
    assert "GNU_RELRO" in readelf("-l")
    assert "BIND_NOW" in readelf("-d")
    assert "TEXTREL" not in readelf("-d")


def test_the_stack_is_guarded_and_not_executable() -> None:
    (stack,) = [line for line in readelf("-l").splitlines() if "GNU_STACK" in line]
    assert stack.split()[-2] == "RW"
    assert "__stack_chk_fail" in readelf("--dyn-syms")


def test_library_calls_check_their_buffers() -> None:
    """Where the compiler knows how long a buffer is, _FORTIFY_SOURCE puts another function in."""
    assert "_chk@" in readelf("--dyn-syms").replace("__stack_chk_fail@", "")


def test_nothing_but_the_module_is_offered_to_others() -> None:
    offered = [
        line.split()[7]
        for line in readelf("--dyn-syms").splitlines()
        if " GLOBAL " in line and "UND" not in line
    ]
    assert sorted(offered) == ["PyInit__native", "rk_cffi_module"]
