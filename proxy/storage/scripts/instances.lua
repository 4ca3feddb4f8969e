-- Registers an instance and counts those that have registered of late.
--
-- KEYS[1]  a sorted set: the instances by the time of their last call, in milliseconds of this server's clock
-- ARGV[1]  the instance
-- ARGV[2]  for how many milliseconds a call counts; 0: the instance leaves
-- Answer: how many instances there are.

if ARGV[2] == '0' then
  redis.call('ZREM', KEYS[1], ARGV[1])
  return redis.call('ZCARD', KEYS[1])
end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

-- The clock has gone back: those who called at a time that is yet to come count as if they called now.
for _, instance in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], string.format('(%.0f', now), '+inf')) do
  redis.call('ZADD', KEYS[1], string.format('%.0f', now), instance)
end

redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.0f', now - tonumber(ARGV[2])))
redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return redis.call('ZCARD', KEYS[1])
