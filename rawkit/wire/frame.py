"""A frame: octets seen on an interface or in a capture file, and what is known about them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rawkit.wire.packet import ChecksumVerdict, Packet


@dataclass(slots=True)
class Frame:
    """Octets and what is known about them.

    `data` are the captured octets, `wire_len` how many there were on the wire (more when the capture cut
    the frame; -1 stands for len(data)), `time_ns` nanoseconds since 1970 (0: unknown). `linktype` is the
    LINKTYPE_ number that says which header comes first. `direction` is "in", "out" or "" (unknown).
    `checksum` is what the capturing kernel said of the transport checksum: "valid", "not ready" (left to
    hardware that had not run yet) or "". `gso_len` is the payload octets per segment of a frame that the
    kernel had merged or not yet cut, 0 for an ordinary frame.
    """

    data: bytes
    time_ns: int = 0
    wire_len: int = -1
    linktype: int = 1
    interface: str = ""
    direction: str = ""
    checksum: str = ""
    gso_len: int = 0
    comments: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.wire_len < 0:
            self.wire_len = len(self.data)

    def packet(self, strict: bool = False) -> Packet:
        """The frame's octets as headers; damage ends up in `Packet.error`, or with `strict` raises it."""
        from rawkit.wire.packet import Packet, first_header

        return Packet.parse(self.data, first=first_header(self.linktype, self.data), strict=strict)

    def checksums(self) -> list[ChecksumVerdict]:
        """A verdict on each checksum field, which knows when the capturing kernel had not filled it in."""
        verdicts = self.packet().checksums()
        if self.checksum != "not ready":
            return verdicts
        return [replace(v, state="not filled in") if v.state == "bad" else v for v in verdicts]
