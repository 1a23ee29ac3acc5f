"""This host's network as the kernel tells it over netlink: interfaces, routes, neighbours.

Every question is about the network namespace of the calling thread, and opens and closes a socket of its
own (about 0.1 ms).
"""

from rawkit.net.interfaces import Interface, interface, interfaces
from rawkit.net.neighbours import neighbour
from rawkit.net.routes import Route, route, source_address

__all__ = ["Interface", "Route", "interface", "interfaces", "neighbour", "route", "source_address"]
