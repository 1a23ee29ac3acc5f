"""The options that say what is changed in packets on their way."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from rawkit.addr import MAC

if TYPE_CHECKING:
    from rawkit.tools.rewrite import Rewrite

F = TypeVar("F", bound=Callable[..., Any])


class MACType(click.ParamType[MAC]):
    name = "MAC"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> MAC:
        from rawkit.errors import TargetError

        try:
            return value if isinstance(value, MAC) else MAC(str(value))
        except TargetError as error:
            self.fail(str(error), param, ctx)


_OPTIONS = (
    click.option("--dst-mac", type=MACType(), help="Destination MAC address for every frame."),
    click.option("--src-mac", type=MACType(), help="Source MAC address for every frame."),
    click.option(
        "--map", "maps", metavar="A=B", multiple=True,
        help="Addresses of prefix A get prefix B; repeatable, the first that fits counts.",
    ),
    click.option("--src-map", "src_maps", metavar="A=B", multiple=True, help="The same for sources."),
    click.option("--dst-map", "dst_maps", metavar="A=B", multiple=True, help="The same for destinations."),
    click.option(
        "--port-map", "port_maps", metavar="P=Q", multiple=True,
        help="Port P becomes Q, at both ends; P-R=Q for a range that begins at Q; repeatable.",
    ),
    click.option("--vlan-add", metavar="ID[:PRIO[:TYPE]]", help="Put a VLAN tag in front."),
    click.option("--vlan-remove", is_flag=True, help="Take the outermost VLAN tag off."),
    click.option("--ttl", type=click.IntRange(0, 255), help="TTL or hop limit for every packet."),
    click.option("--dscp", type=click.IntRange(0, 63), help="DSCP for every packet; ECN stays."),
    click.option("--fix-checksums", is_flag=True, help="Repair bad checksums too."),
)  # fmt: skip


def rewrite_options(command: F) -> F:
    """Give a command the options; `take_rewrite` makes of them what the tools want."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def take_rewrite(options: dict[str, Any]) -> Rewrite:
    """Take the values of `rewrite_options` out of a command's options.

    Raises:
        TargetError: a prefix, port or tag that makes no sense.
    """
    from rawkit.tools.rewrite import Rewrite, parse_port_map, parse_prefix_map, parse_tag

    take = options.pop
    prefixes = [parse_prefix_map(text, at_destination=False) for text in take("src_maps")]
    prefixes += [parse_prefix_map(text, at_source=False) for text in take("dst_maps")]
    prefixes += [parse_prefix_map(text) for text in take("maps")]
    tag = take("vlan_add")
    return Rewrite(
        dst_mac=take("dst_mac"),
        src_mac=take("src_mac"),
        remove_tag=take("vlan_remove"),
        add_tag=None if tag is None else parse_tag(tag),
        prefixes=tuple(prefixes),
        ports=tuple(pair for text in take("port_maps") for pair in parse_port_map(text)),
        ttl=take("ttl"),
        dscp=take("dscp"),
        fix_checksums=take("fix_checksums"),
    )
