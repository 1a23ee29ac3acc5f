"""What a router's ICMP error tells: which packet it is about, and labels and interfaces in its extensions."""

from __future__ import annotations

from rawkit.tools.traceresult import TraceInterface, TraceLabel
from rawkit.wire.icmpext import ICMPExtension, InterfaceInformation, MPLSStack


def quotation(octets: bytes) -> tuple[int, int, bytes, int, bytes] | None:
    """IP version, protocol, destination, identification and payload of what an ICMP error quotes.

    None where that is not at least an IP header and 8 octets, which RFC 792 asks for.
    """
    version = octets[0] >> 4 if octets else 0
    if version == 4 and len(octets) >= 20:
        upper = octets[(octets[0] & 15) * 4 :]
        facts = 4, octets[9], octets[16:20], int.from_bytes(octets[4:6], "big")
    elif version == 6 and len(octets) >= 40:
        upper = octets[40:]
        facts = 6, octets[6], octets[24:40], 0
    else:
        return None
    return (*facts, upper) if len(upper) >= 8 else None


def extensions(
    extension: ICMPExtension | None,
) -> tuple[tuple[TraceLabel, ...], tuple[TraceInterface, ...]]:
    """What an extension structure says of labels and interfaces (RFC 4950, RFC 5837)."""
    mpls: list[TraceLabel] = []
    interfaces: list[TraceInterface] = []
    for item in extension.objects if extension is not None else ():
        if isinstance(item, MPLSStack):
            mpls += [
                TraceLabel(entry.label_value, entry.traffic_class, bool(entry.bottom), entry.ttl)
                for entry in item.labels
            ]
        elif isinstance(item, InterfaceInformation):
            address = item.address4 if item.address4 is not None else item.address6
            name = None if item.name is None else item.name.rstrip(b"\0").decode(errors="replace")
            role = _ROLES[item.role]
            interfaces.append(
                TraceInterface(role, item.ifindex, None if address is None else str(address), name, item.mtu)
            )
    return tuple(mpls), tuple(interfaces)


_ROLES = ("incoming", "sub-ip", "outgoing", "next hop")
