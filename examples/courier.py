"""A transport protocol of one's own: declare its header, send it between two hosts, parse what arrives.

python examples/courier.py      needs neither root nor a network
"""

from rawkit import Header, IPv4, IPv6, Lab, RawIPSocket
from rawkit.wire.field import auto, field, flags8, inet_checksum, payload_length, u8, u16, u32


class Courier(Header, over={IPv4: 253, IPv6: 253}):
    """Courier segment, under the protocol number for experiments (RFC 3692)."""

    sport: u16
    dport: u16
    seq: u32  # number of the first data octet
    ack: u32 = 0  # next octet expected
    kind: u8 = field(0, names={0: "data", 1: "probe", 2: "reset"})
    flags: flags8 = field(0, bits="SYN ACK FIN RST")
    window: u16 = 0
    length: u16 = auto(payload_length)
    checksum: u16 = auto(inet_checksum, pseudo_header=True)


def main() -> None:
    print(Courier.diagram())
    with Lab() as lab:
        with lab.a:
            sender = RawIPSocket(4, 253)
        with lab.b:
            # While this socket is open the kernel answers no "protocol unreachable".
            receiver = RawIPSocket(4, 253)
        with sender, receiver:
            seq = 1000
            for text in (b"a protocol", b"of one's", b"own"):
                segment = Courier(sport=1, dport=2, seq=seq, flags="SYN" if seq == 1000 else 0)
                packet = IPv4(src=lab.a.ipv4, dst=lab.b.ipv4) / segment / text
                sender.send(bytes(packet))
                arrived = next(receiver.frames(timeout=1.0)).packet(strict=True)
                assert (arrived[Courier].seq, arrived.payload) == (seq, text)
                assert all(verdict.state == "good" for verdict in arrived.checksums())
                print(f"b got {arrived[Courier]} carrying {arrived.payload!r}")
                seq += len(text)


if __name__ == "__main__":
    main()
