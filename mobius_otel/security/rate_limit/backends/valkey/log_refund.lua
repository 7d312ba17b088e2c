-- KEYS: the log of each limit. ARGV: units, the tick that the charge answered, and the window of each limit.
-- Returns whether any of them was still in use.

local units, at = tonumber(ARGV[1]), tonumber(ARGV[2])
local time, given = server_time(), 0
for index, key in ipairs(KEYS) do
  local log = open_log(key)
  if log.size > 0 then
    age(log, time, tonumber(ARGV[2 + index]))
    if give_back(log, units, at + log.offset) then given = 1 end
  end
end
return given
