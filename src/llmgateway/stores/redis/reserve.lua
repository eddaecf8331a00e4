-- Decide about one call: all rules of the first set and of one of the others must let it pass, else nothing is taken.
-- Returns {time, verdict, set, kind, index, wait, levels, unknown purses}: verdict 1 passes (set is the choice), 0 is
-- refused by the rule `index` of that kind in that set, -1 is refused because purses of that set are unknown.
local RATE, SLOTS, REST, PURSE = 1, 2, 3, 4

-- Of all that refuse, the one that takes longest counts.
local function also(refusal, wait, kind, index)
  if wait > refusal.wait then
    refusal.wait, refusal.kind, refusal.index = wait, kind, index
  end
  return wait > 0
end

local function ask_rates(set, refusal)
  for index, rate in ipairs(set.rates) do
    read_rate(rate)
    local over = rate.level + rate.asked * rate.unit - rate.full
    if over > 0 then
      refusal.counts = also(refusal, math.ceil(over / rate.drain), RATE, index)
    end
  end
end

local function purse_wait(purse, used)
  if used + price <= purse.hard and used < purse.hard then
    return 0
  end
  return purse.ends > 0 and math.max(purse.ends - now, 1) or NEVER
end

local function ask_purses(set, refusal)
  for index, purse in ipairs(set.purses) do
    local used = purse_used(purse)
    if used then
      also(refusal, purse_wait(purse, used), PURSE, index)
    else
      refusal.unknown[#refusal.unknown + 1] = index
    end
  end
end

-- Who of a set refuses for how long; nothing is taken.
local function ask(set)
  local refusal = {wait = 0, kind = 0, index = 0, counts = false, rests = false, unknown = {}}
  ask_rates(set, refusal)
  for index, slots in ipairs(set.slots) do
    if count_slots(slots) >= slots.limit then
      refusal.counts = also(refusal, SLOT_WAIT, SLOTS, index) or refusal.counts
    end
  end
  for index, rest in ipairs(set.rests) do
    refusal.rests = also(refusal, rest_left(rest), REST, index) or refusal.rests
  end
  ask_purses(set, refusal)
  if refusal.wait > 0 then
    refusal.unknown = {}
  end
  return refusal
end

local function take(set)
  local till = string.format('%.0f', now + lease)
  local lease_ms = math.ceil(lease / 1000) + MARGIN_MS
  for _, rate in ipairs(set.rates) do
    rate.level = rate.level + rate.asked * rate.unit
    write_rate(rate)
  end
  for _, slots in ipairs(set.slots) do
    redis.call('ZADD', slots.key, till, id)
    if redis.call('PTTL', slots.key) < lease_ms then
      redis.call('PEXPIRE', slots.key, string.format('%.0f', lease_ms))
    end
  end
  for _, purse in ipairs(set.purses) do
    if price > 0 and redis.call('ZADD', purse.held_key, till, id .. ':' .. ARGV[4]) == 1 then
      redis.call('HINCRBY', purse.key, 'held', ARGV[4])
    end
    keep_purse(purse)
  end
end

-- Count a refusal; begin to rest when it was one too many.
local function refuse(rest)
  if rest.rest <= 0 then
    return 0
  end
  local count = redis.call('RPUSH', rest.refused_key, string.format('%.0f', now))
  while count > rest.after do
    redis.call('LPOP', rest.refused_key)
    count = count - 1
  end
  redis.call('PEXPIRE', rest.refused_key, string.format('%.0f', math.ceil(rest.within / 1000) + MARGIN_MS))
  if count < rest.after or now - redis.call('LINDEX', rest.refused_key, 0) > rest.within then
    return 0
  end
  redis.call('DEL', rest.refused_key)
  write_rest(rest, rest.rest)
  return rest.rest
end

local function answer(verdict, at, refusal, first)
  local levels = {}
  for index, rate in ipairs(first.rates) do
    levels[index] = rate.level
  end
  return {now, verdict, at, refusal.kind, refusal.index, refusal.wait, levels, refusal.unknown}
end

-- The first choice that lets the call pass, else one whose purses are unknown, else the one that will do so first.
local function choose()
  local soonest, soonest_at, unknown, unknown_at
  for at = 1, sets - 1 do
    local set = read_set()
    local refusal = ask(set)
    if #refusal.unknown > 0 then
      unknown, unknown_at = unknown or refusal, unknown_at or at
    elseif refusal.wait == 0 then
      return refusal, at, set
    elseif not soonest or refusal.wait < soonest.wait then
      soonest, soonest_at = refusal, at
    end
  end
  return unknown or soonest, unknown_at or soonest_at
end

local first = read_set()
local refusal = ask(first)
if refusal.wait > 0 then
  if refusal.counts and not refusal.rests then
    for index, rest in ipairs(first.rests) do
      also(refusal, refuse(rest), REST, index)
    end
  end
  return answer(0, 0, refusal, first)
end
if #refusal.unknown > 0 then
  return answer(-1, 0, refusal, first)
end
local chosen, chosen_at, choice = refusal, 1, nil
if sets > 1 then
  chosen, chosen_at, choice = choose()
  if #chosen.unknown > 0 then
    return answer(-1, chosen_at, chosen, first)
  end
  if chosen.wait > 0 then
    return answer(0, chosen_at, chosen, first)
  end
  take(choice)
end
take(first)
return answer(1, chosen_at - 1, chosen, first)
