-- The sliding window log of one subject and window, as one string: a header, then an entry for each tick with
-- hits, oldest first. Times are whole microseconds of the server, called ticks.
--
-- An entry is its tick and the running total of units up to and including it (modulo WRAP), so that "how much is
-- used" is one subtraction and "when has enough of it left" one bisection, whatever a hit costs. While more than
-- EXACT entries count, a new one's tick is rounded up to the next multiple of a ten thousandth of the window:
-- it counts a little longer than it is young, never shorter, and a log has at most EXACT + 10,000 entries.

local EXACT, ROUGH = 1000, 10000
local HEADER, ENTRY, FORM, WRAP = 48, 13, '<I7I6', 2 ^ 48
local PREFIX = 256 -- what is read of a log in the first go

local function server_time()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

-- head: the first entry that counted at the last write; base: the total before it; offset: what is added to the
-- server's time since its clock was set back; turn, leased, before: see lease_take.lua.
local function open_log(key)
  local text = redis.call('GETRANGE', key, 0, PREFIX - 1)
  local log = {key = key, text = text, head = 0, base = 0, offset = 0, turn = 0, leased = 0, before = 0, size = 0}
  if #text > 0 then
    local length = #text < PREFIX and #text or redis.call('STRLEN', key)
    log.size = (length - HEADER) / ENTRY
    log.head, log.base, log.offset, log.turn, log.leased, log.before = struct.unpack('<dddddd', text)
  end
  return log
end

local function entry(log, index)
  local at = HEADER + index * ENTRY
  if at + ENTRY <= #log.text then return struct.unpack(FORM, log.text, at + 1) end
  return struct.unpack(FORM, redis.call('GETRANGE', log.key, at, at + ENTRY - 1))
end

-- The first entry from `low` on that is not `passed`: in growing steps, since it is near most of the time, then
-- by bisection.
local function first(log, low, passed)
  local high, step = log.size, 1
  while low < high do
    local probe = math.min(low + step - 1, high - 1)
    if not passed(entry(log, probe)) then high = probe break end
    low, step = probe + 1, step * 2
  end
  while low < high do
    local middle = math.floor((low + high) / 2)
    if passed(entry(log, middle)) then low = middle + 1 else high = middle end
  end
  return low
end

-- Let go of what has left the window; afterwards `live` is the first entry that counts, `used` the units in use.
local function age(log, time, window)
  log.live, log.start, log.used, log.last, log.total = log.head, log.base, 0, 0, 0
  log.now = time + log.offset
  if log.size == 0 then return end
  log.last, log.total = entry(log, log.size - 1)
  if log.last - log.now > window + window / ROUGH + 1 then -- the server's clock was set back: go on from where it was
    log.offset = log.last - time
    log.now, log.moved = log.last, true
  end
  local edge = log.now - window
  log.live = first(log, log.head, function(tick) return tick <= edge end)
  if log.live > log.head then
    local _, total = entry(log, log.live - 1)
    log.start = total
  end
  log.used = (log.total - log.start) % WRAP
end

-- Ticks until `units` of those in use are free.
local function freed_in(log, units, window)
  local start = log.start
  local index = first(log, log.live, function(_, total) return (total - start) % WRAP < units end)
  return (entry(log, index)) + window - log.now
end

local function header(log)
  return struct.pack('<dddddd', log.head, log.base, log.offset, log.turn, log.leased, log.before)
end

local function keep(log, window)
  redis.call('PEXPIRE', log.key, math.ceil((math.max(log.last, log.now) + window - log.now) / 1000) + 1)
end

local function charge(log, units, window)
  local at, step = log.now, math.floor(window / ROUGH)
  if log.size - log.live >= EXACT and step > 1 then at = math.ceil(at / step) * step end
  if at < log.last then at = log.last end
  local total = (log.total + units) % WRAP
  local added = struct.pack(FORM, at, total)
  if log.live == log.size then -- nothing of what is there counts any more
    log.head, log.base = 0, (total - units) % WRAP
    redis.call('SET', log.key, header(log) .. added)
    log.live, log.size = 0, 1
  else
    local dirty = log.moved or log.dirty
    if at == log.last then
      redis.call('SETRANGE', log.key, HEADER + (log.size - 1) * ENTRY, added)
    else
      redis.call('APPEND', log.key, added)
      log.size = log.size + 1
    end
    if log.live > 32 and log.live * 2 > log.size then
      local rest = redis.call('GETRANGE', log.key, HEADER + log.live * ENTRY, -1)
      log.head, log.base = 0, log.start
      redis.call('SET', log.key, header(log) .. rest)
    elseif dirty or log.live > log.head then
      log.head, log.base = log.live, log.start
      redis.call('SETRANGE', log.key, 0, header(log))
    end
  end
  log.last, log.total, log.used = at, total, log.used + units
  keep(log, window)
end

-- Take `units` back from the entry that holds what was charged at `at`; returns whether it still counts.
local function give_back(log, units, at, window)
  if at <= log.now - window then return false end
  local index = first(log, log.live, function(tick) return tick < at end)
  if index == log.size then return false end
  local tick, total = entry(log, index)
  local step = math.floor(window / ROUGH)
  if tick ~= at and not (step > 1 and tick == math.ceil(at / step) * step) then return false end -- somebody else's
  local before = index > log.live and select(2, entry(log, index - 1)) or log.start
  local taken = math.min(units, (total - before) % WRAP)
  if taken == 0 then return false end
  local changed = {}
  for later = index, log.size - 1 do
    local when, sum = entry(log, later)
    changed[#changed + 1] = struct.pack(FORM, when, (sum - taken) % WRAP)
  end
  redis.call('SETRANGE', log.key, HEADER + index * ENTRY, table.concat(changed))
  log.used, log.total, log.text = log.used - taken, (log.total - taken) % WRAP, ''
  return true
end
