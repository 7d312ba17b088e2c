-- KEYS: the log of each limit. ARGV: units, the tick that the charge answered, and the window of each limit.
-- Returns whether any of them was still in use.

local units, at = tonumber(ARGV[1]), tonumber(ARGV[2])
local time, given = server_time(), 0
for index, key in ipairs(KEYS) do
  local log = open_log(key)
  if log.size > 0 then
    local window = tonumber(ARGV[2 + index])
    age(log, time, window)
    if give_back(log, units, at + log.offset, window) then given = 1 end
  end
end
return given
