-- Makes everything stored gone when it was stored on another server, or before this one was started: it may be as old as
-- a dump, or what a replica knew, and purges since then are lost.
--
-- KEYS[1]  the server that it was stored on
-- KEYS[2]  the generation of the tag of everything
-- ARGV[1]  for how many milliseconds to remember the server
-- Answer: 1 when it is another server, 0 when it is the same, or does not say which it is.

local info = redis.pcall('INFO', 'server')
local server = type(info) == 'string' and string.match(info, 'run_id:(%x+)')
if not server then
  return 0
end
local is_other = redis.pcall('GET', KEYS[1]) ~= server
if is_other then
  redis.call('DEL', KEYS[2])
end
redis.call('SET', KEYS[1], server, 'PX', ARGV[1])
return is_other and 1 or 0
