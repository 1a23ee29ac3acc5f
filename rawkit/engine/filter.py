"""Capture filters: tcpdump expressions (pcap-filter(7)), compiled by libpcap, for sockets and files alike."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from rawkit.engine.native import check, ffi, lib
from rawkit.errors import FilterError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from rawkit.engine.batch import FrameBatch

MAX_INSTRUCTIONS = 4096  # the kernel's limit, BPF_MAXINSNS
# libpcap takes the cube of the length: 3 s for 400 hosts (8 kB), beyond this minutes without end.
MAX_EXPRESSION = 16384

# Classic BPF. What the kernel knows of a frame lies at SKF_AD_OFF (<linux/filter.h>).
_LOAD, _IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_SKF_AD_OFF = 0xFFFFF000
_PACKET_TYPE, _IFINDEX, _VLAN_TAG_PRESENT = _SKF_AD_OFF + 4, _SKF_AD_OFF + 8, _SKF_AD_OFF + 48
_PACKET_OUTGOING = 4
_PASS = (_RETURN, 0, 0, 0xFFFFFFFF)
_REFUSE = (_RETURN, 0, 0, 0)

# If a VLAN tag was taken out of this frame accept all of it, else go on with what follows.
_TAGGED_PASS = ((_LOAD, 0, 0, _VLAN_TAG_PRESENT), (_IF_EQUAL, 1, 0, 0), _PASS)

OUTGOING_ONLY = ((_LOAD, 0, 0, _PACKET_TYPE), (_IF_EQUAL, 1, 0, _PACKET_OUTGOING), _REFUSE)
"""What to put in front of a program that shall see nothing but what this host sends (`Placement.after`)."""

_VLAN: int = lib.RK_FRAME_VLAN


class Instruction(NamedTuple):
    """One instruction of classic BPF, as the kernel's struct sock_filter and `tcpdump -ddd` give it."""

    code: int
    jt: int
    jf: int
    k: int


class Placement(NamedTuple):
    """Where a filter runs on a socket.

    `insns`, `insns_n`: the program for the kernel (0 instructions: none).  `user_flags`: which frames user
    space has to judge, those with one of these flags, 0 for all frames, None for no frame.
    """

    insns: Any
    insns_n: int
    user_flags: int | None

    def after(self, first: Sequence[tuple[int, int, int, int]]) -> Placement:
        """The same behind instructions that refuse some frames and let others through to their end."""
        rest = [(i.code, i.jt, i.jf, i.k) for i in self.insns[0 : self.insns_n]] if self.insns_n else [_PASS]
        user_flags = self.user_flags
        if len(first) + len(rest) > MAX_INSTRUCTIONS:
            rest, user_flags = [_PASS], 0
        program = [*first, *rest]
        return Placement(ffi.new("struct rk_insn[]", program), len(program), user_flags)


def incoming_only_on(ifindex: int) -> tuple[tuple[int, int, int, int], ...]:
    """What to put in front of a program that shall not see what this host sends on one interface."""
    return (
        (_LOAD, 0, 0, _IFINDEX),
        (_IF_EQUAL, 0, 3, ifindex),
        (_LOAD, 0, 0, _PACKET_TYPE),
        (_IF_EQUAL, 0, 1, _PACKET_OUTGOING),
        _REFUSE,
    )


class Filter:
    """A compiled expression; made by `compile_filter`.  Any number of threads may use it."""

    __slots__ = ("_insns", "_n", "expression", "linktype", "snaplen")

    def __init__(self, expression: str, linktype: int, snaplen: int, instructions: list[Instruction]) -> None:
        self.expression = expression
        self.linktype = linktype
        self.snaplen = snaplen
        self._insns = ffi.new("struct rk_insn[]", instructions)
        self._n = len(instructions)

    def __repr__(self) -> str:
        return f"<Filter {self.expression!r} for link type {self.linktype}: {self._n} instructions>"

    @property
    def instructions(self) -> list[Instruction]:
        """The program, as `tcpdump -ddd` prints it."""
        return [Instruction(i.code, i.jt, i.jf, i.k) for i in self._insns]

    def place(self, sees: str) -> Placement:
        """Where it runs on a socket whose kernel filter sees "frames", "packets" or something else ("").

        In the kernel wherever its verdict there is the same as on a file; in user space where it is not:

        - The kernel takes VLAN tags out of frames before filters see them.  It lets every frame pass whose
          tag it took, and user space judges these once the tag is back.
        - A socket that puts a header in front of packets, or delivers less than a filter wants to see (""),
          has all of it judged in user space.
        - So has a program that loops ("protochain"), which the kernel refuses, or is too long for it.
        """
        loops = any(i.code == 0x05 and i.k >= self._n for i in self._insns)  # a jump backwards
        tagged = _TAGGED_PASS if sees == "frames" else ()
        if loops or not sees or len(tagged) + self._n > MAX_INSTRUCTIONS:
            return Placement(ffi.NULL, 0, 0)
        if not tagged:
            return Placement(self._insns, self._n, None)
        program = [*tagged, *self.instructions]
        return Placement(ffi.new("struct rk_insn[]", program), len(program), _VLAN)

    def explain(self) -> str:
        """What runs where on a live capture, and the program as `tcpdump -d` prints it."""
        place = self.place({101: "packets", 276: ""}.get(self.linktype, "frames"))
        if place.user_flags is None:
            where = ["in the kernel: all packets"]
        elif place.insns_n:
            where = [
                "in the kernel: frames without a VLAN tag",
                "in user space: frames whose VLAN tag the kernel took out, once it is put back",
            ]
        else:
            where = ["in user space: all of it (the kernel sees other octets, or cannot run this program)"]
        head = f"filter {self.expression!r}, link type {self.linktype}, {self._n} instructions"
        return "\n".join([head, *where, "on files: the same program", *self._listing()])

    def _listing(self) -> list[str]:
        text = ffi.new("char[]", 256)
        lines = []
        for i in range(self._n):
            check(lib.rk_filter_image(_libpcap(), self._insns, self._n, i, text, len(text)), "print filter")
            lines.append(ffi.string(text).decode())
        return lines

    def matches(self, octets: ReadableBuffer, wire_len: int | None = None) -> bool:
        """Whether a frame passes; `wire_len` is its length before it was cut, if it was."""
        data = ffi.from_buffer(octets)
        n = len(data)
        frame = ffi.new("struct rk_frame *", {"cap_len": n, "wire_len": n if wire_len is None else wire_len})
        batch = ffi.new(
            "struct rk_batch *",
            {"arena": ffi.cast("uint8_t *", data), "frames": frame, "arena_len": n, "capacity": 1, "n": 1},
        )
        keep = ffi.new("uint8_t *")
        return (
            check(lib.rk_filter_run(_libpcap(), self._insns, self._n, batch, 0, 1, keep), "run filter") == 1
        )

    def match_batch(self, batch: FrameBatch) -> bytearray:
        """For each frame of a batch, in order, 1 when it passes and 0 when it does not."""
        n = len(batch)
        keep = bytearray(n)
        result = lib.rk_filter_run(
            _libpcap(), self._insns, self._n, batch.handle, 0, n, ffi.from_buffer(keep)
        )
        check(result, "run filter")
        return keep

    def sift(self, batch: FrameBatch, flags: int = 0) -> int:
        """Drop the frames of a batch that do not pass, cut the others to `snaplen`; return how many are left.

        With `flags`, only frames that have one of these flags are judged; the others stay as they are.
        """
        result = lib.rk_filter_sift(_libpcap(), self._insns, self._n, batch.refill(), flags)
        return check(result, "run filter")

    def program(self) -> tuple[Any, Any, int]:
        """What C needs to judge frames as `sift` does: libpcap, the instructions and their number.

        The instructions are valid as long as this object lives.
        """
        return _libpcap(), self._insns, self._n


def compile_filter(expression: str, linktype: int = 1, snaplen: int = 262144) -> Filter:
    """Compile a tcpdump expression for frames of a link type (LINKTYPE_ number; 1 is Ethernet).

    `snaplen` is how many octets a socket keeps of a frame that passes.  Host and service names in the
    expression are looked up the way the system does it, everything else happens offline.

    Raises:
        FilterError: libpcap refuses it (the message is libpcap's), it is too long for the kernel, or there
            is no libpcap.
    """
    if "\0" in expression:
        raise FilterError(f"filter {expression!r}: contains a NUL character")
    if len(expression) > MAX_EXPRESSION:
        raise FilterError(
            f"filter {expression[:40]!r}...: {len(expression)} characters are more than {MAX_EXPRESSION}"
        )
    if not 0 < snaplen < 2**31:
        raise ValueError(f"snaplen {snaplen} is not within 1..2147483647")
    insns = ffi.new("struct rk_insn[]", MAX_INSTRUCTIONS)
    message = ffi.new("char[]", 512)
    n = lib.rk_filter_compile(
        _libpcap(), expression.encode(), linktype, snaplen, insns, len(insns), message, len(message)
    )
    if n == -errno.EINVAL:
        raise FilterError(f"filter {expression!r}: {ffi.string(message).decode(errors='replace')}")
    if n == -errno.ENOSPC:
        raise FilterError(f"filter {expression!r}: longer than {MAX_INSTRUCTIONS} instructions")
    check(n, "compile filter")
    return Filter(expression, linktype, snaplen, [Instruction(i.code, i.jt, i.jf, i.k) for i in insns[0:n]])


def libpcap_version() -> str:
    """What the libpcap in use says about itself.  Raises FilterError when there is none."""
    text: str = ffi.string(lib.rk_pcaplib_version(_libpcap())).decode()
    return text


@cache
def _libpcap() -> Any:
    """libpcap, loaded for the life of the process: the system's, else the one that came with pip."""
    out = ffi.new("struct rk_pcaplib **")
    tried = []
    for path in _candidates():
        if lib.rk_pcaplib_open(out, path.encode()) == 0:
            return out[0]
        tried.append(path)
    raise FilterError(
        f"no libpcap could be loaded (tried {', '.join(tried)}): `pip install libpcap` brings one"
    )


def _candidates() -> Iterator[str]:
    yield from ("libpcap.so.1", "libpcap.so.0.8", "libpcap.so")
    from importlib.util import find_spec
    from pathlib import Path

    # Not imported: the package would load its own idea of the library, and is slow to.
    spec = find_spec("libpcap")
    for folder in (spec.submodule_search_locations if spec else None) or ():
        # One for each processor; only ours can be loaded.
        for path in sorted(Path(folder).glob("_platform/linux/*/tcpdump/libpcap.so")):
            yield str(path)
