"""Address Resolution Protocol for IPv4 over Ethernet (RFC 826, RFC 5227)."""

from __future__ import annotations

from rawkit.wire.ethernet import Ether
from rawkit.wire.field import field, ip4, mac, u8, u16
from rawkit.wire.header import Header


class ARP(Header, over={Ether: 0x0806}):
    """ARP packet with Ethernet and IPv4 addresses.

    Field names follow RFC 826 and its successors: hardware and protocol address of sender and target.
    """

    is_network = True
    ends_packet = True

    REQUEST = 1
    REPLY = 2

    hardware: u16 = 1
    protocol: u16 = 0x0800
    hardware_len: u8 = 6
    protocol_len: u8 = 4
    op: u16 = field(1, names={1: "request", 2: "reply", 3: "reverse request", 4: "reverse reply"})
    sender_mac: mac = field("00:00:00:00:00:00")
    sender_ip: ip4 = field("0.0.0.0")
    target_mac: mac = field("00:00:00:00:00:00")
    target_ip: ip4 = field("0.0.0.0")

    def answers(self, request: Header) -> bool:
        return (
            isinstance(request, ARP)
            and self.op == request.op + 1
            and self.sender_ip == request.target_ip
            and self.target_ip == request.sender_ip
        )

    def summary(self) -> str:
        if self.op == ARP.REQUEST:
            return f"ARP, Request who-has {self.target_ip} tell {self.sender_ip}"
        if self.op == ARP.REPLY:
            return f"ARP, Reply {self.sender_ip} is-at {self.sender_mac}"
        return f"ARP, op {self.op}, {self.sender_ip} > {self.target_ip}"
