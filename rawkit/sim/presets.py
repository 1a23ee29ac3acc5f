"""Links by name: those of course assignments, and typical ones.

Transfer(MyProtocol, **preset("two-packet buffer"))
"""

from __future__ import annotations

from typing import Any

from rawkit.sim.link import LinkSpec
from rawkit.sim.models import Bernoulli, Corrupt, Duplicate, GilbertElliott, Jitter, Reorder
from rawkit.sim.queues import DropTail, EcnThreshold
from rawkit.sim.transfer import STANDARD

_RDT = ("10Mbit/s", "5ms", DropTail(packets=100))

PRESETS: dict[str, tuple[LinkSpec, LinkSpec | None]] = {
    "standard": (STANDARD, None),
    # The channels of Kurose and Ross, section 3.4: each adds what the next version of rdt has to survive.
    "rdt1": (LinkSpec(*_RDT), None),
    "rdt2": (LinkSpec(*_RDT, models=(Corrupt(0.1),)), None),
    "rdt3": (LinkSpec(*_RDT, models=(Bernoulli(0.1), Corrupt(0.1))), None),
    # An unreliable channel with everything switched on, as RDTLayer and UnreliableChannel exercises have it.
    "unreliable channel": (
        LinkSpec(
            *_RDT,
            models=(Bernoulli(0.1), Corrupt(0.1), Duplicate(0.1), Reorder(0.1, by_packets=2), Jitter("2ms")),
        ),
        None,
    ),
    # Losses of data only, or of acknowledgements only, as forward and reverse loss probabilities (STP).
    "forward loss": (LinkSpec(*_RDT, models=(Bernoulli(0.1),)), LinkSpec(*_RDT)),
    "reverse loss": (LinkSpec(*_RDT), LinkSpec(*_RDT, models=(Bernoulli(0.1),))),
    # 10 ms, 5 % loss and room for two packets, as in Mininet exercises.
    "two-packet buffer": (LinkSpec("10Mbit/s", "10ms", DropTail(packets=2), (Bernoulli(0.05),)), None),
    "asymmetric": (
        LinkSpec("50Mbit/s", "15ms", DropTail(packets=200)),
        LinkSpec("1Mbit/s", "15ms", DropTail(packets=50)),
    ),
    "satellite": (LinkSpec("20Mbit/s", "280ms", DropTail(packets=1000), (GilbertElliott(0.001, 0.3),)), None),
    "wifi": (
        LinkSpec("30Mbit/s", "2ms", DropTail(packets=100), (GilbertElliott(0.01, 0.4),), jitter="4ms"),
        None,
    ),
    "datacenter": (LinkSpec("10Gbit/s", "20us", EcnThreshold(65, limit=500)), None),
}
"""Name to the link, and to the way back where that differs."""


def preset(name: str) -> dict[str, Any]:
    """The keyword arguments `link` and `link_back` of a `Transfer` for a link by name.

    Raises:
        LookupError: there is none of that name.
    """
    if name not in PRESETS:
        raise LookupError(f"no link is called {name!r}; there are {', '.join(PRESETS)}")
    link, back = PRESETS[name]
    return {"link": link, "link_back": back}
