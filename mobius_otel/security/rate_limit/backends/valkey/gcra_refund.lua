-- KEYS: the line of each limit. ARGV: for each its amount, window, and the whole ticks and the rest to give back.
-- Returns whether any of them was still in use.

local time, given = server_time(), 0
for index, key in ipairs(KEYS) do
  local place = 4 * index - 3
  local amount = tonumber(ARGV[place])
  local line = open_line(key, amount, tonumber(ARGV[place + 1]), time)
  if line.ahead > 0 or line.rest > 0 then
    given = 1
    line.ahead, line.rest = line.ahead - tonumber(ARGV[place + 2]), line.rest - tonumber(ARGV[place + 3])
    if line.rest < 0 then line.ahead, line.rest = line.ahead - 1, line.rest + amount end
    if line.ahead < 0 then line.ahead, line.rest = 0, 0 end
    write_line(line, amount, time)
  end
end
return given
