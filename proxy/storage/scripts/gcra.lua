-- All rate limits of a route at once: every one must let the request pass, and only then do all of them count it.
--
-- KEYS  the theoretical arrival time of the client, one key for each limit, in microseconds of this server's clock
-- ARGV  for each limit: increment, tolerance, and how far ahead of now the caller knows the arrival time to be at least
--       (whole microseconds)
-- Answer: 1 or 0 for allowed or refused, then for each limit how far ahead of now its arrival time is afterwards.
--
-- Only durations go in and out, so nobody's clock has to agree with this one. Every key expires when it is over.

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])

local function remember(key, ahead)
  redis.call('SET', key, string.format('%.0f', now + ahead), 'PX', string.format('%.0f', math.ceil(ahead / 1000)))
end

local answer = {1}
for i = 1, #KEYS do
  local increment, tolerance, floor = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i])
  local ahead = (tonumber(redis.call('GET', KEYS[i])) or 0) - now
  if not (ahead >= floor) then -- what is no number at all, too
    ahead = floor
  end
  if ahead > tolerance then
    -- The limit has become smaller, or this server's clock went back: nobody waits longer than the limit asks for.
    ahead = tolerance
    remember(KEYS[i], ahead)
  end
  if ahead + increment > tolerance then
    answer[1] = 0
  end
  answer[i + 1] = ahead
end

if answer[1] == 1 then
  for i = 1, #KEYS do
    answer[i + 1] = answer[i + 1] + tonumber(ARGV[3 * i - 2])
    remember(KEYS[i], answer[i + 1])
  end
end
return answer
