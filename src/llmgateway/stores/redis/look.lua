-- How rules stand, taking nothing: {levels, calls in flight, rests, money used or -1}.
local levels, flights, rests, used = {}, {}, {}, {}
local set = read_set()
for index, rate in ipairs(set.rates) do
  read_rate(rate)
  levels[index] = rate.level
end
for index, slots in ipairs(set.slots) do
  flights[index] = count_slots(slots)
end
for index, rest in ipairs(set.rests) do
  rests[index] = rest_left(rest)
end
for index, purse in ipairs(set.purses) do
  used[index] = purse_used(purse) or UNKNOWN
end
return {levels, flights, rests, used}
