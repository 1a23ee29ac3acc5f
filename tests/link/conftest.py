"""A lab for the tests of real carriers."""

from __future__ import annotations

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
