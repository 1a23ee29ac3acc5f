"""The commands of `rawkit transport` that make a run, or its packets, visible."""

from __future__ import annotations

import click


@click.command(
    "dissector",
    epilog="""\b
Examples:
  rawkit transport dissector courier.py:Courier -o courier.lua
  tshark -X lua_script:courier.lua -r run.pcapng
  rawkit transport dissector courier.py:CourierHeader --udp-port 4321 > courier.lua
  rawkit transport dissector rawkit.transport.protocols.go_back_n:GoBackN -O bits=8 -O window=99

Exit status: 0; 2 for bad input.""",
)
@click.argument("place", metavar="MODULE:CLASS")
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="A file, in place of standard output.")
@click.option("-O", "--option", "options", multiple=True, metavar="NAME=VALUE", help="Of a protocol class.")
@click.option("--name", default="", help="What the names of the fields begin with.")
@click.option("--ip-proto", type=click.IntRange(0, 255), help="For packets of this IP protocol.")
@click.option("--udp-port", type=click.IntRange(1, 65535), help="For packets of this UDP port.")
def dissector_command(
    place: str,
    output: str | None,
    options: tuple[str, ...],
    name: str,
    ip_proto: int | None,
    udp_port: int | None,
) -> int:
    """Write a Lua script with which Wireshark and tshark show a protocol's packets.

    CLASS is a header, or a protocol: that one knows, with its options, how its numbers wrap. Besides the
    fields there are verdicts, as .analysis.retransmission, for headers whose fields have roles.
    """
    from rawkit.cli.output import emit, status
    from rawkit.cli.transport import _option, load_class
    from rawkit.report.analysis import numbering
    from rawkit.report.dissector import dissector
    from rawkit.transport import Endpoint
    from rawkit.wire import Header

    cls = load_class(place)
    told = {}
    if issubclass(cls, Endpoint):
        told = numbering(cls(**dict(map(_option, options))))
        cls = cls.header
    elif options or not issubclass(cls, Header):
        what = (
            "options belong to a protocol class" if options else f"{cls.__name__} is no header, no protocol"
        )
        raise click.UsageError(f"{place!r}: {what}")
    try:
        script = dissector(cls, name=name, ip_proto=ip_proto, udp_port=udp_port, **told)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if output is None:
        emit(script.rstrip())
        return 0
    with open(output, "w", encoding="utf-8") as file:
        file.write(script)
    status(f"wrote {output}; try: tshark -X lua_script:{output} -r FILE")
    return 0
