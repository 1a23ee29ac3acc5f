"""Templates: one packet and a few fields that vary, as many frames as wanted, written by C.

`Template(packet, {"ip.src": Counter("192.0.2.1"), "tcp.seq": Random(7)})` finds the fields' places in the
header classes' tables and what each checksum covers, and hands both to the engine as numbers: nothing of a
frame is built in Python. See docs/design/templates.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from rawkit.engine.batch import FrameBatch
from rawkit.engine.native import check, deadline, ffi, lib, monotonic_ns, seconds_until
from rawkit.errors import FieldError
from rawkit.wire import checksum as _checksum
from rawkit.wire.edit import _find, layer_names
from rawkit.wire.field import AUTO, ChecksumRule, CRC32cRule, Rule
from rawkit.wire.header import Header
from rawkit.wire.layout import FieldInfo
from rawkit.wire.packet import Packet, _outer, _rebuild
from rawkit.wire.show import field_places

if TYPE_CHECKING:
    from rawkit.engine.sockets import PacketSocket, RawIPSocket
    from rawkit.engine.transmit import Transmitter

CHUNK = 64
"""Bits that one field of the C program has at most; wider header fields are cut into several."""

SLICE = 1024
"""Frames that `send_template` makes at once: their octets stay in the processor's cache."""

_WORD = (1 << CHUNK) - 1


# ---- what a field may take --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Counter:
    """start, start + step, ... up to before `stop` (None: the field's end, where it wraps), then again.

    `start` and `stop` are whatever the field takes: a number, or an address. In fields of more than 64 bits
    the lowest 64 count.
    """

    start: Any = 0
    step: int = 1
    stop: Any = None


@dataclass(frozen=True, slots=True)
class Permutation:
    """The values of range(start, stop, step) in an order that `seed` chooses, each once, then again.

    The order takes no memory; it is a keyed bijection, not a cipher.
    """

    start: Any
    stop: Any
    step: int = 1
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Random:
    """Values from `low` to `high` (both included; None: what the field holds), hashed from seed and frame.

    Frame i has its value whichever frames are made, and in whatever order. Two fields with the same seed have
    the same bits: give each its own.
    """

    seed: int = 0
    low: Any = None
    high: Any = None


@dataclass(frozen=True, slots=True)
class Values:
    """These values in turn, then again from the first; as a plain list, tuple or array."""

    values: Any


Source: TypeAlias = Counter | Permutation | Random | Values | Sequence[Any]


# ---- the program -------------------------------------------------------------------------------------


class _Item(NamedTuple):
    """What differs from frame to frame: (part of) a field, or a checksum. Places are in bits."""

    at: int
    width: int


class _Varying(NamedTuple):
    path: str
    layer: int
    row: FieldInfo
    at: int  # bits from the frame's start
    items: range  # its parts among the items, the lowest bits first


@dataclass(slots=True)
class _Sum:
    """A checksum to repair. `segments` are the octets it covers, from and to."""

    layer: int
    rule: ChecksumRule | CRC32cRule
    at: int  # octets from the frame's start
    segments: list[tuple[int, int]]
    pseudo: bytes
    terms: list[tuple[int, int]]  # item, shift


class Template:
    """A packet of which some fields vary, `frames(n)` of it at a time.

    `fields` maps paths (as `packet.set` takes them) to a `Counter`, `Permutation`, `Random`, `Values`, or to
    a list or array of values. Frame i has what `bytes(packet.set(...))` gives for its values: checksums left
    at `AUTO` are right, also in nested packets, and those given, of a parsed packet for example, stay as they
    are. So do lengths and the numbers of what follows, even where a field that varies is one of them: then
    the frames claim something else than they hold, and would be parsed differently.

    Raises: `FieldError`, which names the path: no such field, one without a fixed place and width, a value it
    cannot hold, or something computed from it that is no checksum.
    """

    def __init__(self, packet: Packet | Header, fields: Mapping[str, Source]) -> None:
        self.packet = packet if isinstance(packet, Packet) else Packet([packet])
        self._headers = self.packet._headers()
        self._starts = [0]
        for octets in self._headers:
            self._starts.append(self._starts[-1] + len(octets))
        self._base = bytearray(bytes(self.packet))
        if not 0 < len(self._base) <= lib.RK_TEMPLATE_LEN:
            raise FieldError(
                f"template: a frame of {len(self._base)} octets; possible are 1..{lib.RK_TEMPLATE_LEN}"
            )
        self._items: list[_Item] = []
        self._kept: list[Any] = []  # arrays that the program points to
        rows: list[dict[str, Any]] = []
        self._varying = [self._vary(path, source, rows) for path, source in fields.items()]
        self._refuse_overlaps()
        sums = self._sums()
        if len(self._items) > lib.RK_TEMPLATE_ITEMS:
            raise FieldError(
                f"template: {len(self._items)} fields and checksums vary; "
                f"at most {lib.RK_TEMPLATE_ITEMS} may (a field wider than {CHUNK} bits counts more than once)"
            )
        self._program = self._compile(rows, sums)
        self._one = FrameBatch(1, len(self._base))
        for i in (0, 1):
            self._prove(i)

    def __len__(self) -> int:
        """Octets of each frame."""
        return len(self._base)

    # ---- use ------------------------------------------------------------------------------------

    def fill(self, batch: FrameBatch, first: int = 0, n: int | None = None) -> int:
        """Fill a batch, emptied first, with frames [first, first + n) (None: what fits); how many fitted."""
        if not 0 <= first < 2**63:
            raise ValueError(f"the first frame is {first}; possible are 0..2^63-1")
        if n is None or n > batch.capacity:
            n = batch.capacity
        if n < 0:
            raise ValueError(f"{n} frames; want 0 or more")
        return check(lib.rk_template_fill(self._program, batch.refill(), first, n), "fill from a template")

    def frames(self, n: int, first: int = 0) -> FrameBatch:
        """Frames [first, first + n) in a batch of their own.

        Raises: `ValueError` for a number that no batch holds (2^32 octets).
        """
        batch = FrameBatch(n, n * len(self))
        self.fill(batch, first, n)
        return batch

    def octets(self, i: int) -> bytes:
        """Frame i."""
        self.fill(self._one, i, 1)
        return self._one[0]

    # ---- fields ---------------------------------------------------------------------------------

    def _vary(self, path: str, source: Source, rows: list[dict[str, Any]]) -> _Varying:
        """Find the field of a path, and append to `rows` what the C program is to do for it."""
        try:
            layer, row = _find(self.packet, path)
        except KeyError as error:
            raise FieldError(f"template: {error.args[0]}") from None
        if row is None:
            raise FieldError(f"template: {path!r} names a header; a field varies at header.field")
        if not row.width:
            raise FieldError(f"{path}: has no fixed width, so it cannot vary in a template")
        places = field_places(self.packet.layers[layer], self._headers[layer])
        first = next((first for place, first, _ in places if place is row), None)
        if first is None:
            raise FieldError(f"{path}: is not in this packet")
        at, before = self._starts[layer] * 8 + first, len(rows)
        parts = _parts(path, row, source)
        end = at + row.width
        for part in parts:
            width = min(CHUNK, end - at)
            values = part.pop("values", None)
            if values is not None:
                self._kept.append(ffi.new("uint64_t[]", values))
                part |= {"values": self._kept[-1], "count": len(values)}
            end -= width
            rows.append({"at": end, "width": width, **part})
            self._items.append(_Item(end, width))
        return _Varying(path, layer, row, at, range(before, len(rows)))

    def _refuse_overlaps(self) -> None:
        seen: dict[int, str] = {}
        for varying in self._varying:
            other = seen.setdefault(varying.at, varying.path)
            if other is not varying.path:
                raise FieldError(f"{varying.path}: is the same field as {other}")

    # ---- checksums ------------------------------------------------------------------------------

    def _sums(self) -> list[_Sum]:
        """The checksums that depend on what varies, innermost first as they are built."""
        layers = self.packet.layers
        end = self._starts[-1] + len(self.packet.payload)
        sums = []
        for i in reversed(range(len(layers))):
            header, start = layers[i], self._starts[i]
            for row in header.fields:
                rule = row.spec.rule
                if getattr(header, row.slot) is not AUTO or any(
                    varying.layer == i and varying.row is row for varying in self._varying
                ):
                    continue
                if isinstance(rule, (ChecksumRule, CRC32cRule)):
                    stop = end if rule.payload else start + len(self._headers[i])
                    found = self._sum(i, row, rule, stop, _outer(layers, i))
                    if found is not None:
                        sums.append(found)
                        self._items.append(_Item(found.at * 8, 32 if isinstance(rule, CRC32cRule) else 16))
                elif rule is not None and not isinstance(rule, Rule):
                    for varying in self._varying:
                        if varying.layer >= i:
                            what = f"{layer_names(layers)[i]}.{row.name}"
                            raise FieldError(
                                f"{varying.path}: {what} is computed by a function: no template follows"
                            )
        return sums

    def _sum(
        self, i: int, row: FieldInfo, rule: ChecksumRule | CRC32cRule, stop: int, outer: Header | None
    ) -> _Sum | None:
        """The repair of one checksum, None where nothing in it varies or the packet has none."""
        header, start = self.packet.layers[i], self._starts[i]
        at = start + (row.offset + row.width) // 8 - (4 if isinstance(rule, CRC32cRule) else 2)
        segments, pseudo = [(start, stop)], b""
        terms: list[tuple[int, int]] = []
        if isinstance(rule, ChecksumRule):
            decides = [rule.absent_when[0]] if rule.absent_when else []
            decides += [rule.coverage.field] if rule.coverage else []
            for varying in self._varying:
                if varying.layer == i and varying.row.name in decides:
                    raise FieldError(f"{varying.path}: says what the checksum covers, so it cannot vary")
            if rule.is_absent(header):
                return None
            if rule.coverage:
                covered = rule.coverage.octets(header, len(self._headers[i]), stop - start)
                segments = [(start, min(stop, start + max(covered, 0)))]
            if rule.skips[1]:
                first, after = rule.skips
                stop = segments[0][1]
                segments = [(start, min(start + first, stop)), (min(start + after, stop), stop)]
            if rule.pseudo_header:
                given = self._pseudo(i, {})
                if given is None:
                    return None  # without addresses there is nothing to compute: the field stays 0
                pseudo = given
                for varying in self._varying:
                    if varying.layer < i:
                        pseudo = self._pseudo_terms(i, varying, pseudo, terms)
        for k, item in enumerate(self._items):
            place = _place(segments, item)
            if place is not None:
                # A word starts at each even octet of what is covered.
                terms.append((k, -(place + item.width) % 16))
        return _Sum(i, rule, at, segments, pseudo, terms) if terms else None

    def _pseudo(self, i: int, contents: Mapping[int, Mapping[str, Any]]) -> bytes | None:
        """The pseudo-header for the checksum of header i, with other contents in fields of some headers."""
        layers = list(self.packet.layers)
        for layer, changes in contents.items():
            layers[layer] = layers[layer].replace(**changes)
        outer, length = _outer(layers, i), self._starts[-1] + len(self.packet.payload) - self._starts[i]
        return outer.pseudo_header(outer._number_of(type(layers[i])), length) if outer is not None else None

    def _pseudo_terms(self, i: int, varying: _Varying, pseudo: bytes, terms: list[tuple[int, int]]) -> bytes:
        """Append where a field stands in the pseudo-header, and return that with 0 in its place.

        Asked of the header's own method, so that final destinations of source routes and pseudo-headers that
        users declare count as well: the field is found by changing it.
        """
        row, top = varying.row, (1 << varying.row.width) - 1
        zeroed = self._pseudo(i, {varying.layer: {row.name: _content(row, 0)}})
        full = self._pseudo(i, {varying.layer: {row.name: _content(row, top)}})
        if zeroed == full:
            return pseudo
        if zeroed is not None and full is not None and len(zeroed) == len(full) == len(pseudo):
            difference = int.from_bytes(full, "big") - int.from_bytes(zeroed, "big")
            shift = (difference & -difference).bit_length() - 1
            if difference == top << shift:
                odd = 8 * (len(pseudo) % 2)
                terms += [(k, (shift + odd + CHUNK * n) % 16) for n, k in enumerate(varying.items)]
                return (int.from_bytes(pseudo, "big") & ~difference).to_bytes(len(pseudo), "big")
        raise FieldError(f"{varying.path}: changes the pseudo-header in a way that a template cannot follow")

    # ---- to C -----------------------------------------------------------------------------------

    def _compile(self, rows: list[dict[str, Any]], sums: list[_Sum]) -> Any:
        base = self._base
        whole = int.from_bytes(base, "big")
        for item in self._items:
            whole &= ~((1 << item.width) - 1 << len(base) * 8 - item.at - item.width)
        base[:] = whole.to_bytes(len(base), "big")
        sum_rows: list[dict[str, Any]] = []
        terms: list[dict[str, int]] = []
        for repair in sums:
            line = {"at": repair.at, "terms": len(terms), "terms_n": len(repair.terms)}
            if isinstance(repair.rule, CRC32cRule):
                line |= {
                    "kind": lib.RK_SUM_CRC32C,
                    "from": repair.segments[0][0],
                    "to": repair.segments[0][1],
                }
                line |= {"terms_n": 0}
            else:
                covered = b"".join(bytes(base[first:stop]) for first, stop in repair.segments)
                total = _checksum.add(_checksum.add(0, repair.pseudo), covered)
                line |= {"kind": lib.RK_SUM_INET, "start": total, "zero": repair.rule.zero}
                terms += [{"item": item, "shift": shift} for item, shift in repair.terms]
            sum_rows.append(line)
        kept = (
            ffi.new("uint8_t[]", bytes(base)),
            ffi.new("struct rk_template_field[]", rows),
            ffi.new("struct rk_template_sum[]", sum_rows),
            ffi.new("struct rk_template_term[]", terms),
        )
        self._kept += kept
        program = ffi.new("struct rk_template *")
        program.base, program.fields, program.sums, program.terms = kept
        program.base_len, program.fields_n = len(base), len(rows)
        program.sums_n, program.terms_n = len(sum_rows), len(terms)
        return program

    def _prove(self, i: int) -> None:
        """Compare a frame with the packet built from objects.

        Header classes may compute what they like: one that does what is not followed here is refused now
        rather than sent wrong.
        """
        octets = self.octets(i)
        whole = int.from_bytes(octets, "big")
        layers = list(self.packet.layers)
        for _, layer, row, at, _ in self._varying:
            number = whole >> len(octets) * 8 - at - row.width & (1 << row.width) - 1
            layers[layer] = layers[layer].replace(**{row.name: _content(row, number)})
        built = bytes(_rebuild(layers, self.packet.payload, self.packet.trailer))
        if built != octets:
            differ = next((k for k, (a, b) in enumerate(zip(built, octets)) if a != b), len(octets))
            raise FieldError(f"template: the header at octet {differ} is computed in a way it cannot follow")


def send_template(
    sender: PacketSocket | RawIPSocket | Transmitter,
    template: Template,
    n: int,
    first: int = 0,
    timeout: float | None = None,
) -> int:
    """Send frames [first, first + n) of a template; how many were accepted.

    The frames exist a slice at a time, in one batch. Fewer than n are sent only when `timeout` (s) passed.

    Raises: `EngineError` when a frame is refused, as `sender.send_batch`.
    """
    end_ns = deadline(timeout)
    done = 0
    for batch in _slices(template, n, first):
        sent = 0
        while sent < len(batch):
            accepted = sender.send_batch(batch, sent, None, seconds_until(end_ns))
            sent += accepted
            done += accepted
            if accepted == 0 or (sent < len(batch) and monotonic_ns() >= end_ns):
                return done
    return done


async def asend_template(
    sender: PacketSocket | RawIPSocket | Transmitter,
    template: Template,
    n: int,
    first: int = 0,
    timeout: float | None = None,
) -> int:
    """As `send_template`, while the running event loop's other tasks go on."""
    end_ns = deadline(timeout)
    done = 0
    for batch in _slices(template, n, first):
        sent = 0
        while sent < len(batch):
            accepted = await sender.asend_batch(batch, sent, None, seconds_until(end_ns))
            sent += accepted
            done += accepted
            if accepted == 0 or (sent < len(batch) and monotonic_ns() >= end_ns):
                return done
    return done


def _slices(template: Template, n: int, first: int) -> Iterator[FrameBatch]:
    """Frames [first, first + n) in a batch that is refilled."""
    if n < 0:
        raise ValueError(f"{n} frames; want 0 or more")
    batch = FrameBatch(SLICE, SLICE * len(template))
    done = 0
    while done < n:
        done += template.fill(batch, first + done, min(SLICE, n - done))
        yield batch


# ---- values ------------------------------------------------------------------------------------------


def _content(row: FieldInfo, number: int) -> Any:
    """What a field takes for a number: itself, or the octets of an address."""
    return number.to_bytes(row.width // 8, "big") if row.kind.code.endswith("s") else number


def _number(path: str, row: FieldInfo, value: Any) -> int:
    """The number whose bits a value has on the wire.  Raises `FieldError` for one that does not fit."""
    if row.kind.code.endswith("s") and isinstance(value, int) and not 0 <= value < 1 << row.width:
        raise FieldError(f"{path}: {value} does not fit {row.width} bits")
    if row.kind.code.endswith("s") and isinstance(value, int):
        return value
    content = row.kind.convert(value, path)
    return int.from_bytes(content, "big") if isinstance(content, bytes) else int(content)


def _parts(path: str, row: FieldInfo, source: Any) -> list[dict[str, Any]]:
    """The rows of the C program for a source, the lowest CHUNK bits first, without their places."""
    wide = range(CHUNK, row.width, CHUNK)
    if isinstance(source, range):
        source = Counter(source.start, source.step, source.stop)
    if isinstance(source, Random):
        return _random(path, row, source, wide)
    if isinstance(source, (Counter, Permutation)):
        start, step = _number(path, row, source.start), source.step
        part = {"start": start & _WORD, "step": step & _WORD}
        last = start
        if source.stop is None:
            kind = lib.RK_FIELD_COUNTER
        else:
            # One beyond the field's end is where its last values stop.
            stop = source.stop if isinstance(source.stop, int) else _number(path, row, source.stop)
            count = _count(path, start, stop, step)
            if not 0 < count <= _WORD:
                raise FieldError(f"{path}: {source} has {count or 'no'} values; possible are 1..2^{CHUNK}-1")
            last = _number(path, row, start + (count - 1) * step)
            part["count"] = count
            kind = lib.RK_FIELD_COUNTER
        if isinstance(source, Permutation):
            kind = lib.RK_FIELD_PERMUTATION
            part["seed"] = source.seed & _WORD
        if start >> CHUNK != last >> CHUNK:
            raise FieldError(f"{path}: only the lowest {CHUNK} bits can count, {source} changes higher ones")
        return [{"kind": kind, **part}] + [
            {"kind": lib.RK_FIELD_COUNTER, "start": start >> at & _WORD} for at in wide
        ]
    given = source.values if isinstance(source, Values) else source
    if isinstance(given, (str, bytes)) or not hasattr(given, "__iter__"):
        raise FieldError(f"{path}: need a Counter, Permutation, Random or a list of values, got {given!r}")
    # An array's own integers take longer to look at than Python's.
    listed = given.tolist() if hasattr(given, "tolist") else given
    values = [_number(path, row, value) for value in listed]
    if not values:
        raise FieldError(f"{path}: no values")
    return [
        {"kind": lib.RK_FIELD_VALUES, "values": [value >> at & _WORD for value in values]}
        for at in (0, *wide)
    ]


def _count(path: str, start: int, stop: int, step: int) -> int:
    """How many values range(start, stop, step) has; len() of a range ends at 2^63."""
    if not step:
        raise FieldError(f"{path}: a step of 0 leads nowhere")
    return max(0, -((start - stop) // step))


def _random(path: str, row: FieldInfo, source: Random, wide: range) -> list[dict[str, Any]]:
    seed = source.seed & _WORD
    if source.low is None and source.high is None:
        # The parts of a wide field differ in their seeds.
        return [{"kind": lib.RK_FIELD_RANDOM, "seed": seed + n & _WORD} for n in range(1 + len(wide))]
    low = 0 if source.low is None else _number(path, row, source.low)
    high = (1 << row.width) - 1 if source.high is None else _number(path, row, source.high)
    if low > high:
        raise FieldError(f"{path}: {source} has no values")
    if high - low >= _WORD or low >> CHUNK != high >> CHUNK:
        raise FieldError(f"{path}: {source}: bounds may differ in the lowest {CHUNK} bits only")
    part = {"kind": lib.RK_FIELD_RANDOM_BELOW, "start": low & _WORD, "step": high - low + 1, "seed": seed}
    return [part] + [{"kind": lib.RK_FIELD_COUNTER, "start": low >> at & _WORD} for at in wide]


def _place(segments: Sequence[tuple[int, int]], item: _Item) -> int | None:
    """Where an item stands in what a checksum covers, in bits; None where it is not covered."""
    before = 0
    for first, stop in segments:
        start, end = max(item.at, first * 8), min(item.at + item.width, stop * 8)
        if start < end:
            if end - start != item.width:
                raise FieldError(
                    f"template: the field at bit {item.at} is covered by a checksum in part only"
                )
            return before + item.at - first * 8
        before += (stop - first) * 8
    return None
