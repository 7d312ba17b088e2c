-- The theoretical arrival time of one subject and limit: whole ticks, and a rest in parts of the limit.
-- A limit of `amount` units in a `window` gives back one unit each window / amount, and `amount` may come at once.

local function server_time()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

local function open_line(key, amount, window, time)
  local line = {key = key, ahead = 0, rest = 0}
  local text = redis.call('GET', key)
  if text then
    local due, rest, parts = struct.unpack('<ddd', text)
    if parts ~= amount and rest > 0 then due, rest = due + 1, 0 end -- the limit was changed: rounded up
    if due >= time then line.ahead, line.rest = due - time, rest end
    -- Farther ahead than a full limit: the server's clock was set back, or the limit was changed.
    if line.ahead > window or (line.ahead == window and line.rest > 0) then line.ahead, line.rest = window, 0 end
  end
  return line
end

local function write_line(line, amount, time)
  if line.ahead == 0 and line.rest == 0 then
    redis.call('DEL', line.key)
  else
    redis.call('SET', line.key, struct.pack('<ddd', time + line.ahead, line.rest, amount), 'PX', math.ceil(line.ahead / 1000) + 1)
  end
end
