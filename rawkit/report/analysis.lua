-- What follows from the roles of the fields, one verdict a packet. Written once, for all protocols; the rules
-- are those of rawkit.report.analysis. Wireshark shows packets in any order: they are judged when they are
-- first seen, which is in the order of the file, and looked up later.

fields.analysis = ProtoField.none(name .. ".analysis", "analysis")
fields.analysis_retransmission = ProtoField.bool(name .. ".analysis.retransmission", "retransmission")
fields.analysis_spurious = ProtoField.bool(name .. ".analysis.spurious", "of what was acknowledged")
fields.analysis_dup_ack = ProtoField.uint32(name .. ".analysis.dup_ack", "duplicate acknowledgement")
fields.analysis_acks_frame = ProtoField.framenum(name .. ".analysis.acks_frame", "acknowledges frame")
fields.analysis_rtt = ProtoField.relative_time(name .. ".analysis.rtt", "round-trip time")
fields.analysis_bytes_in_flight = ProtoField.uint32(name .. ".analysis.bytes_in_flight", "octets in flight")

local experts, listed = {}, {}
for key, note in pairs({
  retransmission = { "Sent again", "SEQUENCE", "NOTE" },
  spurious = { "Sent again, although it was acknowledged", "SEQUENCE", "NOTE" },
  gap = { "What comes before this was not captured", "SEQUENCE", "WARN" },
  dup_ack = { "The same acknowledgement again", "SEQUENCE", "NOTE" },
  bad_checksum = { "Wrong checksum", "CHECKSUM", "ERROR" },
  malformed = { "Cut short, or a length that cannot be", "MALFORMED", "ERROR" },
}) do
  local text, group, severity = note[1], expert.group[note[2]], expert.severity[note[3]]
  experts[key] = ProtoExpert.new(name .. ".expert." .. key, text, group, severity)
  table.insert(listed, experts[key])
end
proto.experts = listed

local sides, verdicts = {}, {}

function proto.init()
  sides, verdicts = {}, {}
end

local interface_name = Field.new("frame.interface_name")

local function side(name)
  if not sides[name] then
    sides[name] = { una = 0, sent = {}, first = 1, last = 0, in_flight = 0, dup_acks = 0 }
  end
  return sides[name]
end

-- Remove what has left from the front of the list of packets that are not acknowledged.
local function trim(there)
  while there.first <= there.last and there.sent[there.first].gone do
    there.sent[there.first] = nil
    there.first = there.first + 1
  end
end

local function leave(there, packet, verdict, now)
  packet.gone = true
  there.in_flight = there.in_flight - packet.payload
  verdict.acks_frame = packet.frame
  verdict.twice = verdict.twice or packet.times > 1
  verdict.rtt = not verdict.twice and now - packet.time or nil
end

local function acknowledge(here, there, said, verdict, now)
  local size = roles.numbers
  if not roles.cumulative then
    local back = (there.next - said.ack) % size
    local number = there.next - (back == 0 and size or back)
    for i = there.first, there.last do
      local packet = there.sent[i]
      if packet.start == number and not packet.gone then
        leave(there, packet, verdict, now)
        break
      end
    end
    trim(there)
    there.una = there.first <= there.last and there.sent[there.first].start or there.next
    return
  end
  local ahead = (said.ack - there.una) % size
  if ahead > there.next - there.una then
    return -- an old one
  end
  local una = there.una + ahead
  local same = here.last_ack == una and here.last_window == said.window
  if ahead == 0 and said.span == 0 and there.first <= there.last and same then
    here.dup_acks = here.dup_acks + 1
    verdict.dup_ack = here.dup_acks
  elseif not same then
    here.dup_acks = 0
  end
  here.last_ack, here.last_window, there.una = una, said.window, una
  while there.first <= there.last and there.sent[there.first].stop <= una do
    leave(there, there.sent[there.first], verdict, now)
    trim(there)
  end
end

local function take(here, said, verdict, now, frame)
  local size = roles.numbers
  if not here.next then
    here.next, here.una = said.seq, said.seq
  end
  local back = (here.next - said.seq) % size
  local start
  if back > 0 and back <= math.max(here.next - here.una, math.floor(size / 2)) then
    start = here.next - back
    verdict.retransmission, verdict.spurious = true, start + said.span <= here.una
    for i = here.last, here.first, -1 do
      local packet = here.sent[i]
      if packet.stop <= start then
        break
      end
      if not packet.gone and packet.start < start + said.span then
        packet.times, packet.time = packet.times + 1, now
      end
    end
  else
    start = here.next + (back == 0 and 0 or size - back)
    verdict.gap = back > 0
  end
  local stop = start + said.span
  if stop > here.next then
    local fresh = math.max(start, here.next)
    local payload = roles.in_octets and math.min(said.payload, stop - fresh) or said.payload
    here.last = here.last + 1
    here.sent[here.last] =
      { start = fresh, stop = stop, payload = payload, time = now, times = 1, frame = frame }
    here.in_flight, here.next = here.in_flight + payload, stop
  end
  verdict.in_flight = here.in_flight
end

-- The verdict on a packet; nil for what says nothing, and for what a simulated link killed.
local function judge(pinfo, said)
  if verdicts[pinfo.number] or pinfo.visited then
    return verdicts[pinfo.number]
  end
  local where = interface_name()
  where = where and where.value or ""
  if where:sub(-8) == ":dropped" then
    return nil
  end
  local from, to = tostring(pinfo.src) .. " " .. pinfo.src_port, tostring(pinfo.dst) .. " " .. pinfo.dst_port
  local here = side(table.concat({ where, from, to, said.src_port, said.dst_port, said.conn_id }, "|"))
  local there = side(table.concat({ where, to, from, said.dst_port, said.src_port, said.conn_id }, "|"))
  local verdict = {}
  verdicts[pinfo.number] = verdict
  if said.ack and there.next then
    acknowledge(here, there, said, verdict, pinfo.rel_ts)
  end
  if said.span > 0 and said.seq then
    take(here, said, verdict, pinfo.rel_ts, pinfo.number)
  end
  return verdict
end

local function show(tree, pinfo, verdict)
  if not verdict or not next(verdict) then
    return
  end
  local branch = tree:add(fields.analysis):set_generated()
  local function add(field, value)
    return branch:add(field, value):set_generated()
  end
  if verdict.retransmission then
    local note = verdict.spurious and experts.spurious or experts.retransmission
    add(fields.analysis_retransmission, true):add_proto_expert_info(note)
    pinfo.cols.info:prepend(verdict.spurious and "[spurious retransmission] " or "[retransmission] ")
    if verdict.spurious then
      add(fields.analysis_spurious, true)
    end
  end
  if verdict.gap then
    branch:add_proto_expert_info(experts.gap)
  end
  if verdict.dup_ack then
    add(fields.analysis_dup_ack, verdict.dup_ack):add_proto_expert_info(experts.dup_ack)
    pinfo.cols.info:prepend("[dup ack #" .. verdict.dup_ack .. "] ")
  end
  if verdict.acks_frame then
    add(fields.analysis_acks_frame, verdict.acks_frame)
  end
  if verdict.rtt then
    add(fields.analysis_rtt, NSTime.new(math.floor(verdict.rtt), math.floor(verdict.rtt % 1 * 1e9 + 0.5)))
  end
  if verdict.in_flight then
    add(fields.analysis_bytes_in_flight, verdict.in_flight)
  end
end
