"""Two private hosts in network namespaces, joined by one link. Needs no root, leaves nothing behind."""

from rawkit.lab.host import Host
from rawkit.lab.lab import Lab

__all__ = ["Host", "Lab"]
