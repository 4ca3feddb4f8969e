-- Stores a response if nothing has happened to its tags since the marks were taken, ends the lease, wakes who waits.
--
-- KEYS[1]     the response of the key, or, where responses vary, their index
-- KEYS[2]     the lease
-- KEYS[3...]  the generations of the tags, then the response itself where it varies
-- ARGV[1]     how many tags there are
-- ARGV[2]     the marks
-- ARGV[3]     the response, as cache_find has it
-- ARGV[4]     for how many milliseconds it is kept; ARGV[5] the same for the generations, longer
-- ARGV[6]     the names of fields that it varies on, with commas between them; empty: it does not vary
-- ARGV[7]     which variant it is: what follows KEYS[1] and a colon in the name of its key
-- ARGV[8]     the channel on which to wake; ARGV[9] what to say there
-- Answer: 1 when it was stored, 0 when the generations are others by now.

local MARK, GENERATION, MOST_VARIANTS, MOST_SETS = 39, 52, 64, 8
local count = tonumber(ARGV[1])

local function finish()
  local holder = redis.pcall('GET', KEYS[2])
  redis.call('DEL', KEYS[2])
  if type(holder) == 'string' and string.sub(holder, -1) == 'w' then
    redis.call('PUBLISH', ARGV[8], ARGV[9])
  end
end

-- The lines of the index, oldest first.
local function indexed()
  local lines = {}
  if redis.pcall('GETRANGE', KEYS[1], 0, 0) == 'I' then
    for line in string.gmatch(redis.call('GET', KEYS[1]), '\n([^\n]+)') do
      lines[#lines + 1] = line
    end
  end
  return lines
end

local function forget(line)
  redis.call('UNLINK', KEYS[1] .. ':' .. string.match(line, '[^\t]*$'))
end

-- How many lines must go so that few enough sets of names are left: each costs every look-up.
local function surplus(lines)
  local sets, known = 0, {}
  for i = #lines, 1, -1 do
    local names = string.match(lines[i], '^[^\t]*')
    if not known[names] then
      known[names], sets = true, sets + 1
    end
    if sets > MOST_SETS or #lines - i >= MOST_VARIANTS then
      return i
    end
  end
  return 0
end

local generations = redis.call('MGET', unpack(KEYS, 3, 2 + count))
for i = 1, count do
  local generation = generations[i]
  if not generation or #generation ~= GENERATION
    or string.sub(generation, 1, MARK) ~= string.sub(ARGV[2], MARK * (i - 1) + 1, MARK * i) then
    finish()
    return 0
  end
end

-- First what fails when the memory is full: after any other write it would not.
local varies = ARGV[6] ~= ''
local lines = indexed()
local stored = redis.pcall('SET', varies and KEYS[3 + count] or KEYS[1], ARGV[3], 'PX', ARGV[4])
if stored.err then
  finish()
  return stored
end

if varies then
  local line = ARGV[6] .. '\t' .. ARGV[7]
  local kept = {}
  for _, each in ipairs(lines) do
    if each ~= line then
      kept[#kept + 1] = each
    end
  end
  kept[#kept + 1] = line
  local first = surplus(kept) + 1
  for i = 1, first - 1 do
    forget(kept[i])
  end
  local life = math.max(#lines > 0 and redis.call('PTTL', KEYS[1]) or 0, tonumber(ARGV[4]))
  redis.call('SET', KEYS[1], 'I\n' .. table.concat(kept, '\n', first), 'PX', string.format('%.0f', life))
else
  for _, line in ipairs(lines) do -- it does not vary any more
    forget(line)
  end
end

for i = 1, count do
  if redis.call('PTTL', KEYS[2 + i]) < tonumber(ARGV[5]) then
    redis.call('PEXPIRE', KEYS[2 + i], ARGV[5])
  end
end
finish()
return 1
