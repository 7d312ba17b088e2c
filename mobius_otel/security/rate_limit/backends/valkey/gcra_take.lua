-- KEYS: the line of each limit; then, after a change of limits, those that they go on from.
-- ARGV: cost, how many limits, whether to charge, and for each limit its amount, window, and the whole ticks and
-- the rest that the cost is worth (whole -1: it is above the limit).
-- Returns "allowed tick", and for each limit "ahead rest wait".

local cost, limits, charging = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3] == '1'
local time = server_time()
local lines, allowed = {}, true

for index = 1, limits do
  local place = 4 * index
  local amount, window = tonumber(ARGV[place]), tonumber(ARGV[place + 1])
  local more, part = tonumber(ARGV[place + 2]), tonumber(ARGV[place + 3])
  local line = open_line(KEYS[index], amount, window, time)
  local from = limits
  while line.ahead == 0 and line.rest == 0 and from < #KEYS do
    from = from + 1
    line = open_line(KEYS[from], amount, window, time)
    line.key = KEYS[index]
  end
  line.amount, line.wait = amount, 0
  line.to, line.part = line.ahead + more, line.rest + part
  if line.part >= amount then line.to, line.part = line.to + 1, line.part - amount end
  if more < 0 then
    allowed, line.wait = false, -1
  elseif line.to > window or (line.to == window and line.part > 0) then
    allowed, line.wait = false, line.to - window + (line.part > 0 and 1 or 0)
  end
  lines[index] = line
end

local charged = allowed and charging and cost > 0
local answer = string.format('%d %.0f', allowed and 1 or 0, charged and time or 0)
for _, line in ipairs(lines) do
  if charged then
    line.ahead, line.rest = line.to, line.part
    write_line(line, line.amount, time)
  end
  answer = answer .. string.format(' %.0f %.0f %.0f', line.ahead, line.rest, line.wait)
end
return answer
