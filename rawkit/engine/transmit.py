"""Ways to send at speed behind one interface: packet and AF_XDP sockets, XDP live frames, raw IP sockets.

docs/design/transmit.md says how they differ and what `backend="auto"` goes by.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
import warnings
from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, Self

from rawkit.engine.batch import FrameBatch
from rawkit.engine.interface import LINKTYPE_ETHERNET, LINKTYPE_RAW, Enterable
from rawkit.engine.native import check, deadline, ffi, lib, monotonic_ns, seconds_until, slice_end
from rawkit.engine.sockets import PacketSocket, RawIPSocket
from rawkit.errors import EngineError, PermissionDenied, UnknownInterface
from rawkit.net import interface as described

BACKENDS = ("auto", "packet", "af-xdp", "xdp", "ip")

FRAME_LEN: int = lib.RK_XDP_FRAME_LEN
"""Octets of the longest frame that the XDP backend carries."""

AT_ONCE = 256
"""Frames that `asend_batch` sends at a time: some 0.3 ms."""

# Kinds of interface where frames end, or go on as their octets alone say; a card has none. Others (bridge,
# ipvlan, tunnels) read in each frame's record which protocol it carries, and AF_XDP leaves that empty.
_LEAVES = ("", "veth", "tun")

# Seconds for which a transmit queue is waited for, and when AF_XDP was asked for.
_QUEUE_WAIT, _ASKED_QUEUE_WAIT = 0.2, 2.0

# Frames that go first, while the kernel is asked what the interface's driver does with them.
_PROOF_N: int = lib.RK_XDP_PROOF_N

_ONLY_SENDS = 255  # IPPROTO_RAW: whole packets of any protocol

_RTM_GETSTATS = 94
_NEWSTATS = 92
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_STATS = struct.Struct("=BxxxII")  # struct if_stats_msg: family, interface, attributes wanted
_STATS64 = struct.Struct("=8Q")  # the first of struct rtnl_link_stats64


class InterfaceCounters(NamedTuple):
    """What an interface counted since it was made (rtnetlink(7), IFLA_STATS64)."""

    rx_packets: int
    tx_packets: int
    rx_bytes: int
    tx_bytes: int
    rx_errors: int
    tx_errors: int
    rx_dropped: int
    tx_dropped: int


class TransmitReport(NamedTuple):
    """What became of the frames given to a transmitter.

    `accepted` were taken by the kernel; `failed` counts refusals by errno, and `queue_full` how often a full
    device queue (ENOBUFS) made sending wait and try again. `before` and `after` are the interface's counters
    when it was opened and now, everybody else's frames included (None: no interface was named; it is gone).
    """

    backend: str
    reason: str
    accepted: int
    failed: Mapping[int, int]
    queue_full: int
    before: InterfaceCounters | None
    after: InterfaceCounters | None


class Transmitter(Protocol):
    """What every backend offers."""

    name: str
    """What error messages call it: the interface."""

    @property
    def backend(self) -> str:
        """The one in use: "packet", "af-xdp", "xdp" or "ip"."""

    @property
    def reason(self) -> str:
        """Why it is that one."""

    @property
    def linktype(self) -> int:
        """LINKTYPE_ number of what frames have to start with: 1 Ethernet, 101 an IP header."""

    def send_batch(
        self, batch: FrameBatch, first: int = 0, n: int | None = None, timeout: float | None = None
    ) -> int:
        """Send frames [first, first + n); how many were accepted. As `PacketSocket.send_batch`."""

    async def asend_batch(
        self, batch: FrameBatch, first: int = 0, n: int | None = None, timeout: float | None = None
    ) -> int:
        """As `send_batch`, while the loop's other tasks go on; they get their turn every AT_ONCE frames."""

    def send_paced(self, pace: Any, batch: FrameBatch, first: int, n: int, due: Any, end_ns: int) -> int:
        """For `PacedSender`."""

    def report(self) -> TransmitReport:
        """What happened so far."""

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


def open_transmitter(
    interface: str | None, backend: str = "auto", *, namespace: Enterable | None = None
) -> Transmitter:
    """Open `interface`, in `namespace` where one is given, for sending frames of its link layer.

    "auto" takes XDP live frames where they may be used and work: the interface's driver has to take the first
    of the caller's own frames. Otherwise an AF_XDP socket sends these and all others, where the interface has
    a queue free for one, and else the packet socket. "xdp" and "af-xdp" raise then. Taps on the sending
    interface (tcpdump there) and its queueing discipline see frames of "packet" only. "ip" sends IP packets
    of both families, with their own headers, for which the kernel finds route and next hop; its `interface`
    may be None, for whichever the route leads to.

    Raises:
        ValueError: there is no such backend, or it needs an interface.
        UnknownInterface: there is no such interface.
        PermissionDenied: CAP_NET_RAW is missing, or for "xdp" CAP_SYS_ADMIN or CAP_NET_ADMIN.
        EngineError: anything else the kernel says; EOPNOTSUPP where it has no live frames, or AF_XDP does not
            suit the interface; EBUSY where AF_XDP sockets have all its queues, ENOBUFS beyond RLIMIT_MEMLOCK.
    """
    if backend not in BACKENDS:
        raise ValueError(f"there is no backend {backend!r}; there are {', '.join(BACKENDS)}")
    if interface is None and backend != "ip":
        raise ValueError(f"backend {backend!r} needs an interface")
    return _Transmitter(interface, backend, namespace)


def _range(batch: FrameBatch, first: int, n: int | None) -> int:
    """The number of frames meant by n.  Raises `ValueError` where they are not all there."""
    held = len(batch)
    if n is None:
        n = held - first
    if first < 0 or n < 0 or first + n > held:
        raise ValueError(f"frames [{first}, {first + n}) of a batch that holds {held}")
    return n


class _LiveFrames:
    """An open `struct rk_xdp`."""

    def __init__(self, interface: str, ifindex: int) -> None:
        self.name = interface
        out = ffi.new("struct rk_xdp **")
        check(
            lib.rk_xdp_open(out, ifindex),
            "open XDP live frames",
            interface,
            needs="CAP_SYS_ADMIN and CAP_NET_ADMIN",
        )
        self._handle: Any = out[0]
        self._lock = threading.Lock()

    def close(self) -> None:
        with self._lock:
            handle, self._handle = self._handle, None
            if handle:
                lib.rk_xdp_close(handle)

    def send_batch(self, batch: FrameBatch, first: int, n: int, timeout: float | None) -> int:
        end_ns = deadline(timeout)
        done = 0
        while done < n:
            with self._lock:
                if not self._handle:
                    raise ValueError(f"the transmitter on {self.name} is closed")
                result = lib.rk_xdp_send(
                    self._handle, batch.handle, first + done, n - done, slice_end(end_ns)
                )
            if result > 0:
                done += result
            elif result != -errno.EINTR and done > 0:
                break  # the error meets the next call first
            elif result != -errno.EINTR:
                length = batch.handle.frames[first].cap_len
                hint = f"{length} octets" if result in (-errno.EMSGSIZE, -errno.EINVAL, -errno.EFBIG) else ""
                check(result, "send", self.name, hint=hint)
            if monotonic_ns() >= end_ns:
                break
        return done

    def prove(self, batch: FrameBatch, first: int, n: int) -> int:
        """How many of these frames, of which it looks at _PROOF_N, the driver took; or a negative errno."""
        with self._lock:
            if not self._handle:
                raise ValueError(f"the transmitter on {self.name} is closed")
            result: int = lib.rk_xdp_prove(self._handle, batch.handle, first, n)
        return result

    def trust(self) -> None:
        """There will be no more proofs."""
        with self._lock:
            if self._handle:
                lib.rk_xdp_trust(self._handle)

    def send_paced(self, pace: Any, batch: FrameBatch, first: int, n: int, due: Any, end_ns: int) -> int:
        with self._lock:
            if not self._handle:
                raise ValueError(f"the transmitter on {self.name} is closed")
            result: int = lib.rk_pace_send(
                pace, lib.RK_BY_XDP, self._handle, batch.handle, first, n, due, end_ns
            )
        return result


class _IPSockets:
    """A raw IP socket for each family; a packet goes to the one its header says."""

    def __init__(self, interface: str | None) -> None:
        self._sockets = {4: RawIPSocket(4, _ONLY_SENDS, interface=interface)}
        try:
            self._sockets[6] = RawIPSocket(6, _ONLY_SENDS, interface=interface)
        except EngineError as error:
            if error.errno != errno.EAFNOSUPPORT:  # a kernel without IPv6
                self.close()
                raise

    def close(self) -> None:
        for sock in self._sockets.values():
            sock.close()

    @property
    def queue_full(self) -> int:
        return sum(sock.queue_full for sock in self._sockets.values())

    def send_batch(self, batch: FrameBatch, first: int, n: int, timeout: float | None) -> int:
        """Send the first packets that are of one family. What is no IP packet is refused as one of IPv4."""
        return self._socket_for(batch, first).send_batch(batch, first, n, timeout)

    def send_paced(self, pace: Any, batch: FrameBatch, first: int, n: int, due: Any, end_ns: int) -> int:
        # One packet only: in the middle of a call one of the other family would count as refused.
        return self._socket_for(batch, first).send_paced(pace, batch, first, min(n, 1), due, end_ns)

    def _socket_for(self, batch: FrameBatch, first: int) -> RawIPSocket:
        octets = batch[first]
        version = octets[0] >> 4 if octets else 4
        return self._sockets.get(version, self._sockets[4])


class _Transmitter:
    """A packet socket, with an AF_XDP socket or without, live frames until they turn out not to work, or both
    kinds of raw IP sockets."""

    def __init__(self, interface: str | None, backend: str, namespace: Enterable | None) -> None:
        self.name = interface or "IP"
        self._choice = backend
        self._accepted = 0
        self._failed: Counter[int] = Counter()
        self._unproven = _PROOF_N
        self._live: _LiveFrames | None = None
        self._socket: PacketSocket | _IPSockets | None = None
        self._ifindex = 0
        self._rtnl: socket.socket | None = None
        self._rtnl_lock = threading.Lock()
        self._before: InterfaceCounters | None = None
        self._by_xsk = False
        self._no_xsk = ""  # why there is none
        self.linktype = LINKTYPE_ETHERNET
        self._reason = "asked for"
        try:
            with namespace.enter() if namespace is not None else nullcontext():
                self._open(interface, backend)
            if self._ifindex:
                self._before = self._counters()
        except BaseException:
            self.close()
            raise

    def _open(self, interface: str | None, backend: str) -> None:
        self._rtnl = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        if interface is not None:
            try:
                self._ifindex = socket.if_nametoindex(interface)
            except OSError:
                raise UnknownInterface(f"open transmitter: there is no interface {interface}") from None
        if backend == "ip":
            self._socket = _IPSockets(interface)
            self.linktype = LINKTYPE_RAW
            return
        assert interface is not None
        if backend != "xdp":
            # Also beside live frames: later there may be no privilege left to open it with.
            self._socket = PacketSocket(interface, protocol=0)
            self.linktype = self._socket.linktype
        if backend in ("auto", "xdp"):
            self._open_live(interface)
        if backend in ("auto", "af-xdp") and isinstance(self._socket, PacketSocket):
            self._open_xsk(self._socket)

    def _open_live(self, interface: str) -> None:
        if self.linktype != LINKTYPE_ETHERNET:
            self._reason = f"{interface} has no Ethernet frames, which live frames have to be"
            return
        try:
            self._live = _LiveFrames(interface, self._ifindex)
        except EngineError as error:
            if self._choice == "xdp":
                raise
            lacking = "lack of CAP_SYS_ADMIN or CAP_NET_ADMIN" if isinstance(error, PermissionDenied) else ""
            self._reason = f"no XDP live frames: {lacking or os.strerror(error.errno or 0)}"
        else:
            if self._choice == "auto":
                self._reason = "XDP live frames are allowed here; not yet proven"

    def _open_xsk(self, sock: PacketSocket) -> None:
        """Open an AF_XDP socket too; it takes no queue before it is wanted."""
        problem = ""
        if self.linktype != LINKTYPE_ETHERNET:
            problem = "its frames are not Ethernet's"
        elif (its_kind := described(self._ifindex).kind) not in _LEAVES:
            problem = f"a {its_kind} goes by what a frame is said to carry, which AF_XDP does not say"
        try:
            if problem:
                raise EngineError(errno.EOPNOTSUPP, "open AF_XDP socket", self.name, problem)
            sock.open_xsk()
        except EngineError as error:
            self._go_without_xsk(error)
        else:
            if self._live is None:
                self._start_xsk(sock)

    def _start_xsk(self, sock: PacketSocket) -> None:
        try:
            sock.start_xsk(_QUEUE_WAIT if self._choice == "auto" else _ASKED_QUEUE_WAIT)
        except EngineError as error:
            self._go_without_xsk(error)
        else:
            self._by_xsk = True

    def _go_without_xsk(self, error: EngineError) -> None:
        if self._choice == "af-xdp":
            raise error
        self._no_xsk = str(error)

    @property
    def backend(self) -> str:
        if self._live is not None:
            return "xdp"
        if isinstance(self._socket, _IPSockets):
            return "ip"
        return "af-xdp" if self._by_xsk else "packet"

    @property
    def reason(self) -> str:
        return f"{self._reason}; {self._no_xsk}" if self._no_xsk and self._live is None else self._reason

    def __repr__(self) -> str:
        return f"<transmitter on {self.name}: {self.backend}, {self.reason}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_rtnl", None) is not None:
            warnings.warn(f"{self!r} was never closed", ResourceWarning, source=self, stacklevel=2)
            self.close()

    def close(self) -> None:
        """Let go of everything. Closing twice is harmless."""
        for held in (self._live, self._socket):
            if held is not None:
                held.close()
        with self._rtnl_lock:
            if self._rtnl is not None:
                self._rtnl.close()
            self._rtnl = None

    def send_batch(
        self, batch: FrameBatch, first: int = 0, n: int | None = None, timeout: float | None = None
    ) -> int:
        """Send frames [first, first + n) of a batch (n None: all that follow); return how many were accepted.

        Raises:
            EngineError: the first frame was refused, as by `PacketSocket.send`; from "xdp" also EOPNOTSUPP
                where the interface throws live frames away, and EFBIG beyond FRAME_LEN octets.
            ValueError: the range is not in the batch, or the transmitter is closed.
        """
        n = _range(batch, first, n)
        try:
            done = self._send_most(batch, first, n, deadline(timeout))
        except EngineError as error:
            self._failed[error.errno or 0] += 1
            raise
        self._accepted += done
        return done

    async def asend_batch(
        self, batch: FrameBatch, first: int = 0, n: int | None = None, timeout: float | None = None
    ) -> int:
        import asyncio

        n = _range(batch, first, n)
        end_ns = deadline(timeout)
        done = 0
        pause = 0.0
        try:
            while True:
                try:
                    accepted = self._send_most(batch, first + done, min(AT_ONCE, n - done), monotonic_ns())
                except EngineError as error:
                    if done > 0:
                        return done  # the next call meets it again
                    if error.errno != errno.ENOBUFS or monotonic_ns() >= end_ns:
                        self._failed[error.errno or 0] += 1
                        raise
                    accepted = 0
                done += accepted
                if done == n or monotonic_ns() >= end_ns:
                    return done
                # Nothing tells when a device's queue has room again.
                pause = 0.0 if accepted else min(max(2 * pause, 50e-6), 1e-3)
                await asyncio.sleep(pause)
        finally:
            self._accepted += done

    def _send_most(self, batch: FrameBatch, first: int, n: int, end_ns: int) -> int:
        """Send n frames, or those that go until `end_ns` or a refusal; raises when that meets the first."""
        done = 0
        try:
            while done < n and (done == 0 or monotonic_ns() < end_ns):
                accepted = self._send_some(batch, first + done, n - done, seconds_until(end_ns))
                if accepted == 0:
                    break
                done += accepted
        except EngineError:
            if done == 0:
                raise  # else it meets the next call first
        return done

    def _send_some(self, batch: FrameBatch, first: int, n: int, timeout: float | None) -> int:
        """Send one frame at least, without which it raises or the timeout has passed."""
        if self._live is not None and self._unproven > 0:
            accepted = self._prove(batch, first, min(n, self._unproven))
            if accepted > 0:
                return accepted
        if self._live is not None:
            try:
                return self._live.send_batch(batch, first, n, timeout)
            except EngineError as error:
                if self._socket is None or error.errno not in (errno.EFBIG, errno.EOPNOTSUPP):
                    raise
                self._give_up(-error.errno)
        if self._socket is None:
            raise ValueError(f"the transmitter on {self.name} is closed")
        return self._socket.send_batch(batch, first, n, timeout)

    def _prove(self, batch: FrameBatch, first: int, n: int) -> int:
        """Send some of the first frames live and see whether the driver takes them; how many it took.

        Gives 0 when they have to go again: by the packet socket, or to meet the reason of a refusal.
        """
        assert self._live is not None
        taken = self._live.prove(batch, first, n)
        if taken == -errno.ENOSYS and self._socket is None:
            self._unproven = 0  # it was asked for, and here nobody can tell
        elif taken == -errno.ENOSYS:
            self._fall_back("the kernel does not tell whether the driver takes live frames")
        elif taken > 0:
            self._unproven -= taken
            if self._choice == "auto":
                self._reason = "XDP live frames work: the driver took the first"
        elif taken == 0:
            problem = "the driver took none of the first live frames"
            if self._socket is None:
                raise EngineError(
                    errno.EOPNOTSUPP, "send", self.name, f"{problem}; a veth peer needs GRO on (ethtool -K)"
                )
            self._fall_back(problem)
        if self._live is not None and self._unproven <= 0:
            self._live.trust()
        return max(taken, 0)

    def send_paced(self, pace: Any, batch: FrameBatch, first: int, n: int, due: Any, end_ns: int) -> int:
        sent, failed = pace.sent, ffi.unpack(pace.failed, lib.RK_PACE_ERRNOS)
        result = self._send_paced(pace, batch, first, n, due, end_ns)
        self._accepted += pace.sent - sent
        if result > pace.sent - sent:
            for number, now in enumerate(ffi.unpack(pace.failed, lib.RK_PACE_ERRNOS)):
                if now > failed[number]:
                    self._failed[number] += now - failed[number]
        return result

    def _send_paced(self, pace: Any, batch: FrameBatch, first: int, n: int, due: Any, end_ns: int) -> int:
        frame, due_ns = batch.handle.frames + first, due[first] + pace.moved_ns
        if self._live is not None and self._unproven > 0:
            n = 1
            lib.rk_pace_wait(min(due_ns, end_ns), pace.spin_ns)
            now_ns = monotonic_ns()
            if now_ns < due_ns:
                return 0
            if self._prove(batch, first, 1):
                lib.rk_pace_count(pace, frame, due_ns, now_ns)
                return 1
        if self._live is not None:
            result = self._live.send_paced(pace, batch, first, n, due, end_ns)
            if result not in (-errno.EFBIG, -errno.EOPNOTSUPP):
                return result
            if self._socket is None and result == -errno.EFBIG:
                lib.rk_pace_count(pace, frame, due_ns, result)
                return 1
            if self._socket is None:
                return result
            self._give_up(result)
        if self._socket is None:
            raise ValueError(f"the transmitter on {self.name} is closed")
        return self._socket.send_paced(pace, batch, first, n, due, end_ns)

    def _give_up(self, error: int) -> None:
        """Go over to the sockets because of what live frames cannot do."""
        self._fall_back(
            f"a frame exceeds the {FRAME_LEN} octets of a live frame"
            if error == -errno.EFBIG
            else "this kernel has no XDP live frames"
        )

    def _fall_back(self, reason: str) -> None:
        assert self._live is not None
        self._live.close()
        self._live = None
        self._reason = reason
        if isinstance(self._socket, PacketSocket) and not self._no_xsk:
            self._start_xsk(self._socket)

    def report(self) -> TransmitReport:
        """What became of the frames so far. The interface may count the last ones a moment later."""
        try:
            after = self._counters() if self._ifindex else None
        except UnknownInterface:
            after = None
        failed = MappingProxyType(dict(self._failed))
        queue_full = self._socket.queue_full if self._socket is not None else 0
        return TransmitReport(
            self.backend, self.reason, self._accepted, failed, queue_full, self._before, after
        )

    def _counters(self) -> InterfaceCounters:
        request = _STATS.pack(0, self._ifindex, 1)  # IFLA_STATS_LINK_64
        with self._rtnl_lock:
            if self._rtnl is None:
                raise ValueError(f"the transmitter on {self.name} is closed")
            self._rtnl.send(_HEADER.pack(_HEADER.size + len(request), _RTM_GETSTATS, 1, 0, 0) + request)
            answer = self._rtnl.recv(4096)
        if _HEADER.unpack_from(answer)[1] != _NEWSTATS:
            error = struct.unpack_from("=i", answer, _HEADER.size)[0]  # struct nlmsgerr
            check(error, "read counters", self.name)
        # The one attribute that was asked for, behind its own header of 4 octets.
        return InterfaceCounters(*_STATS64.unpack_from(answer, _HEADER.size + _STATS.size + 4))
