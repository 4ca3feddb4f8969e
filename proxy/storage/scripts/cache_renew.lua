-- Lets a lease go on for whoever holds it.
--
-- KEYS[1]  the lease
-- ARGV[1]  what was written into it
-- ARGV[2]  for how many milliseconds from now
-- Answer: 1 when it was held, 0 when it is another's by now, or nobody's.

local holder = redis.pcall('GET', KEYS[1])
if type(holder) ~= 'string' or string.sub(holder, 1, #ARGV[1]) ~= ARGV[1] then
  return 0
end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
