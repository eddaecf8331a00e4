-- Tell what was spent of the purses of one set (ARGV ends with it), unless that is known.
for _, purse in ipairs(read_set().purses) do
  redis.call('HSETNX', purse.key, 'spent', ARGV[#ARGV])
  keep_purse(purse)
end
return 1
