"""The extensions that are installed were built with what makes a mistake in them hard to exploit."""

from __future__ import annotations

import os
import subprocess
from types import ModuleType

import pytest
from oracles import oracle

from rawkit import _fields, _native

pytestmark = [
    pytest.mark.skipif("RAWKIT_TEST_INSTALLED" not in os.environ, reason="a debugging build may do without"),
    pytest.mark.parametrize("module", [_native, _fields], ids=lambda module: module.__name__),
]


OFFERED = {
    "rawkit._native": ["PyInit__native", "rk_cffi_module"],
    "rawkit._fields": ["PyInit__fields"],
}


def readelf(module: ModuleType, *options: str) -> str:
    return subprocess.run(
        [oracle("readelf"), "-W", *options, str(module.__file__)], capture_output=True, text=True, check=True
    ).stdout


def test_relocations_are_done_at_load_and_then_read_only(module: ModuleType) -> None:
    assert "GNU_RELRO" in readelf(module, "-l")
    assert "BIND_NOW" in readelf(module, "-d")
    assert "TEXTREL" not in readelf(module, "-d")


def test_the_stack_is_guarded_and_not_executable(module: ModuleType) -> None:
    (stack,) = [line for line in readelf(module, "-l").splitlines() if "GNU_STACK" in line]
    assert stack.split()[-2] == "RW"
    assert "__stack_chk_fail" in readelf(module, "--dyn-syms")


def test_library_calls_check_their_buffers(module: ModuleType) -> None:
    """Where the compiler knows how long a buffer is, _FORTIFY_SOURCE puts another function in."""
    if module is _fields:
        pytest.skip("has no buffer of its own whose length the compiler knows")
    assert "_chk@" in readelf(module, "--dyn-syms").replace("__stack_chk_fail@", "")


def test_nothing_but_the_module_is_offered_to_others(module: ModuleType) -> None:
    offered = [
        line.split()[7]
        for line in readelf(module, "--dyn-syms").splitlines()
        if " GLOBAL " in line and "UND" not in line
    ]
    assert sorted(offered) == OFFERED[module.__name__]
