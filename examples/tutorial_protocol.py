"""The protocol of docs/tutorial-protocol.md, step by step. python examples/tutorial_protocol.py"""

from rawkit import UDP, Header, IPv4, Packet
from rawkit.bulk import columns
from rawkit.wire.field import auto, field, flags8, inet_checksum, payload_length, u8, u16, u32


class Telemetry(Header, over={UDP: 4660}):
    """A reading of an instrument, in a UDP datagram to port 4660."""

    version: u8 = 1
    flags: flags8 = field(0, bits="LAST ALARM")
    kind: u8 = field(names={1: "temperature", 2: "pressure"})
    reserved: u8 = 0
    station: u16
    length: u16 = auto(payload_length)
    number: u32 = 0  # of the reading
    checksum: u16 = auto(inet_checksum)  # of header and payload
    unused: u16 = 0


def main() -> None:
    print(Telemetry.diagram())

    reading = Telemetry(kind=1, station=7, number=41, flags="ALARM")
    packet = IPv4(src="192.0.2.1", dst="192.0.2.2") / UDP(sport=4660, dport=4660) / reading / b"21.5"
    octets = bytes(packet)
    print(octets[28:].hex(" "))

    arrived = Packet.parse(octets, first=IPv4, strict=True)
    print(arrived[Telemetry].station, arrived["telemetry.number"], arrived.payload)
    print(arrived.summary())
    print(arrived[Telemetry].show())

    for verdict in arrived.checksums():
        print(verdict.layer.__name__, verdict.state)
    damaged = Packet.parse(octets[:-1] + b"6", first=IPv4)
    print([verdict.state for verdict in damaged.checksums()])

    text = arrived.to_json()
    assert bytes(Packet.from_dict(arrived.to_dict())) == octets
    print(text[text.index('{"layer": "Telemetry"') :])

    frames = [bytes(packet.set({"telemetry.number": n})) for n in (41, 42, 43)]
    print(columns(frames, ["telemetry.number"], linktype=228)["telemetry.number"])


if __name__ == "__main__":
    main()
