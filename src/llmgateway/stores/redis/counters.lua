-- The counters of one set of rules; before each of the scripts that use them. The same as stores/memory/counters.py.
-- Times are whole microseconds, levels and money whole numbers below 2^53, where doubles are exact.
--
-- ARGV: the time, or '' for the server's own; the call's id; its tokens, its price and its lease as they were asked for;
-- how many sets of rules follow. Then of each set how many rates, slots, cooldowns and purses it has, and their numbers.
local NEVER, SLOT_WAIT, UNKNOWN = 9007199254740992, 1000000, -1
local MARGIN_MS, DAY_MS, ENDLESS_MS = 60000, 86400000, 7 * 86400000

local now = tonumber(ARGV[1])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local id, tokens, price, lease = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local sets = tonumber(ARGV[6])

local key_at, arg_at = 0, 6
local function key()
  key_at = key_at + 1
  return KEYS[key_at]
end
local function arg()
  arg_at = arg_at + 1
  return tonumber(ARGV[arg_at])
end

local function write_rate(rate)
  local ttl_ms = math.ceil(rate.level / rate.drain / 1000) + MARGIN_MS
  local state = string.format('%.0f %.0f %.0f', rate.level, now, rate.unit)
  redis.call('SET', rate.key, state, 'PX', string.format('%.0f', ttl_ms))
end

-- A rate: its level and when that was, and what a unit was worth then. When the clock stepped back, time goes on from
-- there.
local function read_rate(rate)
  rate.level = 0
  local state = redis.call('GET', rate.key)
  if not state then
    return
  end
  local level, last, unit = string.match(state, '^(%d+) (%d+) (%d+)$')
  level, last, unit = tonumber(level), tonumber(last), tonumber(unit)
  if unit ~= rate.unit then
    level = math.ceil(level / unit * rate.unit)
  end
  if now > last then
    level = math.max(level - (now - last) * rate.drain, 0)
  end
  rate.level = level
  if now < last then
    write_rate(rate)
  end
end

-- Slots: the calls in flight by the end of their leases.
local function count_slots(slots)
  redis.call('ZREMRANGEBYSCORE', slots.key, '-inf', string.format('%.0f', now))
  return redis.call('ZCARD', slots.key)
end

local function write_rest(rest, left)
  local ttl_ms = math.ceil(left / 1000) + MARGIN_MS
  redis.call('SET', rest.key, string.format('%.0f', now + left), 'PX', string.format('%.0f', ttl_ms))
end

-- A cooldown: until when nothing passes. After the clock stepped back never longer than the whole rest.
local function rest_left(rest)
  local till = redis.call('GET', rest.key)
  if not till then
    return 0
  end
  local left = tonumber(till) - now
  if left > rest.rest then
    left = rest.rest
    write_rest(rest, left)
  elseif left <= 0 then
    left = 0
    redis.call('DEL', rest.key)
  end
  return left
end

-- A purse: what was spent and what is held; who holds it (`id:amount`) by the end of their leases.
local function purse_used(purse)
  local state = redis.call('HMGET', purse.key, 'spent', 'held')
  if not state[1] then
    return nil
  end
  local held = tonumber(state[2] or 0)
  local over = redis.call('ZRANGEBYSCORE', purse.held_key, '-inf', string.format('%.0f', now))
  for _, member in ipairs(over) do
    local amount = string.match(member, '%d+$')
    redis.call('ZREM', purse.held_key, member)
    redis.call('HINCRBY', purse.key, 'held', '-' .. amount)
    held = held - amount
  end
  if held > 0 and redis.call('EXISTS', purse.held_key) == 0 then
    -- Its holders were evicted: nobody would ever give it back.
    redis.call('HSET', purse.key, 'held', 0)
    held = 0
  end
  return tonumber(state[1]) + held
end

local function keep_purse(purse)
  local ttl_ms = ENDLESS_MS
  if purse.ends > 0 then
    ttl_ms = math.max(math.ceil((purse.ends - now) / 1000), 0) + DAY_MS
  end
  local ttl = string.format('%.0f', ttl_ms)
  redis.call('PEXPIRE', purse.key, ttl)
  redis.call('PEXPIRE', purse.held_key, ttl)
end

-- Read the next set of rules.
local function read_set()
  local set = {rates = {}, slots = {}, rests = {}, purses = {}}
  local rates, slots, rests, purses = arg(), arg(), arg(), arg()
  for at = 1, rates do
    local rate = {key = key(), of_tokens = arg() == 1, unit = arg(), drain = arg(), full = arg(), burst = arg()}
    rate.asked = rate.of_tokens and math.min(tokens, rate.burst) or 1
    set.rates[at] = rate
  end
  for at = 1, slots do
    set.slots[at] = {key = key(), limit = arg()}
  end
  for at = 1, rests do
    set.rests[at] = {key = key(), refused_key = key(), rest = arg(), after = arg(), within = arg()}
  end
  for at = 1, purses do
    set.purses[at] = {key = key(), held_key = key(), hard = arg(), ends = arg()}
  end
  return set
end
