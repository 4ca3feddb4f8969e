-- Changes the generations of tags, and tells all instances.
--
-- KEYS     the generations of the tags
-- ARGV[1]  random bytes
-- ARGV[2]  for each tag its level, one digit: 1 SOFT, 2 INVALID, 3 GONE
-- ARGV[3]  the channel; ARGV[4] what to say there
-- Answer: how many generations there were.
--
-- A generation that is missing is like none that a response can have been stored with: so purging what nobody has stored
-- makes no key, and to delete a generation is to change it. That works where the memory is full, too.

local TOKEN, MARK, GENERATION = 13, 39, 52
local time = redis.call('TIME')
local now = string.format('%013.0f', tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))

-- Replaces the token of a level; false when that cannot be written.
local function replace(key, level)
  local token = string.sub(redis.sha1hex(ARGV[1] .. key), 1, TOKEN)
  if type(redis.pcall('SETRANGE', key, TOKEN * (level - 1), token)) ~= 'number' then
    return false
  end
  return level ~= 1 or type(redis.pcall('SETRANGE', key, MARK, now)) == 'number'
end

local changed = 0
for i, key in ipairs(KEYS) do
  local level = tonumber(string.sub(ARGV[2], i, i))
  local is_there = redis.pcall('STRLEN', key) == GENERATION
  if is_there then
    changed = changed + 1
  end
  if not (is_there and level < 3 and replace(key, level)) then
    redis.call('DEL', key)
  end
end
redis.call('PUBLISH', ARGV[3], ARGV[4])
return changed
