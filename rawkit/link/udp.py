"""Packets inside UDP datagrams: for any user, through NATs and middleboxes, and the cheapest of all."""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import sys
from contextlib import suppress

from rawkit.engine.errorqueue import NEWS
from rawkit.engine.native import monotonic_ns
from rawkit.errors import EngineError
from rawkit.link.carrier import AT_ONCE, BUFFER_LEN, KNOWN_MAX, Carrier, Flow, Trouble, set_buffer, trouble_of
from rawkit.transport.events import Path

_UDP_SEGMENT, _UDP_GRO = 103, 104  # <linux/udp.h>
_SO_RXQ_OVFL = 40
_IP_MTU_DISCOVER, _IP_RECVERR, _IP_RECVTOS, _IP_PKTINFO = 10, 11, 13, 8
_IPV6_MTU_DISCOVER, _IPV6_RECVERR, _IPV6_PKTINFO, _IPV6_RECVTCLASS = 23, 25, 50, 66
_PMTUDISC_PROBE = 3  # never fragmented, whatever the kernel believes of the path
_ERROR = struct.Struct("=IBBBxIHBx")  # struct sock_extended_err
_ORIGINS = (2, 3)  # ICMP, ICMPv6

_SEGMENTS_MAX = 64  # of a datagram that the kernel cuts (UDP_MAX_SEGMENTS of older kernels)
_OCTETS_MAX = 65000  # of it
_RECEIVES = 16  # calls before timers are looked at again; each may bring 64 packets
_WAIT_NS = 5 * 10**6

Control = list[tuple[int, int, bytes]]


class UDP(Carrier):
    """A UDP port (0: the kernel's choice, `port` tells), on one address or all of this host's.

    Any user may. The UDP header's ports tell exchanges apart, so a protocol needs none of its own. Packets of
    one size to one place leave in one call and are cut by the kernel (UDP_SEGMENT); those that come are
    taken in merged (UDP_GRO) where the kernel does that. They are never fragmented.

    Raises:
        EngineError: the port is taken (EADDRINUSE), the address is not this host's.
        TargetError: it is no address.
    """

    name = "udp"
    has_ports = True
    silence = "the UDP socket, which is the kernel's own"

    def __init__(
        self, port: int = 0, local: str = "", *, version: int | None = None, buffer_len: int = BUFFER_LEN
    ) -> None:
        super().__init__(local, version, socket.IPPROTO_UDP)
        v4 = self.version == 4
        self.header_len = 28 if v4 else 48
        self._level = socket.IPPROTO_IP if v4 else socket.IPPROTO_IPV6
        self._tos = socket.IP_TOS if v4 else socket.IPV6_TCLASS
        self._info = _IP_PKTINFO if v4 else _IPV6_PKTINFO
        self._socket = socket.socket(
            socket.AF_INET if v4 else socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
        )
        set_option = self._socket.setsockopt
        try:
            set_option(self._level, _IP_RECVERR if v4 else _IPV6_RECVERR, 1)
            set_option(self._level, _IP_MTU_DISCOVER if v4 else _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE)
            set_option(self._level, _IP_RECVTOS if v4 else _IPV6_RECVTCLASS, 1)
            if not self.local:
                set_option(self._level, self._info if v4 else socket.IPV6_RECVPKTINFO, 1)
            if not v4:
                set_option(self._level, socket.IPV6_V6ONLY, 1)
            set_option(socket.SOL_SOCKET, _SO_RXQ_OVFL, 1)
            for sending in (False, True):
                set_buffer(self._socket, sending=sending, octets=buffer_len)
            with suppress(OSError):  # Linux before 5.0
                set_option(socket.IPPROTO_UDP, _UDP_GRO, 1)
            self._socket.bind((self.local or ("0.0.0.0" if v4 else "::"), port))
        except OSError as error:
            self._socket.close()
            super()._close()
            raise EngineError(error.errno or errno.EIO, "open UDP socket", f"port {port}") from None
        self.port: int = self._socket.getsockname()[1]
        """The local port."""
        self._dropped = 0  # since the socket was opened, as far as it is known
        self._damaged_before = self._damaged()
        self._queue: list[tuple[Path, int, bytes]] = []
        self._flows: dict[tuple[bytes, object], Flow] = {}
        self._controls: dict[Path, Control] = {}

    def path(self, flow: Flow) -> Path:
        return super().path(flow._replace(local_port=self.port))

    def descriptors(self) -> list[int]:
        return [self._socket.fileno()]

    # ---- receiving --------------------------------------------------------------------------------

    def receive(self) -> list[tuple[bytes, Flow, int]]:
        found: list[tuple[bytes, Flow, int]] = []
        receive = self._socket.recvmsg
        for _ in range(_RECEIVES):
            try:
                data, control, _, name = receive(65536, 256)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno not in NEWS:
                    raise EngineError(error.errno or errno.EIO, "receive", "UDP") from None
                self._read_errors()
                continue
            size, ecn, local = 0, 0, b""
            for level, kind, value in control:
                if level == self._level:
                    if kind == self._tos:
                        ecn = value[0] & 3
                    elif kind == self._info:
                        local = value
                elif level == socket.IPPROTO_UDP and kind == _UDP_GRO:
                    size = int.from_bytes(value[:4], sys.byteorder)
                elif level == socket.SOL_SOCKET and kind == _SO_RXQ_OVFL:
                    self._dropped = int.from_bytes(value, sys.byteorder)
            flow = self._flows.get((local, name)) or self._flow(local, name)
            if 0 < size < len(data):
                found += [(data[at : at + size], flow, ecn) for at in range(0, len(data), size)]
            else:
                found.append((data, flow, ecn))
            if len(found) >= AT_ONCE:
                break
        return found

    def _flow(self, info: bytes, name: tuple[str, int] | tuple[str, int, int, int]) -> Flow:
        local = self.local
        if info:  # struct in_pktinfo, in6_pktinfo
            address = info[8:12] if self.version == 4 else info[:16]
            local = socket.inet_ntop(socket.AF_INET if self.version == 4 else socket.AF_INET6, address)
        if len(self._flows) >= KNOWN_MAX:
            self._flows.clear()
        flow = self._flows[info, name] = Flow(local, self.port, name[0], name[1])
        return flow

    def _read_errors(self) -> None:
        """ICMP errors, and the kernel's own, about what was sent."""
        wanted = _IP_RECVERR if self.version == 4 else _IPV6_RECVERR
        for _ in range(AT_ONCE):
            try:
                quoted, control, _, name = self._socket.recvmsg(65536, 512, socket.MSG_ERRQUEUE)
            except OSError:
                return
            flow = Flow(self.local, self.port, name[0], name[1])
            for level, kind, data in control:
                if level == self._level and kind == wanted and len(data) >= _ERROR.size:
                    _, origin, icmp, code, info, _, _ = _ERROR.unpack_from(data)
                    trouble = trouble_of(self.version, icmp, code, info, flow, quoted)
                    if origin in _ORIGINS and trouble is not None:
                        self.troubles.append(trouble)

    # ---- sending ----------------------------------------------------------------------------------

    def send(self, octets: bytes, path: Path, ecn: int) -> None:
        self._queue.append((path, ecn, octets))
        if len(self._queue) == AT_ONCE:
            self.flush()

    def flush(self) -> None:
        queue = self._queue
        if not queue:
            return
        self._queue = []
        at, n = 0, len(queue)
        while at < n:
            path, ecn, octets = queue[at]
            size, total, end = len(octets), len(octets), at + 1
            # A run of packets of one size; the last may be shorter.
            while end < n and end - at < _SEGMENTS_MAX and size:
                next_path, next_ecn, more = queue[end]
                total += len(more)
                if next_path is not path or next_ecn != ecn or len(more) > size or total > _OCTETS_MAX:
                    break
                end += 1
                if len(more) < size:
                    break
            self._send_run([octets for _, _, octets in queue[at:end]], size, path, ecn)
            at = end

    def _send_run(self, run: list[bytes], size: int, path: Path, ecn: int) -> None:
        control = self._control(path)
        if len(run) > 1:
            control = [*control, (socket.IPPROTO_UDP, _UDP_SEGMENT, struct.pack("=H", size))]
        if ecn:
            control = [*control, (self._level, self._tos, struct.pack("=i", ecn))]
        where = (path.remote, path.remote_port)
        end_ns = 0
        news = 0
        while True:
            try:
                self._socket.sendmsg(run, control, 0, where)
                return
            except BlockingIOError:
                end_ns = end_ns or monotonic_ns() + _WAIT_NS
                if monotonic_ns() > end_ns:
                    self.lost["send buffer full"] += len(run)
                    return
                _wait_writable(self._socket, end_ns)
            except OSError as error:
                code = error.errno or errno.EIO
                # Of an earlier packet, perhaps: then it is told only once.
                if code in NEWS and news < 2:
                    news += 1
                    self._read_errors()
                    continue
                self.lost["refused"] += len(run)
                most = min(self.way_mtu(path), path.mtu - 1) if code == errno.EMSGSIZE else 0
                flow = Flow(path.local, self.port, path.remote, path.remote_port)
                self.troubles.append(Trouble(flow, b"", os.strerror(code), most))
                return

    def _control(self, path: Path) -> Control:
        """Where the socket has no address of its own: the one that packets of this path leave from."""
        if self.local:
            return []
        known = self._controls.get(path)
        if known is None:
            v4 = self.version == 4
            address = socket.inet_pton(socket.AF_INET if v4 else socket.AF_INET6, path.local)
            info = struct.pack("=i4s4x", 0, address) if v4 else struct.pack("=16si", address, 0)
            known = self._controls[path] = [(self._level, self._info, info)]
        return known

    def count_overflow(self) -> None:
        """Told with the packet that comes after; without those whose checksum was wrong, which the kernel
        counts for the socket too. Of these there is only a number for all UDP sockets of the host.
        """
        if self._dropped:
            with self._at_home():
                damaged = self._damaged() - self._damaged_before
            self.lost["overflow"] = max(self._dropped - damaged, 0)

    def _damaged(self) -> int:
        """How many datagrams with a wrong checksum this host has received."""
        if self.version == 4:
            with open("/proc/thread-self/net/snmp", encoding="ascii") as file:
                names, values = (line.split() for line in file if line.startswith("Udp:"))
            return int(dict(zip(names, values))["InCsumErrors"])
        with open("/proc/thread-self/net/snmp6", encoding="ascii") as file:
            found = (line.split()[1] for line in file if line.startswith("Udp6InCsumErrors"))
            return int(next(found, 0))

    def forget(self, path: Path) -> None:
        self._controls.pop(path, None)

    def _close(self) -> None:
        self._socket.close()
        super()._close()


def _wait_writable(sock: socket.socket, end_ns: int) -> None:
    select.select([], [sock], [], max(0.0, (end_ns - monotonic_ns()) / 1e9))
