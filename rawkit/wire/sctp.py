"""Stream Control Transmission Protocol (RFC 9260) and its extensions: a header and a list of chunks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from rawkit.wire.field import (
    Options,
    Size,
    auto,
    crc32c,
    field,
    flags8,
    ip4,
    ip6,
    octets,
    size_of,
    u8,
    u16,
    u32,
)
from rawkit.wire.header import Header
from rawkit.wire.ipv4 import IPv4
from rawkit.wire.ipv6 import IPv6
from rawkit.wire.option import Option
from rawkit.wire.record import Numbers, count, pairs16, u16s, u32s
from rawkit.wire.udp import UDP

# ---- parameters: of INIT, INIT ACK, HEARTBEAT, ASCONF, RE-CONFIG -----------------------------------


class SCTPParameter(Option, family=True):
    """A parameter of a chunk (RFC 9260 section 3.2.1): type, length, value, zeros up to 32 bits."""

    kind_len = length_at = length_len = 2
    align = 4


class HeartbeatInfo(SCTPParameter, kind=1):
    """What the sender wants back: nobody else reads it (section 3.3.5)."""

    info: octets = b""


class IPv4Parameter(SCTPParameter, kind=5):
    """An address of the sender (section 3.3.2.1)."""

    address: ip4 = field("0.0.0.0")


class IPv6Parameter(SCTPParameter, kind=6):
    """An address of the sender (section 3.3.2.1)."""

    address: ip6 = field("::")


class StateCookie(SCTPParameter, kind=7):
    """What the sender of INIT ACK wants back in COOKIE ECHO (section 3.3.3.1)."""

    cookie: octets = b""


class UnrecognizedParameter(SCTPParameter, kind=8):
    """A parameter of the INIT, as it came (section 3.3.3.1)."""

    parameter: octets = b""


class CookiePreservative(SCTPParameter, kind=9):
    """Asks for a cookie that lives longer, in milliseconds (section 3.3.2.1)."""

    increment: u32 = 0


class HostName(SCTPParameter, kind=11):
    """A name in place of addresses: deprecated, receivers abort (section 3.3.2.1)."""

    name: octets = b""


class SupportedAddressTypes(SCTPParameter, kind=12):
    """Parameter types of the addresses that the sender can use (section 3.3.2.1)."""

    types: u16s = ()


class OutgoingResetRequest(SCTPParameter, kind=13):
    """The sender resets its outgoing streams, all where none is named (RFC 6525 section 4.1)."""

    request_seq: u32 = 0
    response_seq: u32 = 0
    last_tsn: u32 = 0
    streams: u16s = ()


class IncomingResetRequest(SCTPParameter, kind=14):
    """The peer is asked to reset its outgoing streams (RFC 6525 section 4.2)."""

    request_seq: u32 = 0
    streams: u16s = ()


class TSNResetRequest(SCTPParameter, kind=15):
    """Both sides are to start their TSNs and streams anew (RFC 6525 section 4.3)."""

    request_seq: u32 = 0


class ReconfigurationResponse(SCTPParameter, kind=16):
    """What became of a request (RFC 6525 section 4.4); `next_tsns` holds nothing or the two next TSNs."""

    response_seq: u32 = 0
    result: u32 = field(0, names={
        0: "nothing to do", 1: "performed", 2: "denied", 3: "wrong SSN", 4: "in progress already",
        5: "bad sequence number", 6: "in progress",
    })  # fmt: skip
    next_tsns: u32s = ()


class AddOutgoingStreams(SCTPParameter, kind=17):
    """Asks for more streams from the sender (RFC 6525 section 4.5)."""

    request_seq: u32 = 0
    streams_n: u16 = 0
    reserved: u16 = 0


class AddIncomingStreams(SCTPParameter, kind=18):
    """Asks for more streams to the sender (RFC 6525 section 4.6)."""

    request_seq: u32 = 0
    streams_n: u16 = 0
    reserved: u16 = 0


class ECNCapable(SCTPParameter, kind=0x8000):
    """The sender understands ECN (RFC 9260 appendix A of its predecessor RFC 4960)."""


class ZeroChecksum(SCTPParameter, kind=0x8001):
    """Packets without checksum are accepted, for they are protected otherwise (RFC 9653 section 4)."""

    method: u32 = field(1, names={1: "DTLS"})


class Random(SCTPParameter, kind=0x8002):
    """Octets that go into the association's shared key (RFC 4895 section 3.1)."""

    number: octets = b""


class ChunkList(SCTPParameter, kind=0x8003):
    """The chunk types that are to be authenticated (RFC 4895 section 3.2)."""

    types: octets = b""


class RequestedHMAC(SCTPParameter, kind=0x8004):
    """Hash functions in order of preference, 1 for SHA-1 and 3 for SHA-256 (RFC 4895 section 3.3)."""

    ids: u16s = ()


class Padding(SCTPParameter, kind=0x8005):
    """Makes an INIT longer, for probing a path's MTU (RFC 4820 section 4)."""

    data: octets = b""


class SupportedExtensions(SCTPParameter, kind=0x8008):
    """Chunk types beyond those of RFC 9260 that the sender understands (RFC 5061 section 4.2.7)."""

    types: octets = b""


class ForwardTSNSupported(SCTPParameter, kind=0xC000):
    """The sender understands FORWARD TSN (RFC 3758 section 3.1)."""


class UnknownSCTPParameter(SCTPParameter):
    """A parameter without a class of its own."""

    number: u16
    data: octets = b""

    def _kind_and_body(self) -> tuple[int, bytes]:
        return self.number, self.data


SCTPParameter.unknown = UnknownSCTPParameter


class AddressRequest(SCTPParameter):
    """What the requests of ASCONF have in common (RFC 5061 section 4.2): a number, and an address in it.

    `parameters` holds the address parameter.
    """

    correlation: u32 = 0
    parameters: Options[SCTPParameter] = ()


class AddAddress(AddressRequest, kind=0xC001):
    """Adds an address of the sender (RFC 5061 section 4.2.1)."""


class DeleteAddress(AddressRequest, kind=0xC002):
    """Takes an address of the sender out of use (RFC 5061 section 4.2.2)."""


class SetPrimaryAddress(AddressRequest, kind=0xC004):
    """The peer is to send to this address (RFC 5061 section 4.2.4)."""


class SuccessIndication(SCTPParameter, kind=0xC005):
    """A request was done (RFC 5061 section 4.2.5)."""

    correlation: u32 = 0


class AdaptationLayerIndication(SCTPParameter, kind=0xC006):
    """A number for the layer above (RFC 5061 section 4.2.6)."""

    code_point: u32 = 0


# ---- error causes: of ERROR, ABORT ---------------------------------------------------------------


class SCTPCause(Option, family=True):
    """An error cause (RFC 9260 section 3.3.10): code, length, what it is about, zeros up to 32 bits."""

    kind_len = length_at = length_len = 2
    align = 4


class InvalidStream(SCTPCause, kind=1):
    """DATA for a stream that does not exist."""

    stream: u16 = 0
    reserved: u16 = 0


class MissingParameter(SCTPCause, kind=2):
    """Mandatory parameters were missing; `types` are theirs."""

    types_n: u32 = auto(count("types"))
    types: u16s = ()


class StaleCookie(SCTPCause, kind=3):
    """A cookie came too late, by so many microseconds."""

    staleness: u32 = 0


class OutOfResource(SCTPCause, kind=4):
    """The sender has no room."""


class UnresolvableAddress(SCTPCause, kind=5):
    """An address parameter, as it came."""

    address: octets = b""


class UnrecognizedChunk(SCTPCause, kind=6):
    """A chunk, as it came."""

    chunk: octets = b""


class InvalidMandatoryParameter(SCTPCause, kind=7):
    """A mandatory parameter held what it must not."""


class UnrecognizedParameters(SCTPCause, kind=8):
    """Parameters of an INIT ACK, as they came."""

    parameters: Options[SCTPParameter] = ()


class NoUserData(SCTPCause, kind=9):
    """A DATA chunk without user data; its TSN."""

    tsn: u32 = 0


class CookieWhileShuttingDown(SCTPCause, kind=10):
    """A COOKIE ECHO came while the sender was shutting down."""


class RestartWithNewAddresses(SCTPCause, kind=11):
    """An INIT added addresses to an association that there is."""

    parameters: Options[SCTPParameter] = ()


class UserInitiatedAbort(SCTPCause, kind=12):
    """The layer above asked for it, and says why."""

    reason: octets = b""


class ProtocolViolation(SCTPCause, kind=13):
    """The peer broke a rule."""

    information: octets = b""


class UnknownSCTPCause(SCTPCause):
    """A cause without a class of its own."""

    number: u16
    data: octets = b""

    def _kind_and_body(self) -> tuple[int, bytes]:
        return self.number, self.data


SCTPCause.unknown = UnknownSCTPCause


class ErrorCauseIndication(SCTPParameter, kind=0xC003):
    """A request of ASCONF was not done (RFC 5061 section 4.2.3)."""

    correlation: u32 = 0
    causes: Options[SCTPCause] = ()


# ---- chunks ----------------------------------------------------------------------------------------


class SCTPChunk(Option, family=True):
    """A chunk (RFC 9260 section 3.2): type, flags, length, value, zeros up to 32 bits."""

    length_at = length_len = 2
    align = pad_to = 4

    @property
    def name(self) -> str:
        """The RFC's name of the chunk."""
        return NAMES.get(self._kind_and_body()[0], f"type {self._kind_and_body()[0]}")

    def summary(self) -> str:
        return self.name


class SCTPData(SCTPChunk, kind=0):
    """User data (section 3.3.1): B and E mark a message's first and last piece, U comes out of order."""

    flags: flags8 = field("B E", bits="E B U I")
    tsn: u32 = 0
    stream: u16 = 0
    seq: u16 = 0
    protocol: u32 = 0
    data: octets = b""

    def summary(self) -> str:
        return f"DATA tsn {self.tsn} stream {self.stream} seq {self.seq} ppid {self.protocol}"


class SCTPInit(SCTPChunk, kind=1):
    """Opens an association (section 3.3.2)."""

    flags: u8 = 0
    tag: u32 = 0
    window: u32 = 65535
    outgoing: u16 = 1
    incoming: u16 = 1
    tsn: u32 = 0
    parameters: Options[SCTPParameter] = ()

    def summary(self) -> str:
        streams = f"{self.outgoing}/{self.incoming}"
        return f"{self.name} tag {self.tag} win {self.window} streams {streams} tsn {self.tsn}"


class SCTPInitAck(SCTPInit, kind=2):
    """Answers INIT; one parameter is the cookie (section 3.3.3)."""


class SCTPSelectiveAck(SCTPChunk, kind=3):
    """What was received (section 3.3.4): all up to `cumulative_tsn`, and blocks after gaps.

    `gaps` are first and last TSN of each block, as offsets from the cumulative one; `duplicates` are TSNs
    that came more than once.
    """

    flags: u8 = 0
    cumulative_tsn: u32 = 0
    window: u32 = 65535
    gaps_n: u16 = auto(size_of("gaps", 4))
    duplicates_n: u16 = auto(count("duplicates"))
    gaps: pairs16 = field((), size=Size("gaps_n", 4))
    duplicates: u32s = ()

    def summary(self) -> str:
        return f"{self.name} tsn {self.cumulative_tsn} win {self.window}" + "".join(
            f" {{{first}:{last}}}" for first, last in self.gaps
        )


class SCTPNonRenegableAck(SCTPChunk, kind=16):
    """As `SCTPSelectiveAck`; blocks in `kept` will not be taken back (draft-tuexen-tsvwg-sctp-multipath)."""

    flags: flags8 = field(0, bits="A")
    cumulative_tsn: u32 = 0
    window: u32 = 65535
    gaps_n: u16 = auto(size_of("gaps", 4))
    kept_n: u16 = auto(size_of("kept", 4))
    duplicates_n: u16 = auto(count("duplicates"))
    reserved: u16 = 0
    gaps: pairs16 = field((), size=Size("gaps_n", 4))
    kept: pairs16 = field((), size=Size("kept_n", 4))
    duplicates: u32s = ()


class SCTPHeartbeat(SCTPChunk, kind=4):
    """Asks whether an address can be reached (section 3.3.5)."""

    flags: u8 = 0
    parameters: Options[SCTPParameter] = ()


class SCTPHeartbeatAck(SCTPHeartbeat, kind=5):
    """Brings the heartbeat's parameter back (section 3.3.6)."""


class SCTPAbort(SCTPChunk, kind=6):
    """Ends an association at once (section 3.3.7); T: the tag is the peer's, for there is no association."""

    flags: flags8 = field(0, bits="T")
    causes: Options[SCTPCause] = ()


class SCTPShutdown(SCTPChunk, kind=7):
    """No more data will be sent (section 3.3.8)."""

    flags: u8 = 0
    cumulative_tsn: u32 = 0


class SCTPShutdownAck(SCTPChunk, kind=8):
    """Answers SHUTDOWN (section 3.3.9)."""

    flags: u8 = 0


class SCTPError(SCTPChunk, kind=9):
    """Tells of errors that do not end the association (section 3.3.10)."""

    flags: u8 = 0
    causes: Options[SCTPCause] = ()


class SCTPCookieEcho(SCTPChunk, kind=10):
    """Brings the cookie of INIT ACK back (section 3.3.11)."""

    flags: u8 = 0
    cookie: octets = b""


class SCTPCookieAck(SCTPChunk, kind=11):
    """The association is established (section 3.3.12)."""

    flags: u8 = 0


class SCTPECNEcho(SCTPChunk, kind=12):
    """A packet with the CE mark came (RFC 9260 appendix A of its predecessor RFC 4960); its lowest TSN."""

    flags: u8 = 0
    tsn: u32 = 0


class SCTPWindowReduced(SCTPChunk, kind=13):
    """Answers ECNE: the congestion window was reduced (RFC 4960 appendix A)."""

    flags: u8 = 0
    tsn: u32 = 0


class SCTPShutdownComplete(SCTPChunk, kind=14):
    """Ends the shutdown (section 3.3.13); T as in ABORT."""

    flags: flags8 = field(0, bits="T")


class SCTPAuth(SCTPChunk, kind=15):
    """Authenticates the chunks after it (RFC 4895 section 4.1)."""

    flags: u8 = 0
    key_id: u16 = 0
    hmac_id: u16 = field(1, names={1: "SHA-1", 3: "SHA-256"})
    hmac: octets = b""


class SCTPInterleavedData(SCTPChunk, kind=64):
    """User data of several messages interleaved (RFC 8260 section 2.1).

    `protocol` is the payload protocol identifier of a message's first piece (flag B); in the others it is the
    piece's number.
    """

    flags: flags8 = field("B E", bits="E B U I")
    tsn: u32 = 0
    stream: u16 = 0
    reserved: u16 = 0
    message: u32 = 0
    protocol: u32 = 0
    data: octets = b""

    def summary(self) -> str:
        return f"I-DATA tsn {self.tsn} stream {self.stream} mid {self.message}"


class SCTPAddressConfigurationAck(SCTPChunk, kind=0x80):
    """Answers ASCONF (RFC 5061 section 4.1.2)."""

    flags: u8 = 0
    seq: u32 = 0
    parameters: Options[SCTPParameter] = ()


class SCTPReconfiguration(SCTPChunk, kind=0x82):
    """Requests about streams, and their answers (RFC 6525 section 3.1)."""

    flags: u8 = 0
    parameters: Options[SCTPParameter] = ()


class SCTPPad(SCTPChunk, kind=0x84):
    """Makes a packet longer (RFC 4820 section 3)."""

    flags: u8 = 0
    padding: octets = b""


class SCTPInterleavedForwardTSN(SCTPChunk, kind=0xC2):
    """As FORWARD TSN, for I-DATA: flags (1: unordered) and message per stream (RFC 8260 section 2.3)."""

    flags: u8 = 0
    tsn: u32 = 0
    streams: Annotated[Sequence[tuple[int, int, int]], Numbers("HHI")] = ()


class SCTPForwardTSN(SCTPChunk, kind=0xC0):
    """Data up to this TSN will not come; the last sequence number of each stream (RFC 3758 section 3.2)."""

    flags: u8 = 0
    tsn: u32 = 0
    streams: pairs16 = ()


class SCTPAddressConfiguration(SCTPChunk, kind=0xC1):
    """Changes addresses (RFC 5061 section 4.1.1): an address of the sender, then requests."""

    flags: u8 = 0
    seq: u32 = 0
    parameters: Options[SCTPParameter] = ()


class UnknownSCTPChunk(SCTPChunk):
    """A chunk without a class of its own; so are chunks that are too short for theirs."""

    number: u8
    flags: u8 = 0
    data: octets = b""

    @classmethod
    def of_octets(cls, kind: int, body: bytes) -> UnknownSCTPChunk:
        return cls(kind, body[0], body[1:])

    def _kind_and_body(self) -> tuple[int, bytes]:
        return self.number, bytes([self.flags]) + self.data


SCTPChunk.unknown = UnknownSCTPChunk

NAMES = {
    0: "DATA", 1: "INIT", 2: "INIT ACK", 3: "SACK", 4: "HEARTBEAT", 5: "HEARTBEAT ACK", 6: "ABORT",
    7: "SHUTDOWN", 8: "SHUTDOWN ACK", 9: "ERROR", 10: "COOKIE ECHO", 11: "COOKIE ACK", 12: "ECNE", 13: "CWR",
    14: "SHUTDOWN COMPLETE", 15: "AUTH", 16: "NR-SACK", 64: "I-DATA", 128: "ASCONF ACK", 130: "RE-CONFIG",
    132: "PAD", 192: "FORWARD TSN", 193: "ASCONF", 194: "I-FORWARD TSN",
}  # fmt: skip


class SCTP(Header, over={IPv4: 132, IPv6: 132, UDP: 9899}):
    """The common header and the chunks, which fill the packet (RFC 9260 section 3).

    Over UDP it is RFC 6951's. The checksum is CRC32c.
    """

    sport: u16 = 0
    dport: u16 = 0
    tag: u32 = 0
    checksum: u32 = auto(crc32c)
    chunks: Options[SCTPChunk] = ()

    def answers(self, request: Header) -> bool:
        if not isinstance(request, SCTP) or (self.sport, self.dport) != (request.dport, request.sport):
            return False
        asked = request.chunks[0] if request.chunks else None
        if type(asked) is not SCTPInit:
            return True
        mine = self.chunks[0] if self.chunks else None
        if isinstance(mine, SCTPAbort) and mine.flags & SCTPAbort.T:
            return self.tag == request.tag  # the request's own tag, reflected (section 8.4)
        # Everything that the peer sends carries the tag that INIT chose (section 5.1).
        return isinstance(mine, (SCTPInitAck, SCTPAbort)) and self.tag == asked.tag

    def is_quote_of(self, original: Header) -> bool:
        return isinstance(original, SCTP) and (self.sport, self.dport) == (original.sport, original.dport)

    def summary(self) -> str:
        words = [chunk.summary() for chunk in self.chunks]
        return "SCTP" + "".join(f" [{word}]" for word in words)
