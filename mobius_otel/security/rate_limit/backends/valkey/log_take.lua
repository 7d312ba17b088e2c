-- KEYS: the log of each limit; then, after a change of limits, those that they go on from.
-- ARGV: cost, how many limits, whether to charge, and for each limit its amount and window in ticks.
-- Returns "allowed tick", and for each limit "used reset wait" (wait -1: the cost is above the limit).

local cost, limits, charging = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3] == '1'
local time = server_time()
local logs, allowed = {}, true

for index = 1, limits do
  local amount, window = tonumber(ARGV[2 + 2 * index]), tonumber(ARGV[3 + 2 * index])
  local log = open_log(KEYS[index])
  local from = limits
  while log.size == 0 and from < #KEYS do
    from = from + 1
    local older = open_log(KEYS[from])
    if older.size > 0 then log = older end
  end
  age(log, time, window)
  local wait = 0
  if log.used + cost > amount then
    allowed = false
    wait = cost > amount and -1 or freed_in(log, log.used + cost - amount, window)
  end
  log.window, log.wait = window, wait
  logs[index] = log
end

local charged = allowed and charging and cost > 0
local answer = string.format('%d %.0f', allowed and 1 or 0, charged and time or 0)
for index = 1, limits do
  local log = logs[index]
  local window = log.window
  if charged then
    if log.key ~= KEYS[index] then
      redis.call('COPY', log.key, KEYS[index])
      log.key = KEYS[index]
    end
    charge(log, cost, window)
  elseif log.moved and charging then
    redis.call('SETRANGE', log.key, 0, header(log))
    keep(log, window)
  end
  local reset = log.used > 0 and log.last + window - log.now or 0
  answer = answer .. string.format(' %.0f %.0f %.0f', log.used, reset, log.wait)
end
return answer
