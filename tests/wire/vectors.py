"""Checks of packets against octets written down, in both directions."""

from __future__ import annotations

from rawkit.wire import AUTO, Header, Packet


def check_vector(text: str, packet: Packet, first: type[Header]) -> Packet:
    """`packet`, lengths and checksums left to be computed, builds to the octets and is what they parse to.

    Gives back what was parsed.
    """
    octets = bytes.fromhex(text)
    assert bytes(packet).hex(" ") == octets.hex(" ")
    parsed = Packet.parse(octets, first=first, strict=True)
    assert [type(layer) for layer in parsed.layers] == [type(layer) for layer in packet.layers]
    for expected, found in zip(packet.layers, parsed.layers):
        for row in expected.fields:
            if getattr(expected, row.slot) is not AUTO:
                assert getattr(found, row.name) == getattr(expected, row.name), (
                    type(found).__name__,
                    row.name,
                )
    assert parsed.payload == packet.payload
    assert bytes(parsed) == octets
    return parsed
