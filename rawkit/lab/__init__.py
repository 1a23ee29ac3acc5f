"""Private hosts in network namespaces, joined by a link or by routers. No root, and nothing left behind."""

from rawkit.lab.host import Host
from rawkit.lab.lab import Lab
from rawkit.lab.routed import Link, RoutedLab, Router

__all__ = ["Host", "Lab", "Link", "RoutedLab", "Router"]
