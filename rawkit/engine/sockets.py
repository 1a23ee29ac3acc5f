"""Packet sockets (frames, layer 2) and raw IP sockets (packets, layer 3), a batch at a time."""

from __future__ import annotations

import errno
import os
import socket
import threading
import warnings
from array import array
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from rawkit.engine.aio import Waits
from rawkit.engine.batch import FrameBatch, make_frames
from rawkit.engine.filter import Filter, compile_filter
from rawkit.engine.interface import LINKTYPE_RAW, LINKTYPE_SLL2, Enterable, Origins, mtu, resolve
from rawkit.engine.native import (
    check,
    deadline,
    ffi,
    lib,
    monotonic_ns,
    seconds_until,
    send_now,
    slice_end,
)
from rawkit.errors import EngineError, RawkitError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from rawkit.wire.frame import Frame

ETH_P_ALL = 3
"""Protocol of a packet socket that receives frames of every EtherType."""

SEND_AT_ONCE = 4096
"""Frames given to one call of C, so that it is back well within a slice."""

_SOL_PACKET, _PACKET_FANOUT = 263, 18  # linux/if_packet.h
_FANOUT_CPU, _FANOUT_UNIQUE_ID = 2, 0x2000

_LOOK_AGAIN = 0.5
"""Seconds after which a waiting task looks again: an interface that is removed wakes nobody."""


class Counters(NamedTuple):
    """Totals of a socket since it was opened.

    `received` counts frames that passed the filter, dropped ones included; `dropped` those of them that were
    lost because the socket's buffer was full.
    """

    received: int
    dropped: int


class _Socket:
    """What packet and raw IP sockets share.  One thread may send while another receives."""

    _kind = ""
    _c_close: Any
    _c_fd: Any
    _c_send: Any
    _c_send_one: Any
    _c_receive: Any
    _c_counters: Any
    _c_full: Any
    _c_by: int

    def __init__(self, name: str, filter: Filter | None, linktype: int) -> None:
        self.name = name
        """What error messages call this socket: the interface, or the protocol."""
        self.filter = filter
        self._user_flags: int | None = None  # frames to be judged here, see Placement
        self._rejected = 0
        self._handle: Any = None
        self._send_lock = threading.Lock()
        self._receive_lock = threading.Lock()
        self._waits = Waits()
        self._descriptor = array("i", [-1])  # where frames may be sent as they are; -1: not so
        self._origins = Origins(linktype)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} on {self.name}{'' if self._handle else ', closed'}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            warnings.warn(f"{self!r} was never closed", ResourceWarning, source=self, stacklevel=2)
            self.close()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return not self._handle

    def close(self) -> None:
        """Close the socket.  Another thread that waits in receive or send gets ValueError within 100 ms.

        A task that waits gets it at once; where there are any, close in their loop's thread.
        """
        if handle := self._let_go():
            self._c_close(handle)

    def _let_go(self) -> Any:
        """Be closed; what is left to do is to close the handle, None if that was done before."""
        self._waits.end()
        with self._send_lock, self._receive_lock:
            self._descriptor[0] = -1
            handle, self._handle = self._handle, None
        return handle

    def _live(self) -> Any:
        if not self._handle:
            raise ValueError(f"{self!r}")
        return self._handle

    def fileno(self) -> int:
        """The file descriptor, for select and poll.

        A batch that was full may have left frames behind in the socket object, which the descriptor does
        not show: call `receive` until it returns 0 before waiting on it.
        """
        fd: int = self._c_fd(self._live())
        return fd

    def counters(self) -> Counters:
        """Running totals.  Frames still waiting to be received count as received."""
        out = ffi.new("struct rk_counters *")
        with self._receive_lock:
            check(self._c_counters(self._live(), out), "read counters", self.name)
        return Counters(out.received - self._rejected, out.dropped)

    @property
    def queue_full(self) -> int:
        """How often a send met a full device queue (ENOBUFS): it waits then, ever longer, and tries again."""
        n: int = self._c_full(self._live())
        return n

    def receive(self, batch: FrameBatch, timeout: float | None = None) -> int:
        """Fill the batch, emptied first, with what has arrived; wait for the first frame, not for more.

        `timeout` is in seconds: None waits for ever, 0 not at all.  Returns how many frames there are, 0
        when none came in time.

        Raises:
            EngineError: ENETDOWN once when the interface goes down (receiving may go on: frames come again
                when it is up), ENXIO when it was removed.
            BufferError: an array still looks into the batch.
            ValueError: the socket is closed.
        """
        end_ns = deadline(timeout)
        handle = batch.refill()
        while True:
            with self._receive_lock:
                n = self._c_receive(self._live(), handle, slice_end(end_ns))
            rejected = False
            if n > 0 and self._user_flags is not None and self.filter:
                passed = self.filter.sift(batch, self._user_flags)
                rejected = passed < n
                self._rejected += n - passed
                n = passed
            if n > 0:
                return int(n)
            if n < 0 and n != -errno.EINTR:
                check(n, "receive", self.name)
            # What came was not wanted, but more may lie behind it: even timeout 0 looks through all of it.
            late_ns = monotonic_ns() - end_ns
            if late_ns >= 0 and not (rejected and late_ns < 10_000_000):
                return 0

    def send(self, octets: ReadableBuffer, timeout: float | None = None, *, ifindex: int = 0) -> None:
        """Send one frame (packet), waiting up to `timeout` seconds (None: for ever) while queues are full.

        `ifindex` matters where the socket is on no interface: it is the one to send on, and for raw IP the
        scope of a link-local or multicast destination.

        Raises:
            EngineError: EMSGSIZE too long; EINVAL too short or not what the socket sends; ENETDOWN, ENXIO
                interface down, gone; EAGAIN, ENOBUFS queues full until the timeout; for raw IP also
                EHOSTUNREACH, ENETUNREACH, EACCES (broadcast), EPERM (firewall).
        """
        data = octets if type(octets) is bytes else ffi.from_buffer("uint8_t[]", octets)
        n = len(data)
        with self._send_lock:
            if self._c_send_one(self._live(), data, n, ifindex, 0) == 1:
                return
        frame = ffi.new("struct rk_frame *", {"cap_len": n, "wire_len": n, "ifindex": ifindex})
        batch = ffi.new(
            "struct rk_batch *",
            {
                "arena": ffi.from_buffer("uint8_t[]", octets),
                "frames": frame,
                "arena_len": n,
                "capacity": 1,
                "n": 1,
            },
        )
        if self._send(batch, 0, 1, deadline(timeout), n) == 0:
            raise EngineError(errno.EAGAIN, "send", self.name, "the socket's send buffer stayed full")

    def send_batch(
        self, batch: FrameBatch, first: int = 0, n: int | None = None, timeout: float | None = None
    ) -> int:
        """Send frames [first, first + n) of a batch (n None: all that follow); return how many were accepted.

        Fewer than n when `timeout` (seconds) passed, or when a later frame was refused: sending again from
        there raises the reason.

        Raises:
            EngineError: the first frame was refused; as `send`.
        """
        held = len(batch)
        if n is None:
            n = held - first
        if first < 0 or n < 0 or first + n > held:
            raise ValueError(f"frames [{first}, {first + n}) of a batch that holds {held}")
        return self._send(batch.handle, first, n, deadline(timeout), None)

    def _send(self, batch: Any, first: int, n: int, end_ns: int, frame_len: int | None) -> int:
        done = 0
        while done < n:
            with self._send_lock:
                result = self._c_send(
                    self._live(), batch, first + done, min(n - done, SEND_AT_ONCE), slice_end(end_ns)
                )
            if result > 0:
                done += result
            elif result in (0, -errno.EINTR, -errno.ENOBUFS) and monotonic_ns() < end_ns:
                continue
            elif result == 0 or result == -errno.EINTR or done > 0:
                break  # an error meets the next call first
            else:
                length = batch.frames[first].cap_len if frame_len is None else frame_len
                check(result, "send", self.name, hint=self._send_hint(result, length))
        return done

    # ---- the same from a running asyncio loop

    async def areceive(self, batch: FrameBatch, timeout: float | None = None) -> int:
        """As `receive`, while the loop's other tasks go on.  One task at a time."""
        end_ns = deadline(timeout)
        while (n := self.receive(batch, 0)) == 0 and (left_ns := end_ns - monotonic_ns()) > 0:
            await self._waits.ready([self.fileno()], min(left_ns / 1e9, _LOOK_AGAIN))
        return n

    async def asend(self, octets: ReadableBuffer, timeout: float | None = None, *, ifindex: int = 0) -> None:
        """As `send`, while the loop's other tasks go on."""
        batch = FrameBatch(1, max(1, memoryview(octets).nbytes))
        batch.append(octets)
        batch.handle.frames[0].ifindex = ifindex
        if await self.asend_batch(batch, timeout=timeout) == 0:
            raise EngineError(errno.EAGAIN, "send", self.name, "the socket's send buffer stayed full")

    async def asend_batch(
        self, batch: FrameBatch, first: int = 0, n: int | None = None, timeout: float | None = None
    ) -> int:
        """As `send_batch`, while the loop's other tasks go on."""
        end_ns = deadline(timeout)
        n = len(batch) - first if n is None else n
        done = 0
        pause = 0.0
        while True:
            try:
                accepted = self.send_batch(batch, first + done, n - done, 0)
            except EngineError as error:
                if done > 0:
                    return done
                if error.errno != errno.ENOBUFS or monotonic_ns() >= end_ns:
                    raise
                # The device's queue is full, and nothing tells when it is not.
                pause = min(max(2 * pause, 50e-6), 1e-3)
                await _sleep(pause)
                continue
            done += accepted
            left_ns = end_ns - monotonic_ns()
            if done == n or left_ns <= 0:
                return done
            await self._waits.ready([self.fileno()], min(left_ns / 1e9, _LOOK_AGAIN), sending=True)

    async def aframes(
        self, timeout: float | None = None, batch: FrameBatch | None = None
    ) -> AsyncIterator[Frame]:
        """As `frames`, for `async for`."""
        end_ns = deadline(timeout)
        if batch is None:
            batch = FrameBatch(256, 1 << 20)
        while await self.areceive(batch, seconds_until(end_ns)):
            for frame in make_frames(batch, self._origin):
                yield frame

    def send_paced(self, pace: Any, batch: FrameBatch, first: int, n: int, due: Any, end_ns: int) -> int:
        """One call of C for `PacedSender`: rows dealt with, or a negative errno."""
        with self._send_lock:
            result: int = lib.rk_pace_send(
                pace, self._c_by, self._live(), batch.handle, first, n, due, end_ns
            )
        return result

    @contextmanager
    def lent(self, *, sending: bool) -> Iterator[tuple[Any, int]]:
        """The handle and its kind for a call of C that sends, or receives; nobody else does so meanwhile."""
        with self._send_lock if sending else self._receive_lock:
            yield self._live(), self._c_by

    def send_error(self, result: int, length: int) -> EngineError:
        """What a negative errno means that a call of C had for a frame of `length` octets."""
        return EngineError(-result, "send", self.name, self._send_hint(result, length))

    def _send_hint(self, result: int, length: int) -> str:
        if result == -errno.EPERM:
            return "a firewall rule of this host forbids it"
        return f"{length} octets" if result in (-errno.EMSGSIZE, -errno.EINVAL) else ""

    def frames(self, timeout: float | None = None, batch: FrameBatch | None = None) -> Iterator[Frame]:
        """What arrives, frame by frame, until `timeout` seconds have passed (None: for ever).

        A frame sent over loopback comes twice, direction "out" and then "in".  `batch` is for reuse; it is
        refilled as the iteration goes on.

        Raises:
            EngineError: as `receive`; a new call goes on after ENETDOWN.
        """
        end_ns = deadline(timeout)
        if batch is None:
            batch = FrameBatch(256, 1 << 20)
        while self.receive(batch, seconds_until(end_ns)):
            yield from make_frames(batch, self._origin)

    def _origin(self, ifindex: int) -> tuple[str, int]:
        return self._origins.find(ifindex, self)


def share_by_processor(sockets: Sequence[PacketSocket]) -> None:
    """Give each packet to the socket of the processor that receives it; until now each went to all of them.

    The sockets have to be alike.

    Raises: EngineError.
    """
    group = 0
    for sock in sockets if len(sockets) > 1 else ():
        with socket.socket(fileno=os.dup(sock.fileno())) as same:
            try:
                flags = 0 if group else _FANOUT_UNIQUE_ID
                same.setsockopt(_SOL_PACKET, _PACKET_FANOUT, group | (_FANOUT_CPU | flags) << 16)
                group = same.getsockopt(_SOL_PACKET, _PACKET_FANOUT) & 0xFFFF
            except OSError as error:
                raise EngineError(error.errno or 0, "share what is received", sock.name) from None


def close_all(sockets: Iterable[PacketSocket | RawIPSocket]) -> None:
    """Close sockets without waiting until the kernel has done so, for packet sockets some 10 ms.

    Until then their descriptors may still be open.
    """
    handles = []
    for sock in sockets:
        if isinstance(sock, RawIPSocket):
            sock.close()
        elif handle := sock._let_go():
            handles.append(handle)
    lib.rk_packet_close_all(handles, len(handles))


class PacketSocket(_Socket):
    """Frames as the link layer sees them, on one interface or all of them (packet(7)).

    Frames have their VLAN tag, and `records()` say when the kernel saw them, in which direction they went,
    and whether their checksum is filled in.  With `cooked` octets start at layer 3 and the kernel adds the
    link header on sending: for loopback, tun and interfaces with a link layer of their own.  With `sll2`,
    received octets start with a LINUX_SLL2 header instead, as in a capture of tcpdump on "any".  A cooked
    socket that is `bare` tells nothing of what it receives but octets and time, which is quicker.

    On loopback the kernel takes no IPv4 packet from 127.0.0.0/8 that was sent this way (a "martian"); a
    `RawIPSocket` gets through.
    """

    _c_close = staticmethod(lib.rk_packet_close)
    _c_fd = staticmethod(lib.rk_packet_fd)
    _c_send = staticmethod(lib.rk_packet_send)
    _c_send_one = staticmethod(lib.rk_packet_send_one)
    _c_receive = staticmethod(lib.rk_packet_receive)
    _c_counters = staticmethod(lib.rk_packet_counters)
    _c_full = staticmethod(lib.rk_packet_full)
    _c_by = lib.RK_BY_PACKET

    def __init__(
        self,
        interface: str | int | None,
        *,
        cooked: bool = False,
        sll2: bool = False,
        bare: bool = False,
        protocol: int = ETH_P_ALL,
        filter: str | Filter | None = None,
        promiscuous: bool = False,
        ignore_outgoing: bool = False,
        buffer_len: int = 0,
        namespace: Enterable | None = None,
    ) -> None:
        """Open on an interface (name or number; None: all); nothing is heard before the filter is in place.

        `protocol` is the EtherType wanted, ETH_P_ALL for all, 0 for a socket that only sends.  `filter` is a
        tcpdump expression or a compiled one for this socket's `linktype`; it sees frames with their VLAN
        tag, as in a file.  `buffer_len` is the receive buffer in octets (0: the system's default).
        `namespace` is the network namespace to open it in.

        Raises:
            UnknownInterface: there is no such interface.
            PermissionDenied: CAP_NET_RAW is missing.
            FilterError: the filter does not compile.
            EngineError: anything else the kernel says.
        """
        if not 0 <= protocol <= 0xFFFF:
            raise ValueError(f"protocol {protocol} is no EtherType")
        if promiscuous and interface is None:
            raise ValueError("promiscuous: needs one interface")
        if bare and (sll2 or not cooked):
            raise ValueError("bare: needs cooked")
        with namespace.enter() if namespace is not None else nullcontext():
            index, name, linktype = resolve(interface)
            if sll2:
                linktype = LINKTYPE_SLL2
            elif cooked:
                linktype = LINKTYPE_RAW
            elif not linktype:
                raise RawkitError(f"open packet socket on {name}: its link layer is unknown; open it cooked")
            if isinstance(filter, str):
                filter = compile_filter(filter, linktype)
            super().__init__(name, filter, linktype if index or cooked or sll2 else 0)
            if index:
                self._origins.add(index, name, linktype)
            self.ifindex = index
            """The interface's number, 0 for all interfaces."""
            self.linktype = linktype
            """LINKTYPE_ number of what is received (on all interfaces, not cooked: frames may differ)."""
            self.cooked = cooked or sll2
            insns, insns_n = ffi.NULL, 0
            if filter is not None:
                # A kernel filter would not see the header that is put in front. Tags are missing only where
                # there is a place for them.
                sees = "" if sll2 else "packets" if cooked else "frames"
                insns, insns_n, self._user_flags = filter.place(sees)
            flags = (
                cooked * lib.RK_PACKET_COOKED
                | sll2 * lib.RK_PACKET_SLL2
                | bare * lib.RK_PACKET_BARE
                | promiscuous * lib.RK_PACKET_PROMISCUOUS
                | ignore_outgoing * lib.RK_PACKET_IGNORE_OUTGOING
            )
            out = ffi.new("struct rk_packet **")
            check(
                lib.rk_packet_open(out, index, protocol, flags, insns, insns_n, buffer_len),
                "open packet socket",
                name,
                needs="CAP_NET_RAW",
            )
        self._handle = out[0]
        if index and not protocol and not self.cooked:
            # Nothing has to be put before a frame.
            self._descriptor[0] = self.fileno()

    def open_xsk(self) -> None:
        """Make the AF_XDP socket through whose ring several frames at a time can go, see `start_xsk`.

        Raises:
            PermissionDenied: CAP_NET_RAW is missing.
            EngineError: EAFNOSUPPORT where the kernel lacks AF_XDP; EINVAL on all interfaces, or cooked.
        """
        with self._send_lock:
            result = lib.rk_packet_open_xsk(self._live())
        check(result, "open AF_XDP socket", self.name, needs="CAP_NET_RAW")

    def start_xsk(self, timeout: float = 0.0) -> None:
        """Take a transmit queue for that socket, up to 512 KiB of locked memory, and send through it.

        No frame passes the queueing discipline from then on, and taps on this interface do not see them.
        `timeout`, in seconds, is for a queue whose socket was just closed: the kernel lets go of it some 40
        ms later, on a busy machine after more.

        Raises:
            EngineError: EBUSY, ENOBUFS or EOPNOTSUPP; all frames go as before.
        """
        with self._send_lock:
            result = lib.rk_packet_start_xsk(self._live(), deadline(timeout))
        hints = {
            -errno.EBUSY: "AF_XDP sockets have all its transmit queues",
            -errno.ENOBUFS: "more memory than RLIMIT_MEMLOCK (ulimit -l) allows",
        }
        check(result, "open AF_XDP socket", self.name, hint=hints.get(result, ""))

    @property
    def has_xsk(self) -> bool:
        """Whether several frames at a time go through an AF_XDP socket."""
        return bool(lib.rk_packet_has_xsk(self._live()))

    def send(self, octets: ReadableBuffer, timeout: float | None = None, *, ifindex: int = 0) -> None:
        if send_now(self._descriptor, octets):  # what is wrong is waited for, or named
            super().send(octets, timeout, ifindex=ifindex)

    send.__doc__ = _Socket.send.__doc__

    def _send_hint(self, result: int, length: int) -> str:
        if result == -errno.EMSGSIZE and self.ifindex:
            with suppress(OSError):
                allowed = mtu(self, self.ifindex)
                return f"{length} octets are more than the MTU of {allowed} allows"
        if result == -errno.EDESTADDRREQ:
            return "a socket on all interfaces needs ifindex"
        return super()._send_hint(result, length)


class RawIPSocket(_Socket):
    """Whole IP packets; the kernel finds route and neighbour (raw(7), icmp(7)).

    Where the kernel's socket has no IP header (IPv6, ICMP datagrams), one is rebuilt from what it tells on
    receiving (records: REBUILT_IP), and on sending addresses, hop limit and traffic class are taken from
    the packet's.
    """

    _c_close = staticmethod(lib.rk_rawip_close)
    _c_fd = staticmethod(lib.rk_rawip_fd)
    _c_send = staticmethod(lib.rk_rawip_send)
    _c_send_one = staticmethod(lib.rk_rawip_send_one)
    _c_receive = staticmethod(lib.rk_rawip_receive)
    _c_counters = staticmethod(lib.rk_rawip_counters)
    _c_full = staticmethod(lib.rk_rawip_full)
    _c_by = lib.RK_BY_RAWIP

    def __init__(
        self,
        family: int,
        protocol: int,
        *,
        header_included: bool = True,
        icmp_datagram: bool = False,
        interface: str | int | None = None,
        filter: str | Filter | None = None,
        buffer_len: int = 0,
        namespace: Enterable | None = None,
    ) -> None:
        """Open for one IP protocol of a family (4 or 6); it hears nothing that came before.

        `header_included`: an IPv4 packet goes out with its own header, of which the kernel sets only total
        length, checksum, and an identification or source address of 0.  Without it, and for IPv6, the
        header's protocol must be the socket's, options and extension headers cannot be sent, an unspecified
        source address is the kernel's choice, and so is the ICMPv6 checksum.  Protocol 255 only sends, and
        sends IPv6 packets too with their own header.
        `icmp_datagram`: a socket for echo requests that needs no capability; the kernel overwrites their
        identifier with `icmp_id`. Replies and ICMP errors about its own requests come back; what an error
        quotes has an IP header with addresses, protocol and length only.
        `interface` restricts it to one; `filter` is a tcpdump expression on the packet (link type 101).

        Raises:
            PermissionDenied: CAP_NET_RAW is missing, or sysctl net.ipv4.ping_group_range forbids it.
            UnknownInterface, FilterError, EngineError: as PacketSocket.
        """
        if family not in (4, 6):
            raise ValueError(f"family {family!r} is neither 4 nor 6")
        if not 0 <= protocol <= 255:
            raise ValueError(f"protocol {protocol} is not within 0..255")
        icmp = 1 if family == 4 else 58
        if icmp_datagram and protocol != icmp:
            raise ValueError(
                f"an ICMP datagram socket of family {family} is for protocol {icmp}, not {protocol}"
            )
        with namespace.enter() if namespace is not None else nullcontext():
            index = 0
            subject = f"IPv{family} protocol {protocol}"
            if interface is not None:
                index, name, _ = resolve(interface)
                subject += f" on {name}"
            if isinstance(filter, str):
                filter = compile_filter(filter, LINKTYPE_RAW)
            super().__init__(subject, filter, LINKTYPE_RAW)
            insns, insns_n = ffi.NULL, 0
            if filter is not None:
                # Elsewhere the kernel's filter would see the payload alone.
                sees = "packets" if family == 4 and not icmp_datagram else ""
                insns, insns_n, self._user_flags = filter.place(sees)
            self.family = family
            self.protocol = protocol
            self.linktype = LINKTYPE_RAW
            flags = (
                header_included * lib.RK_RAWIP_HEADER_INCLUDED | icmp_datagram * lib.RK_RAWIP_ICMP_DATAGRAM
            )
            out = ffi.new("struct rk_rawip **")
            check(
                lib.rk_rawip_open(out, family, protocol, flags, index, insns, insns_n, buffer_len),
                "open ICMP datagram socket" if icmp_datagram else "open raw IP socket",
                subject,
                needs="ping_group_range" if icmp_datagram else "CAP_NET_RAW",
            )
        self._handle = out[0]

    @property
    def icmp_id(self) -> int:
        """The identifier that the kernel puts into the echo requests of an ICMP datagram socket.

        Raises:
            EngineError: EINVAL for another socket.
        """
        return check(lib.rk_rawip_icmp_id(self._live()), "read ICMP identifier", self.name)

    def ignore_path_mtu(self) -> None:
        """Send packets up to the interface's MTU, whatever the kernel knows of a path.

        That is IP_PMTUDISC_PROBE of ip(7).
        """
        level, option = (socket.IPPROTO_IP, 10) if self.family == 4 else (socket.IPPROTO_IPV6, 23)
        with socket.socket(fileno=os.dup(self.fileno())) as same:
            same.setsockopt(level, option, 3)


async def _sleep(seconds: float) -> None:
    import asyncio

    await asyncio.sleep(seconds)
