"""Address ranges that a scan of public space has no business in (RFC 6890 and the registries of IANA)."""

from __future__ import annotations

from rawkit.addr import TargetSet, parse_target
from rawkit.tools.scan.config import NO_LIMIT, public_count

PUBLIC_MANY = 65536
"""With more public targets than this, ranges were meant and not hosts."""

_SPECIAL = (
    "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.2.0/24 "
    "192.88.99.0/24 192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 224.0.0.0/3 "
    "::/8 64:ff9b:1::/48 100::/64 2001::/23 2001:db8::/32 2002::/16 3fff::/20 5f00::/16 "
    "fc00::/7 fe80::/10 ff00::/8"
)


def leave_out_special(targets: TargetSet) -> tuple[TargetSet, tuple[str, ...]]:
    """The targets, where many are public, without those of special ranges, and a note that says so."""
    if public_count(targets) <= PUBLIC_MANY:
        return targets, ()
    rest = targets.without(parse_target(_SPECIAL, limit=NO_LIMIT))
    left_out = targets.count - rest.count
    if not left_out or not rest.count:
        return targets, ()
    return rest, (f"{left_out} addresses left out: private, reserved or otherwise special",)
