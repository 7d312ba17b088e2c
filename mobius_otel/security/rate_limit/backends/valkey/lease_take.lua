-- Decides, and lends a process further units to spend by itself for `age` ticks.
-- KEYS: the log of each limit.
-- ARGV: cost, how many limits, the units wanted beside, age; what the process has not spent of an earlier lease and
-- its tick; how much of an earlier lease is settled now, and its turn; for each limit amount, window and budget.
-- Returns "allowed tick granted turn", and for each limit "used reset wait".
--
-- What is lent is charged at once, so that a window never holds more than its limit. Of a limit at most `budget` is
-- lent and not settled at any time, by all processes together. Time is cut into turns of `age`: what was lent two
-- turns ago can no longer be spent, and is forgotten, also where its process died. One process gets at most half of
-- what is left to lend, and nothing is lent within a budget of the limit.

local cost, limits, extra, age_ = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local back, back_at, settled, settled_turn = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local time = server_time()
local turn = math.floor(time / age_)
local logs, allowed = {}, true

for index = 1, limits do
  local place = 6 + 3 * index
  local amount, window, budget = tonumber(ARGV[place]), tonumber(ARGV[place + 1]), tonumber(ARGV[place + 2])
  local log = open_log(KEYS[index])
  age(log, time, window)
  if log.turn ~= turn then
    log.before = log.turn == turn - 1 and log.leased or 0
    log.leased, log.turn = 0, turn
  end
  if settled_turn == turn then
    log.leased = math.max(0, log.leased - settled)
  elseif settled_turn == turn - 1 then
    log.before = math.max(0, log.before - settled)
  end
  if back > 0 and log.size > 0 then give_back(log, back, back_at + log.offset, window) end
  log.window, log.wait = window, 0
  if log.used + cost > amount then
    allowed = false
    log.wait = cost > amount and -1 or freed_in(log, log.used + cost - amount, window)
  end
  extra = math.min(extra, math.ceil((budget - log.leased - log.before) / 2), amount - log.used - cost - budget)
  logs[index] = log
end

if not allowed or extra < 0 then extra = 0 end
local answer = string.format('%d %.0f %.0f %.0f', allowed and 1 or 0, allowed and time or 0, extra, turn)
for index = 1, limits do
  local log = logs[index]
  if allowed then
    log.leased, log.dirty = log.leased + extra, true
    charge(log, cost + extra, log.window)
  elseif log.size > 0 then
    redis.call('SETRANGE', log.key, 0, header(log))
    keep(log, log.window)
  end
  local reset = log.used > 0 and log.last + log.window - log.now or 0
  answer = answer .. string.format(' %.0f %.0f %.0f', log.used, reset, log.wait)
end
return answer
