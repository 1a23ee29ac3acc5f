"""The path MTU: the search alone against any path, and real routers, which tell or keep silent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rawkit.errors import TargetError
from rawkit.lab import Lab
from rawkit.tools.pathmtu import FITS, LEAST, SILENT, TOO_BIG, MTUSearch, MTUStep, path_mtu


@given(
    st.sampled_from([4, 6]),
    st.lists(
        st.tuples(st.integers(0, 65535), st.sampled_from(["tells", "lies", "hides"])), min_size=1, max_size=6
    ),
)
def test_any_path(version: int, path: list[tuple[int, str]]) -> None:
    """Routers that tell their next link's MTU, say nothing, or name a number that is none."""
    links = [(max(mtu, LEAST[version]), manner) for mtu, manner in path]
    search = MTUSearch(version, links[0][0])
    tries = 0
    while (size := search.size()) is not None:
        tries += 1
        assert tries < 200
        blocked = next(((mtu, manner) for mtu, manner in links if size > mtu), None)
        if blocked is None:
            search.took(MTUStep(size, FITS, 1))
        elif blocked[1] == "hides":
            search.took(MTUStep(size, SILENT))
        else:
            search.took(MTUStep(size, TOO_BIG, None, "r", blocked[0] if blocked[1] == "tells" else 0))
    assert search.low == min(mtu for mtu, _ in links)
    if all(manner == "tells" for _, manner in links):
        assert tries <= len(links) + 1


def test_a_silent_host_is_asked_twice_only() -> None:
    search = MTUSearch(4, 1500)
    sizes = []
    while (size := search.size()) is not None:
        sizes.append(size)
        search.took(MTUStep(size, SILENT))
    assert (sizes, search.low) == ([1500, 68], 0)


@pytest.mark.net
def test_beside_routers() -> None:
    with Lab.chain(4, mtus={1: 1450, 2: 1400}) as lab:
        with lab.a:
            for address in (lab.b.ipv4, lab.b.ipv6):
                found = path_mtu(address)
                assert (found.mtu, found.link_mtu, found.black_hole) == (1400, 1500, False)
                assert found.reporter
                assert [step.outcome for step in found.steps] == [TOO_BIG, TOO_BIG, FITS]
        for router in lab.routers:
            router.keep_silent()
        with lab.a:
            found = path_mtu(lab.b.ipv4, timeout=0.1, retries=1)
    assert (found.mtu, found.reporter, found.black_hole) == (1400, "", True)


@pytest.mark.net
def test_over_loopback_and_to_nobody() -> None:
    assert path_mtu("127.0.0.1").mtu == 65535
    with Lab() as lab, lab.a:
        assert path_mtu(lab.b.ipv6).mtu == 1500
        nobody = path_mtu("10.77.0.99", timeout=0.05, retries=0)
        assert (nobody.mtu, nobody.black_hole) == (0, False)
        with pytest.raises(ValueError, match="256 addresses"):
            path_mtu("10.77.0.0/24")
        with pytest.raises(TargetError):
            path_mtu("224.0.0.1")
