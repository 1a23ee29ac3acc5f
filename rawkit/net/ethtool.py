"""What an interface's driver says of itself: its name, and what is left to the card (ethtool's ioctl)."""

from __future__ import annotations

import array
import fcntl
import socket
import struct

_SIOCETHTOOL = 0x8946  # <linux/sockios.h>
_DRIVER = 0x03  # of <linux/ethtool.h>, as all below
_DRIVER_LEN = 196
# Checksums on receipt and sending, scatter-gather, segments cut by the card and by the kernel's last moment,
# and merged on receipt.
_OFFLOADS = {"rx": 0x14, "tx": 0x16, "sg": 0x18, "tso": 0x1E, "gso": 0x23, "gro": 0x2B}


def ask(name: str, value: array.array[int]) -> None:
    """Have `value`, which begins with the number of a command, done and answered for an interface.

    Raises OSError: there is no such interface, its driver does not know that, or it is not allowed.
    """
    # struct ifreq: the name, and a pointer within a union of 24 octets.
    request = struct.pack("16sP16x", name.encode(), value.buffer_info()[0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCETHTOOL, request)


def driver(name: str) -> str:
    """The driver of an interface and the card's place on the bus, "e1000e 0000:00:1f.6"; "" if unknown."""
    value = array.array("B", struct.pack("=I", _DRIVER) + bytes(_DRIVER_LEN - 4))
    try:
        ask(name, value)
    except OSError:
        return ""
    fields = struct.unpack_from("4x32s32x32x32s", value.tobytes())  # name, version, firmware, place
    texts = [octets.split(b"\0")[0].decode("utf-8", "replace") for octets in fields]
    return " ".join(text for text in texts if text)


def offloads(name: str) -> dict[str, bool]:
    """Which of ethtool's rx, tx, sg, tso, gso and gro are on; those its driver does not know are missing.

    With gro, gso or tso, frames are seen that are longer than any on the wire; with tx, unfinished checksums.
    """
    found = {}
    for offload, command in _OFFLOADS.items():
        value = array.array("I", [command, 0])  # struct ethtool_value
        try:
            ask(name, value)
        except OSError:
            continue
        found[offload] = bool(value[1])
    return found
