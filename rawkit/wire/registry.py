"""Which class stands under which number, and the modules that are only imported once a number asks for them.

Making a header class takes most of a millisecond, so protocols that few packets hold wait in `LATER`. A class
listed there registers itself like any other (`over=`, `variant=`, `linktype=`, `kind=`); the table only says
which module to import when a look-up finds nothing. What still finds nothing asks the extensions.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from rawkit.wire.extension import State, load_extensions
from rawkit.wire.field import LENGTH

_OVER_BOTH: dict[str, tuple[int, ...]] = {
    "dccp": (33,), "eigrp": (88,), "ospf": (89,), "sctp": (132,), "udplite": (136,),
}  # fmt: skip
"""Modules whose protocols have the same number over both versions of IP."""

LATER: dict[str, dict[str, tuple[int, ...]]] = {
    "linktypes": {"cooked": (0, 108, 113, 276)},
    "Ether": {"llc": (LENGTH,), "mpls": (0x8847, 0x8848)},
    "IPv4": {"igmp": (2,), "gre": (47,), "ipsec": (50, 51), **_OVER_BOTH},
    "IPv6": {"ipv6ext": (0, 43, 60), "gre": (47,), "ipsec": (50, 51), **_OVER_BOTH},
    "UDP": {"vxlan": (4789,), "sctp": (9899,)},
    "ICMP.variants": {"icmpinfo": (9, 10, 13, 14, 15, 16, 17, 18, 30, 37, 38, 40), "icmpext": (42, 43)},
    "ICMPv6.variants": {"mld": (130, 131, 132, 143), "icmpext": (160, 161)},
    "NDOption": {"ndoption": (4, 14, 24, 25, 31)},
    "TCPOption": {"tcpoption": (6, 7, 19, 27, 28, 29, 34, 69, 172, 174, 253, 254), "mptcp": (30,)},
}
"""The registry (the class whose numbers they are, `Class.variants` for the variants of one, `linktypes`, an
option family): per module of `rawkit.wire` the numbers under which its classes register there."""


class Registry(dict[int, Any]):
    """Classes by number.

    `registry[number]` is None where there is no class, and imports the module of one that waits in `LATER`,
    or else the extensions;
    `registry.get(number)` sees only what is there already.
    """

    __slots__ = ("later",)

    def __init__(self, name: str) -> None:
        super().__init__()
        waiting = LATER.get(name, {})
        self.later = {number: module for module, numbers in waiting.items() for number in numbers}

    def __missing__(self, number: int) -> Any:
        if number in self.later:
            # While the module itself runs it finds its own numbers free, and takes them.
            import_module(f"rawkit.wire.{self.later[number]}")
        elif State.complete:
            return None
        else:
            load_extensions()
        return self.get(number)

    def add(self, number: int, cls: type[Any], where: str) -> None:
        """Register a class; raises TypeError when another one has the number."""
        # A class of rawkit's own must not make extensions be imported, only those who look for one may.
        old = self[number] if number in self.later else self.get(number)
        if old is not None and (old.__module__, old.__qualname__) != (cls.__module__, cls.__qualname__):
            raise TypeError(
                f"{where} {number} is taken: {old.__module__}.{old.__qualname__} "
                f"and {cls.__module__}.{cls.__qualname__} both claim it"
            )
        self[number] = cls


def load_all() -> None:
    """Import every module that waits: for those who ask for classes by name, or want to see all of them."""
    for waiting in LATER.values():
        for module in waiting:
            import_module(f"rawkit.wire.{module}")
    load_extensions()
