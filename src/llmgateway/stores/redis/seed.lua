-- Tell what was spent of the purses of one set (ARGV ends with it), unless that is known.
for _, purse in ipairs(read_set().purses) do
  if redis.call('HSETNX', purse.key, 'spent', ARGV[#ARGV]) == 1 then
    -- When the purse alone was evicted, calls in flight still hold what stands beside it, and will give it back.
    local held = 0
    for _, member in ipairs(redis.call('ZRANGE', purse.held_key, 0, -1)) do
      held = held + string.match(member, '%d+$')
    end
    redis.call('HSET', purse.key, 'held', string.format('%.0f', held))
  end
  keep_purse(purse)
end
return 1
