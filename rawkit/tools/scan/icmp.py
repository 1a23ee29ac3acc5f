"""ICMP errors in words."""

from __future__ import annotations

# RFC 792, RFC 1122 section 3.2.2.1, RFC 1812 section 5.2.7.1
_ICMP_UNREACHABLE = {
    0: "net unreachable",
    1: "host unreachable",
    2: "protocol unreachable",
    3: "port unreachable",
    4: "fragmentation needed",
    5: "source route failed",
    6: "net unknown",
    7: "host unknown",
    8: "source host isolated",
    9: "net prohibited",
    10: "host prohibited",
    11: "net unreachable for this type of service",
    12: "host unreachable for this type of service",
    13: "admin prohibited",
    14: "host precedence violation",
    15: "precedence cutoff in effect",
}
_ICMP_OTHER = {11: "time exceeded", 12: "parameter problem"}
# RFC 4443 section 3
_ICMPV6_UNREACHABLE = {
    0: "no route",
    1: "admin prohibited",
    2: "beyond scope of source address",
    3: "address unreachable",
    4: "port unreachable",
    5: "source address failed policy",
    6: "reject route",
}
_ICMPV6_OTHER = {2: "packet too big", 3: "time exceeded", 4: "parameter problem"}


def icmp_reason(version: int, type: int, code: int) -> str:
    """An ICMP error in words: "icmp host unreachable"."""
    unreachable, other = (
        (_ICMP_UNREACHABLE, _ICMP_OTHER) if version == 4 else (_ICMPV6_UNREACHABLE, _ICMPV6_OTHER)
    )
    if type == (3 if version == 4 else 1):
        text = unreachable.get(code)
    else:
        text = other.get(type)
    return f"icmp {text or f'type {type} code {code}'}"
