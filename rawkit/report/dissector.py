"""A Wireshark dissector for a header class: a Lua script that shows its fields, flags, options and names of
values, and judges packets by the roles of the fields (`analysis.lua`).

    tshark -X lua_script:courier.lua -r run.pcapng

A header's subclasses by `variant` are shown as the header itself: what follows its own fields is payload.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib import resources

from rawkit.report.analysis import acknowledges_by_flag, flag_masks
from rawkit.report.luafields import Writer, quoted
from rawkit.wire.ethernet import Ether
from rawkit.wire.field import ChecksumRule, CRC32cRule
from rawkit.wire.header import Header
from rawkit.wire.ipv4 import IPv4
from rawkit.wire.ipv6 import IPv6
from rawkit.wire.layout import FieldInfo
from rawkit.wire.role import Unit
from rawkit.wire.udp import UDP

TABLES: dict[type[Header], str] = {IPv4: "ip.proto", IPv6: "ip.proto", UDP: "udp.port", Ether: "ethertype"}
EXPERIMENT = 253  # RFC 3692
RESERVED = "all and any bitand bitwise_and contains eq false ge gt in le lt matches ne not or true xor"
"""Words of Wireshark's filter language, none of which can be a protocol's name."""


def dissector(
    header: type[Header],
    *,
    name: str = "",
    ip_proto: int | None = None,
    udp_port: int | None = None,
    numbers: int | None = None,
    unit: Unit | None = None,
    shift: int | None = None,
) -> str:
    """The Lua script for a header class.

    `name` begins the names of its fields; by default it is the class's, in lower case and without "Header".
    Wireshark loads no script whose name is that of a protocol that it has.
    The script takes packets of the IP protocol `ip_proto` (IPv4 and IPv6) and of the UDP port `udp_port`, by
    default those of what the class is registered `over`, else IP protocol 253; other UDP ports can be chosen
    in Wireshark ("Decode As", `-d udp.port==4321,NAME`). `numbers`, `unit` and `shift` are as in
    `rawkit.report.analysis.Roles`.

    Raises:
        ValueError: a name that Wireshark does not take.
    """
    name = name or protocol_name(header)
    if not re.fullmatch(r"[a-z0-9_-]+", name):
        raise ValueError(f"{name!r} begins no names of Wireshark's: small letters, digits, _ and -")
    if name in RESERVED.split():
        raise ValueError(f"{name!r} is a word of Wireshark's filter language: give another name")
    places = _places(header, ip_proto, udp_port)
    title = f"{header.__name__} ({name})"  # Wireshark wants no two alike
    writer = Writer(name)
    reader = writer.layout(header, "")
    roles = {role: row for role, (_, row) in header.roles.items()}
    parts = [
        f"-- Shows {header.__name__} in Wireshark and tshark. Made by rawkit: rawkit transport dissector",
        f"--   tshark -X lua_script:{name}.lua -r FILE",
        "-- For Wireshark put it into the folder of its Lua plugins.",
        "",
        f"local name = {quoted(name)}",
        f"local proto = Proto(name, {quoted(title)})",
        "local fields = proto.fields",
        *writer.declarations,
        _roles(header, numbers, unit),
        "",
        _text("analysis.lua"),
        _text("reading.lua"),
        *writer.functions,
        _checksum(header, roles.get("checksum")),
        _said(header, roles, shift),
        _MAIN.format(reader=reader, label=quoted(name.upper())),
        *(f"DissectorTable.get({quoted(table)}):add({number}, proto)" for table, number in places),
        *([] if "udp.port" in dict(places) else ['DissectorTable.get("udp.port"):add_for_decode_as(proto)']),
    ]
    return "\n".join(parts) + "\n"


def protocol_name(header: type[Header]) -> str:
    """What a header's fields are called by in Wireshark, where nothing else is said."""
    return re.sub("[^a-z0-9_-]", "_", header.__name__.removesuffix("Header").lower() or "header")


def _places(header: type[Header], ip_proto: int | None, udp_port: int | None) -> list[tuple[str, int]]:
    given = [(t, n) for t, n in (("ip.proto", ip_proto), ("udp.port", udp_port)) if n is not None]
    registered = [
        (table, lower.numbers[header]) for lower, table in TABLES.items() if header in lower.numbers
    ]
    return list(dict.fromkeys(given or registered or [("ip.proto", EXPERIMENT)]))


@cache
def _text(file: str) -> str:
    return resources.files("rawkit.report").joinpath(file).read_text(encoding="utf-8")


# ---- what the roles say -------------------------------------------------------------------------------


def _roles(header: type[Header], numbers: int | None, unit: Unit | None) -> str:
    roles = header.roles
    facts: Mapping[str, object] = {
        "numbers": numbers or (1 << min(roles["seq"][1].width, 53) if "seq" in roles else 0),
        "in_octets": "seq" in roles and (unit or roles["seq"][0].unit) == "octets",
        "cumulative": not acknowledges_by_flag(header) and "ack" in roles and roles["ack"][0].cumulative,
    }
    return "local roles = { " + ", ".join(f"{k} = {str(v).lower()}" for k, v in facts.items()) + " }"


def _said(header: type[Header], roles: Mapping[str, FieldInfo], shift: int | None) -> str:
    """The function that gives what the values of a packet's fields say by their roles."""

    def value(role: str, otherwise: str = "nil") -> str:
        if role not in roles:
            return otherwise
        found = f"values[{quoted(roles[role].name)}]"
        # A field may be absent from this packet.
        return f"({found} or {otherwise})" if roles[role].spec.when and otherwise != "nil" else found

    taking, acking = flag_masks(header)
    by_flag = acknowledges_by_flag(header)
    bits = [taking & -taking, taking & (taking - 1)] if taking else []
    terms = [f"bit_of({value('flags', '0')}, {bit})" for bit in bits if bit]
    acknowledges = [f"bit_of({value('flags', '0')}, {acking}) == 1"] if acking else []
    if by_flag:
        acknowledges.append("said.span == 0")
    ack = value("seq" if by_flag else "ack")
    window = value("window")
    if shift is None:
        shift = header.roles["window"][0].shift if "window" in roles else 0
    words = _flag_words(roles["flags"], value("flags", "0")) if "flags" in roles else []
    for role in ("seq", "ack", "window"):
        if role in roles:
            words += [f"if {value(role)} then", f'  words = words .. " {role}=" .. {value(role)}', "end"]
    return "\n".join([
        "",
        "local function bit_of(value, bit)",
        "  return math.floor(value / bit) % 2",
        "end",
        "",
        "-- What the packet says by the roles of its fields, and in a few words.",
        "local function by_roles(values, payload)",
        f"  local said = {{ payload = payload, seq = {value('seq')},",
        f"    window = {window} and {window} * {1 << shift},",
        f"    src_port = {value('src_port', '0')}, dst_port = {value('dst_port', '0')},",
        f"    conn_id = {value('conn_id', '0')} }}",
        f"  local taking = {' + '.join(terms) or '0'}",
        "  said.span = roles.in_octets and payload + taking or math.min(payload + taking, 1)",
        f"  if {' and '.join(acknowledges) or 'true'} then",
        f"    said.ack = {ack}",
        "  end",
        '  local words = ""',
        *(f"  {line}" for line in words),
        "  if payload > 0 then",
        '    words = words .. " len=" .. payload',
        "  end",
        '  return said, (words:gsub("^ ", ""))',
        "end",
    ])  # fmt: skip


def _flag_words(row: FieldInfo, value: str) -> list[str]:
    names = getattr(row.kind, "names", ())
    pairs = ", ".join(f"{{ {1 << i}, {quoted(name)} }}" for i, name in enumerate(names))
    return [
        f"for _, flag in ipairs({{ {pairs} }}) do",
        f"  if bit_of({value}, flag[1]) == 1 then",
        '    words = words .. (words == "" and "" or "|") .. flag[2]',
        "  end",
        "end",
    ]


# ---- the checksum -------------------------------------------------------------------------------------


def _checksum(header: type[Header], row: FieldInfo | None) -> str:
    """The function that says whether the checksum is right; nil for what is not looked at."""
    rule = row.spec.rule if row else None
    if row is not None and isinstance(rule, CRC32cRule):
        return _CRC32C.format(at=row.offset // 8, whole="" if rule.payload else ", header_end")
    plain = (
        isinstance(rule, ChecksumRule)
        and rule.payload
        and not (rule.coverage or rule.skips[1] or rule.absent_when)
    )
    if not plain or not isinstance(rule, ChecksumRule):
        return "\nlocal function sound()\nend"
    if not rule.pseudo_header:
        return f"{_SUM}\nlocal function sound(tvb)\n  return is_sound(sum(tvb(), 0))\nend"
    return _SUM + _SUM_WITH_ADDRESSES.format(v4=IPv4._number_of(header), v6=IPv6._number_of(header))


_SUM = """
local function sum(range, so_far)
  local octets = range:raw()
  for i = 1, #octets, 2 do
    so_far = so_far + octets:byte(i) * 256 + (octets:byte(i + 1) or 0)
  end
  return so_far
end

local function is_sound(total)
  return total > 0 and total % 65535 == 0
end
"""

_CRC32C = """
-- Lua 5.2 has no operator for this, and later ones no library.
local xor = bit32 and bit32.bxor or load("return function(a, b) return a ~ b end")()

local crc_of = {{}}
for octet = 0, 255 do
  local crc = octet
  for _ = 1, 8 do
    crc = crc % 2 == 1 and xor(math.floor(crc / 2), 0x82F63B78) or math.floor(crc / 2)
  end
  crc_of[octet] = crc
end

-- CRC32c with zeros in its own place, least significant octet first (RFC 9260 appendix A).
local function sound(tvb, header_end)
  local octets = tvb(0{whole}):raw()
  local given = octets:sub({at} + 1, {at} + 4)
  octets = octets:sub(1, {at}) .. "\\0\\0\\0\\0" .. octets:sub({at} + 5)
  local crc = 0xFFFFFFFF
  for i = 1, #octets do
    crc = xor(math.floor(crc / 256), crc_of[xor(crc, octets:byte(i)) % 256])
  end
  crc = xor(crc, 0xFFFFFFFF)
  for i = 1, 4 do
    if given:byte(i) ~= math.floor(crc / 256 ^ (i - 1)) % 256 then
      return false
    end
  end
  return true
end"""

_SUM_WITH_ADDRESSES = """
local addresses = {{
  {{ Field.new("ip.src"), Field.new("ip.dst"), {v4} }},
  {{ Field.new("ipv6.src"), Field.new("ipv6.dst"), {v6} }},
}}

-- Over the pseudo-header, too, of the innermost IP header.
local function sound(tvb)
  for _, kind in ipairs(addresses) do
    local from, to = {{ kind[1]() }}, {{ kind[2]() }}
    if #from > 0 and #to > 0 then
      return is_sound(sum(tvb(), sum(from[#from].range, sum(to[#to].range, kind[3] + tvb:len()))))
    end
  end
end
"""

_MAIN = """
function proto.dissector(tvb, pinfo, tree)
  pinfo.cols.protocol = {label}
  pinfo.cols.info = ""
  local branch = tree:add(proto, tvb())
  local values, problem = {reader}(tvb, 0, tvb:reported_len(), branch)
  if not values then
    branch:add_proto_expert_info(experts.malformed, problem)
    pinfo.cols.info = "[malformed: " .. problem .. "]"
    return
  end
  branch:set_len(values.header_end)
  local said, words = by_roles(values, values.payload_end - values.header_end)
  pinfo.cols.info = words
  local complete = tvb:len() == tvb:reported_len()
  if complete and sound(tvb, values.header_end) == false then
    branch:add_proto_expert_info(experts.bad_checksum)
    pinfo.cols.info:prepend("[bad checksum] ")
  elseif not pinfo.in_error_pkt then
    show(branch, pinfo, judge(pinfo, said))
  end
  local there = math.min(values.payload_end, tvb:len()) - values.header_end
  if there > 0 then
    Dissector.get("data"):call(tvb(values.header_end, there):tvb(), pinfo, tree)
  end
end
"""
