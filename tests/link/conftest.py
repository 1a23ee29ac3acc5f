"""A lab for the tests of real carriers."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from rawkit.lab import Lab


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


@pytest.fixture(scope="session")
def lossy() -> Iterator[Lab]:
    """Two hosts that lose packets on the way, 2 ms apart."""
    with Lab(delay="2ms", loss="3%", seed=7) as lab:
        yield lab


@pytest.fixture(scope="session")
def forwarding() -> Iterator[Lab]:
    """Two hosts that forward packets to the TUN devices behind them, over a link that loses some."""
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("/dev/net/tun is not for this user")
    with Lab(delay="1ms", loss="3%", seed=7) as lab:
        yield lab
