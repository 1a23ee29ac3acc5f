"""Kernel filters for what may answer some requests, so that a busy host's other traffic is not copied to us.

Classic BPF (bpf(2), Documentation/networking/filter.rst), put together here: tcpdump's language would need
libpcap, whose compiler takes minutes for thousands of hosts. A program may let more through than answers,
because sets of addresses and ports are cut down to a few ranges, and never less: what `Packet.answers` says
yes to passes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import pairwise

from rawkit.engine.filter import Filter, Instruction

_RANGES = 16
_ICMP = {4: 1, 6: 58}
_WITH_PORTS = (6, 17, 33, 132, 136)  # TCP, UDP, DCCP, SCTP, UDP-Lite: ports come first in all of them
_ERRORS = {4: (3, 4, 5, 11, 12), 6: (1, 2, 3, 4)}
_ECHO = {4: (8, 0), 6: (128, 129)}
_EXTENSIONS = (0, 43, 44, 50, 51, 60, 135, 139, 140)  # headers of IPv6 that stand before the upper one's

# What the instructions do: A is the accumulator, X the index (with which [k] is k octets behind it).
_WORD, _HALF, _OCTET = 0x20, 0x28, 0x30  # A = what stands at [k]
_BEHIND_X = 0x20  # added to those: at [X + k]
_HEADER_LEN = 0xB1  # X = 4 * (octet at [k] & 15)
_GO, _EQUAL, _GREATER, _AT_LEAST, _HAS_BITS = 0x05, 0x15, 0x25, 0x35, 0x45
_GIVE = 0x06  # so many octets, 0: reject

Program = list[Instruction]


def answer_filter(requests: Iterable[bytes], version: int, link_len: int = 0) -> Filter:
    """A filter for IP packets that may answer the requests, whole IP packets of that version (4, 6).

    With `link_len` it is for frames with a link header of so many octets (14: Ethernet), else for packets
    as cooked sockets give them. The requests have their source address.
    """
    wanted = _Wanted(version)
    for octets in requests:
        wanted.add(octets)
    return Filter(f"answers to IPv{version}", 1 if link_len else 101, 0x40000, wanted.program(link_len))


class _Wanted:
    """What is known of the requests, and the program that follows from it."""

    def __init__(self, version: int) -> None:
        self._version = version
        # Where things stand in the IP header.
        self._source, self._destination, self._protocol = (12, 16, 9) if version == 4 else (8, 24, 6)
        self._address_len = 4 if version == 4 else 16
        self._ours: set[bytes] = set()
        self._theirs: set[bytes] = set()
        self._to_many = False
        # By protocol: our ports and theirs, or None where nothing is known of them.
        self._ports: dict[int, tuple[set[int], set[int]] | None] = {}
        self._echoes: set[int] | None = set()

    def add(self, octets: bytes) -> None:
        n = self._address_len
        destination = octets[self._destination : self._destination + n]
        self._ours.add(octets[self._source : self._source + n])
        self._theirs.add(destination)
        many = 0xE0 <= destination[0] < 0xF0 or destination == b"\xff" * 4
        self._to_many |= many if self._version == 4 else destination[0] == 0xFF
        protocol = octets[self._protocol]
        upper = octets[(octets[0] & 15) * 4 if self._version == 4 else 40 :]
        if protocol == _ICMP[self._version]:
            self._ports[protocol] = None
            if self._echoes is not None and len(upper) >= 8 and upper[0] == _ECHO[self._version][0]:
                self._echoes.add(int.from_bytes(upper[4:6], "big"))
            else:
                self._echoes = None
        elif protocol not in _WITH_PORTS or len(upper) < 4:
            self._ports[protocol] = None
        else:
            ports = self._ports.setdefault(protocol, (set(), set()))
            if ports is not None:
                ports[0].add(int.from_bytes(upper[:2], "big"))
                ports[1].add(int.from_bytes(upper[2:4], "big"))

    def program(self, link_len: int) -> Program:
        ip = link_len
        icmp = _ICMP[self._version]
        program = self._address(ip + self._destination, self._ours)
        program.append(Instruction(_OCTET, 0, 0, ip + self._protocol))
        branches = {icmp: self._icmp(ip)}
        for protocol, ports in self._ports.items():
            if protocol != icmp:
                branches[protocol] = self._upper(ip, ports)
        if self._version == 6:
            for protocol in _EXTENSIONS:
                branches.setdefault(protocol, [_PASS])
        for protocol, branch in branches.items():
            program += [Instruction(_EQUAL, 1, 0, protocol), Instruction(_GO, 0, 0, len(branch)), *branch]
        return [*program, _REJECT]

    def _upper(self, ip: int, ports: tuple[set[int], set[int]] | None) -> Program:
        program = self._from_them(ip)
        if ports is not None:
            # They swap places in an answer. Only a first fragment has any.
            source, destination = ports[1], ports[0]
            if self._version == 4:
                program += [Instruction(_HALF, 0, 0, ip + 6), Instruction(_HAS_BITS, 0, 1, 0x1FFF), _REJECT]
            program += self._behind_header(ip)
            program += _within(self._at(_HALF, ip), source) + _within(self._at(_HALF, ip + 2), destination)
        return [*program, _PASS]

    def _icmp(self, ip: int) -> Program:
        """Errors that quote a packet to one of them; and answers, where requests were ICMP messages."""
        errors = []
        words = self._address_len // 4
        for i in range(words):
            quoted = self._at(_WORD, ip + 8 + self._destination + 4 * i)
            errors += _within(quoted, _words(self._theirs, i))
        errors.append(_PASS)
        answers: Program = []
        if _ICMP[self._version] in self._ports:
            if self._echoes is not None:
                answers += [Instruction(_EQUAL, 1, 0, _ECHO[self._version][1]), _REJECT]
                answers += _within(self._at(_HALF, ip + 4), self._echoes)
            answers += self._from_them(ip)
            answers.append(_PASS)
        else:
            answers.append(_REJECT)
        kinds = _ERRORS[self._version]
        # Errors go to the second of the two jumps, which leads over the answers; all else goes by the first.
        which = [Instruction(_EQUAL, len(kinds) - i, 0, kind) for i, kind in enumerate(kinds)]
        return [
            *self._behind_header(ip),
            self._at(_OCTET, ip),
            *which,
            Instruction(_GO, 0, 0, 1),
            Instruction(_GO, 0, 0, len(answers)),
            *answers,
            *errors,
        ]

    def _from_them(self, ip: int) -> Program:
        return [] if self._to_many else self._address(ip + self._source, self._theirs)

    def _address(self, at: int, addresses: Collection[bytes]) -> Program:
        program: Program = []
        for i in range(self._address_len // 4):
            program += _within(Instruction(_WORD, 0, 0, at + 4 * i), _words(addresses, i))
        return program

    def _behind_header(self, ip: int) -> Program:
        """Let X be the length of the IPv4 header, whose options may make it longer."""
        return [Instruction(_HEADER_LEN, 0, 0, ip)] if self._version == 4 else []

    def _at(self, code: int, at: int) -> Instruction:
        """Load what stands `at` behind the header of an IP packet whose start `at` counts in."""
        return (
            Instruction(code + _BEHIND_X, 0, 0, at)
            if self._version == 4
            else Instruction(code, 0, 0, at + 40)
        )


_PASS = Instruction(_GIVE, 0, 0, 0x40000)
_REJECT = Instruction(_GIVE, 0, 0, 0)


def _words(addresses: Collection[bytes], i: int) -> set[int]:
    return {int.from_bytes(address[4 * i : 4 * i + 4], "big") for address in addresses}


def _within(load: Instruction, values: Collection[int]) -> Program:
    """Go on if what is loaded is among the values, or between two that are close; else reject."""
    ranges = _ranges(values)
    program = [load]
    for i, (low, high) in enumerate(ranges):
        left = 2 * (len(ranges) - i) - 1  # instructions from this one to the rejection
        program.append(Instruction(_AT_LEAST, 0, left, low))
        program.append(Instruction(_GREATER, 0, left, high))
    return [*program, _REJECT]


def _ranges(values: Collection[int]) -> list[tuple[int, int]]:
    """A few ranges that hold all values: those with the widest gaps between them."""
    if not values:
        return []
    ordered = sorted(values)
    gaps = sorted(range(1, len(ordered)), key=lambda i: ordered[i - 1] - ordered[i])[: _RANGES - 1]
    starts = [0, *sorted(i for i in gaps if ordered[i] - ordered[i - 1] > 1), len(ordered)]
    return [(ordered[start], ordered[end - 1]) for start, end in pairwise(starts)]
