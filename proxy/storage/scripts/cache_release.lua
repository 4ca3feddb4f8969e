-- Ends a lease without a response, and wakes who waits for it.
--
-- KEYS[1]  the lease
-- ARGV[1]  what was written into it
-- ARGV[2]  the channel on which to wake; ARGV[3] what to say there
-- Answer: 1 when it was held, 0 when it is another's by now, or nobody's.

local holder = redis.pcall('GET', KEYS[1])
if type(holder) ~= 'string' or string.sub(holder, 1, #ARGV[1]) ~= ARGV[1] then
  return 0
end
redis.call('DEL', KEYS[1])
if string.sub(holder, -1) == 'w' then
  redis.call('PUBLISH', ARGV[2], ARGV[3])
end
return 1
