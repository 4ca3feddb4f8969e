-- Who holds a lease; its end is worth a message from now on.
--
-- KEYS[1]  the lease
-- Answer: what the holder has written into it, empty when nobody holds it.
--
-- Where no writes are taken, who holds it is still told.

local holder = redis.pcall('GET', KEYS[1])
if type(holder) ~= 'string' then
  return ''
elseif string.sub(holder, -1) == 'w' then
  return string.sub(holder, 1, -2)
end
redis.pcall('SET', KEYS[1], holder .. 'w', 'KEEPTTL')
return holder
