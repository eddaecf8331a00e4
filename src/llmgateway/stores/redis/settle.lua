-- Say what a call really used. ARGV ends with the tokens, -1 when they stay as they were asked for, and the money;
-- returns for each purse what is used of it now.
local real_tokens, real_price = tonumber(ARGV[#ARGV - 1]), ARGV[#ARGV]
local told = {}

local function settle_rate(rate)
  local more = rate.of_tokens and real_tokens >= 0 and real_tokens - rate.asked or 0
  if more ~= 0 then
    read_rate(rate)
    rate.level = math.max(rate.level + more * rate.unit, 0)
    write_rate(rate)
  end
end

local function settle_purse(purse)
  local used = purse_used(purse)
  if not used then
    return UNKNOWN
  end
  if price > 0 and redis.call('ZREM', purse.held_key, id .. ':' .. ARGV[4]) == 1 then
    redis.call('HINCRBY', purse.key, 'held', '-' .. ARGV[4])
    used = used - price
  end
  redis.call('HINCRBY', purse.key, 'spent', real_price)
  keep_purse(purse)
  return used + tonumber(real_price)
end

for _ = 1, sets do
  local set = read_set()
  for _, rate in ipairs(set.rates) do
    settle_rate(rate)
  end
  for _, slots in ipairs(set.slots) do
    redis.call('ZREM', slots.key, id)
  end
  for _, purse in ipairs(set.purses) do
    told[#told + 1] = settle_purse(purse)
  end
end
return told
