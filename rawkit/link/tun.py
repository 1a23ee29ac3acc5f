"""An address of one's own behind a TUN device: the kernel routes to it, and owns nothing of it."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from ipaddress import ip_address
from typing import Any

from rawkit.errors import EngineError, PermissionDenied, TargetError
from rawkit.link.carrier import AT_ONCE, Flow, IPAddress, Trouble
from rawkit.link.wholeip import WholeIP
from rawkit.net.netlink import ask
from rawkit.transport.events import Path
from rawkit.wire import checksum

_DEVICE = "/dev/net/tun"
# <linux/if_tun.h>
_TUNSETIFF, _TUNSETOFFLOAD = 0x400454CA, 0x400454D0
_IFF_TUN, _IFF_NO_PI, _IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
_TUN_F_CSUM, _TUN_F_TSO4, _TUN_F_TSO6 = 1, 2, 4
_QUEUE_N = 5000

_VNET = struct.Struct(
    "=BBHHHH"
)  # struct virtio_net_hdr: flags, gso_type, hdr_len, gso_size, csum_start, csum_offset
_PLAIN = bytes(_VNET.size)
_NEEDS_CSUM, _GSO_TCPV4, _GSO_TCPV6 = 1, 1, 4
_PACKET_MAX = _VNET.size + 40 + 65535
_SEGMENT_MAX = 65535 - 60  # octets of a super-segment, with its IP header
_ACK, _PSH_FIN = 0x10, 0x09


class Tun(WholeIP):
    """A host of its own in user space, at an address that the kernel routes to a TUN device and answers
    nothing for, whatever the protocol: there is nothing to keep silent.

    The device is made for this, and goes away with it. Other hosts reach the address where this host forwards
    packets (sysctls ip_forward, forwarding) and they have a route to it; programs of this host always do.

    With `offload`, which is for TCP's number (6), segments of this host's kernel come as it would leave them
    to a network card to cut, up to 64 KiB each, and the endpoint's that follow each other leave as one. On a
    wire they are cut to the MTU.

    Raises:
        PermissionDenied: CAP_NET_ADMIN is missing, or the rights to open /dev/net/tun.
        TargetError: a bad address; `offload` for another number than TCP's, which kernels cannot cut.
    """

    name = "tun"

    def __init__(
        self,
        local: str,
        number: int = 253,
        *,
        mtu: int = 1500,
        interface: str = "rktun%d",
        offload: bool = False,
    ) -> None:
        if offload and number != socket.IPPROTO_TCP:
            raise TargetError(f"offload is for TCP (6), not for protocol {number}")
        super().__init__(local, number)
        self._offload = offload
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
            flags = _IFF_TUN | _IFF_NO_PI | (_IFF_VNET_HDR if offload else 0)
            request = struct.pack("16sH22x", interface.encode(), flags)
            try:
                answer = fcntl.ioctl(self._fd, _TUNSETIFF, request)
                if offload:
                    fcntl.ioctl(self._fd, _TUNSETOFFLOAD, _TUN_F_CSUM | _TUN_F_TSO4 | _TUN_F_TSO6)
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
        self._queue: list[tuple[bytes, Path, int]] = []

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
                packet = os.read(self._fd, _PACKET_MAX)
            except BlockingIOError:
                break
            except OSError as error:
                raise EngineError(error.errno or errno.EIO, "receive", self.interface) from None
            arrived = self.unwrap(packet[_VNET.size :] if self._offload else packet)
            if arrived is not None:
                found.append(arrived)
        return found

    def send(self, octets: bytes, path: Path, ecn: int) -> None:
        self._queue.append((octets, path, ecn))

    def flush(self) -> None:
        queue, self._queue = self._queue, []
        at = 0
        while at < len(queue):
            octets, path, ecn = queue[at]
            n = _run_length(queue, at) if self._offload else 1
            if n > 1:
                packet = self._super_segment([row[0] for row in queue[at : at + n]], path, ecn)
            else:
                packet = (_PLAIN if self._offload else b"") + self.wrap(octets, path, ecn)
            at += n
            try:
                os.write(self._fd, packet)
            except OSError as error:
                code = error.errno or errno.EIO
                self.lost["refused"] += n
                flow = Flow(path.local, path.local_port, path.remote, path.remote_port)
                self.troubles.append(Trouble(flow, b"", os.strerror(code)))

    def _super_segment(self, segments: list[bytes], path: Path, ecn: int) -> bytes:
        """One packet of segments that follow each other, and in front of it how to cut it again."""
        first, last = segments[0], segments[-1]
        head_len = (first[12] >> 4) * 4
        length = sum(map(len, segments)) - head_len * (len(segments) - 1)
        # What is left to do with the checksum: its pseudo-header is summed, and not complemented.
        ends = ip_address(path.local).packed, ip_address(path.remote).packed
        pseudo = checksum.pseudo_header(*ends, self.number, length).to_bytes(2, "big")
        whole = first[:13] + last[13:14] + first[14:16] + pseudo + first[18:head_len]
        whole += b"".join(segment[head_len:] for segment in segments)
        kind = _GSO_TCPV4 if self.version == 4 else _GSO_TCPV6
        at = self.header_len
        about = _VNET.pack(_NEEDS_CSUM, kind, at + head_len, len(first) - head_len, at, 16)
        return about + self.wrap(whole, path, ecn)

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


def _run_length(queue: list[tuple[bytes, Path, int]], at: int) -> int:
    """How many TCP segments from `at` on are like one that was cut: of one size, but for a shorter last one,
    and with the same header, but for the number and the last one's PSH and FIN.
    """
    first, path, ecn = queue[at]
    head_len = (first[12] >> 4) * 4 if len(first) > 20 else 0
    size = len(first) - head_len
    if head_len < 20 or size < 1 or first[13] != _ACK:
        return 1
    number, total, end = int.from_bytes(first[4:8], "big"), len(first), at + 1
    while end < len(queue):
        octets, next_path, next_ecn = queue[end]
        number = number + size & 0xFFFFFFFF
        total += len(octets) - head_len
        if (
            next_path is not path
            or next_ecn != ecn
            or not head_len < len(octets) <= len(first)
            or total > _SEGMENT_MAX
            or int.from_bytes(octets[4:8], "big") != number
            or octets[:4] != first[:4]
            or octets[8:13] != first[8:13]
            or octets[13] & ~_PSH_FIN != _ACK
            or octets[14:16] != first[14:16]
            or octets[18:head_len] != first[18:head_len]
        ):
            break
        end += 1
        if len(octets) < len(first) or octets[13] != _ACK:
            break
    return end - at
