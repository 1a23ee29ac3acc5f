"""Which ports are most worth a look: by nmap's services file, where the user has one, or by our own list."""

from __future__ import annotations

import os

from rawkit.errors import RawkitError
from rawkit.tools.scan.config import COMMON_PORTS

OWN = "own"
"""In place of a file: our own list."""

_PLACES = ("~/.nmap", "/usr/local/share/nmap", "/usr/share/nmap")
_NAME = "nmap-services"

_FIRST_TCP = (
    443, 80, 22, 21, 25, 3389, 445, 23, 53, 8080, 110, 143, 139, 135, 993, 995, 3306, 587, 8443, 5900,
    111, 1723, 465, 5432, 8000, 6379, 8888, 5060, 2049, 1433, 27017, 8081, 389, 636, 554, 548, 515, 631,
    9100, 7, 179, 88, 873, 1883, 2222, 5000, 5601, 9000, 9090, 9200, 11211, 10000, 1521, 3000, 8008, 8009,
    5672, 2375, 6443, 10250,
)  # fmt: skip
_FIRST_UDP = (
    53, 161, 123, 137, 67, 500, 443, 1900, 5353, 4500, 69, 514, 138, 68, 111, 5060, 1194, 51820, 389, 3478,
    5683, 11211, 623, 2049, 1434, 162, 5355, 5351, 88, 464, 520, 19, 17, 7, 13, 9, 37, 1701, 1812, 1813, 177,
    427, 3702, 27015, 47808, 33434,
)  # fmt: skip


def services_file() -> str:
    """The path of the installed services file; "" when there is none.

    Looked for in the directory that NMAPDIR names, in ~/.nmap, and where packages put it.
    """
    places = (os.environ.get("NMAPDIR", ""), *map(os.path.expanduser, _PLACES))
    paths = (os.path.join(place, _NAME) for place in places if place)
    return next((path for path in paths if os.path.isfile(path)), "")


def top_ports(n: int, protocol: str = "tcp", services: str = OWN) -> tuple[int, ...]:
    """The n ports of a protocol ("tcp", "udp", "sctp") that are most worth a look, in ascending order.

    `services` is the path of a file in the form of nmap-services, which says how often each port was found
    open, or OWN for our own estimation.

    Raises ValueError for more than are ranked, RawkitError for a file that cannot be read.
    """
    ranked = _own(protocol) if services == OWN else _ranking(protocol, services)
    if not 1 <= n <= len(ranked):
        where = "there is" if services == OWN else f"{services} has"
        raise ValueError(f"the top {n} {protocol} ports: {where} a ranking of {len(ranked)}")
    return tuple(sorted(ranked[:n]))


def _own(protocol: str) -> list[int]:
    if protocol == "tcp":
        return list(dict.fromkeys((*_FIRST_TCP, *COMMON_PORTS)))
    if protocol == "udp":
        from rawkit.tools.scan.payloads import COMMON_UDP_PORTS

        return list(dict.fromkeys((*_FIRST_UDP, *COMMON_UDP_PORTS)))
    return []


def _ranking(protocol: str, path: str) -> list[int]:
    """The ports of lines "name port/protocol frequency", the most frequent first."""
    found: list[tuple[float, int]] = []
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                words = line.partition("#")[0].split()
                if len(words) < 3:
                    continue
                port, _, of = words[1].partition("/")
                if of == protocol and port.isdecimal() and int(port) < 65536:
                    found.append((-float(words[2]), int(port)))
    except OSError as error:
        raise RawkitError(f"{path}: {error.strerror}") from None
    except ValueError:
        raise RawkitError(f"{path}: is no file of services as nmap has it: {line.strip()!r}") from None
    return [port for _, port in sorted(found)]
