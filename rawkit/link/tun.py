"""An address of one's own behind a TUN device: the kernel routes to it, and owns nothing of it."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from ipaddress import ip_address
from typing import Any

from rawkit.errors import EngineError, PermissionDenied
from rawkit.link.carrier import AT_ONCE, Flow, IPAddress, Trouble
from rawkit.link.wholeip import WholeIP
from rawkit.net.netlink import ask
from rawkit.transport.events import Path

_DEVICE = "/dev/net/tun"
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000  # <linux/if_tun.h>
_QUEUE_N = 5000


class Tun(WholeIP):
    """A host of its own in user space, at an address that the kernel routes to a TUN device and answers
    nothing for, whatever the protocol: there is nothing to keep silent.

    The device is made for this, and goes away with it. Other hosts reach the address where this host forwards
    packets (sysctls ip_forward, forwarding) and they have a route to it; programs of this host always do.

    Raises:
        PermissionDenied: CAP_NET_ADMIN is missing, or the rights to open /dev/net/tun.
        TargetError: a bad address.
    """

    name = "tun"

    def __init__(self, local: str, number: int = 253, *, mtu: int = 1500, interface: str = "rktun%d") -> None:
        super().__init__(local, number)
        self.mtu = mtu
        try:
            self._fd = os.open(_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            self._namespace.close()
            code = error.errno or errno.EIO
            if code in (errno.EACCES, errno.EPERM):
                hint = "needs rights on the device: run as root"
                raise PermissionDenied(code, "open", _DEVICE, hint) from None
            raise EngineError(code, "open", _DEVICE) from None
        try:
            request = struct.pack("16sH22x", interface.encode(), _IFF_TUN | _IFF_NO_PI)
            try:
                answer = fcntl.ioctl(self._fd, _TUNSETIFF, request)
            except PermissionError as error:
                raise PermissionDenied(
                    error.errno or errno.EPERM, "make a TUN device", "", "needs CAP_NET_ADMIN: run as root"
                ) from None
            self.interface = answer[:16].rstrip(b"\0").decode()
            """The device's name."""
            ask(self._set_up, "set up a TUN device")
        except BaseException:
            self.close()
            raise
        self._queue: list[tuple[bytes, Path]] = []

    def _set_up(self, route: Any) -> None:
        (index,) = route.link_lookup(ifname=self.interface)
        route.link("set", index=index, mtu=self.mtu, txqlen=_QUEUE_N, state="up")
        # What the kernel said of itself on a new link is no packet for us.
        self._dropped_before = self._dropped(route)
        route.route("add", dst=f"{self.local}/{ip_address(self.local).max_prefixlen}", oif=index)

    def _dropped(self, route: Any) -> int:
        (link,) = route.link("get", ifname=self.interface)
        n: int = link.get_attr("IFLA_STATS64")["tx_dropped"]
        return n

    def _way(self, remote: IPAddress, local: str) -> tuple[str, int]:
        return self.local, self.mtu

    def descriptors(self) -> list[int]:
        return [self._fd]

    def receive(self) -> list[tuple[bytes, Flow, int]]:
        found = []
        for _ in range(AT_ONCE):
            try:
                packet = os.read(self._fd, 65536)
            except BlockingIOError:
                break
            except OSError as error:
                raise EngineError(error.errno or errno.EIO, "receive", self.interface) from None
            arrived = self.unwrap(packet)
            if arrived is not None:
                found.append(arrived)
        return found

    def send(self, octets: bytes, path: Path, ecn: int) -> None:
        self._queue.append((self.wrap(octets, path, ecn), path))

    def flush(self) -> None:
        queue, self._queue = self._queue, []
        for packet, path in queue:
            try:
                os.write(self._fd, packet)
            except OSError as error:
                code = error.errno or errno.EIO
                self.lost["refused"] += 1
                flow = Flow(path.local, path.local_port, path.remote, path.remote_port)
                self.troubles.append(Trouble(flow, b"", os.strerror(code)))

    def count_overflow(self) -> None:
        if self._fd < 0:
            return

        with self._at_home():
            dropped = ask(self._dropped, "read a TUN device's counters")
        self.lost["overflow"] = dropped - self._dropped_before

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
        super()._close()
