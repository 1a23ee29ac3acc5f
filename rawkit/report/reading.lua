-- What the functions that show a header, option or record share. Each such function (`readers`) returns the
-- values of its integer fields, `header_end` and `payload_end`; or nil, and what is wrong.

local readers = {}

-- Whether there are not so many octets from here on: by the lengths that were said, or in the file.
local function lacks(tvb, at, size, stop)
  return stop - at < size or at + size > tvb:len()
end

-- Rows of fields of these sizes, each row below the field `branch` if there is one.
local function show_rows(tvb, at, stop, tree, branch, columns, sizes)
  local size = 0
  for _, octets in ipairs(sizes) do
    size = size + octets
  end
  for place = at, stop - size, size do
    local row = branch and tree:add(branch, tvb(place, size)) or tree
    local column_at = place
    for i, field in ipairs(columns) do
      row:add(field, tvb(column_at, sizes[i]))
      column_at = column_at + sizes[i]
    end
  end
end

-- Records up to the end, of the class that the octet at `list.at` chooses among `list.kinds`.
local function show_records(tvb, at, stop, tree, list)
  while at < stop do
    local number = at + list.at < stop and tvb(at + list.at, 1):uint()
    local kind = list.kinds[number] or list.other
    local record = tree:add(kind.branch, tvb(at, stop - at))
    local found = kind.reader(tvb, at, stop, record)
    if not found or found.header_end == at then
      tree:add(list.unparsed, tvb(at, stop - at))
      return
    end
    record:set_len(found.header_end - at)
    at = found.header_end
  end
end

-- Options of a family: kind and length, then what `family.readers` can show, or octets.
local function show_options(tvb, at, stop, tree, family)
  local head = family.length_at + family.length_len
  while at < stop do
    local kind = stop - at >= family.kind_len and tvb(at, family.kind_len):uint()
    if kind == family["end"] then
      return
    end
    local single = family.singles[kind]
    local octets = single and 1 or 0
    if not single and stop - at >= head then
      octets = tvb(at + family.length_at, family.length_len):uint() * family.length_unit + family.uncounted
    end
    if not kind or at + octets > stop or (not single and octets < head) then
      tree:add(family.unparsed, tvb(at, stop - at))
      return
    end
    local option = tree:add(family.option, tvb(at, octets))
    option:add(family.kind, tvb(at, family.kind_len))
    if not single then
      option:add(family.length, tvb(at + family.length_at, family.length_len))
      local reader = family.readers[kind]
      if octets > head and not (reader and reader(tvb, at + head, at + octets, option)) then
        option:add(family.data, tvb(at + head, octets - head))
      end
    end
    at = at + octets + (-octets) % family.align
  end
end
