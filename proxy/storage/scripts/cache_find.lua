-- Looks up what is stored for a key, judges it by the generations of its tags, and takes the lease for whoever finds
-- nothing fresh.
--
-- KEYS[1]     the response of the key, or, where responses vary, their index
-- KEYS[2]     the lease
-- KEYS[3...]  the generations of the tags, then the responses that vary, one for each set of names in ARGV[8...]
-- ARGV[1]     how many tags there are
-- ARGV[2]     random bytes, which make generations that are missing
-- ARGV[3]     for how many milliseconds such a generation lives, unless something is stored with it
-- ARGV[4]     bytes of the longest value that is read
-- ARGV[5]     what to write into the lease, empty to leave it alone; ARGV[6] for how many milliseconds
-- ARGV[7]     now, in milliseconds of the caller's clock
-- ARGV[8...]  sets of names of fields, those of one set with commas between them
-- Answer: 0 to 2: found, and how valid it is; -1: nothing; -2: the index has sets that the caller does not know
--         where it was found: 0 for KEYS[1], else the number of the set
--         milliseconds since it was softened
--         what was found, or the index
--         the marks: what a response must be stored with to be valid now; empty when it cannot be stored
--         lease: 0 left alone, 1 taken, 2 held by another, 3 it cannot be written
--         how many values were of no use, and have been deleted
--
-- A generation is three tokens of 13 bytes, for SOFT, INVALID and GONE, and when it was last softened, in 13 digits; marks
-- are the tokens of all tags. A response: `E`, its Date, the end of its freshness (13 digits each), the length of its
-- marks (5 digits), its marks, what the caller made of it. An index: `I`, then lines of names, tab, variant.
--
-- Where no writes are taken, what is there is still found: whatever may fail is called by pcall.

local TOKEN, MARK, GENERATION, HEAD, LONGEST_INDEX = 13, 39, 52, 32, 65536
local count, longest, now = tonumber(ARGV[1]), tonumber(ARGV[4]), tonumber(ARGV[7])
local dropped = 0

local function drop(key)
  redis.pcall('UNLINK', key)
  dropped = dropped + 1
end

local function read(key, most)
  local length = redis.pcall('STRLEN', key)
  if type(length) ~= 'number' or length > most then -- something else, or more than we store
    drop(key)
  elseif length > 0 then
    return redis.call('GET', key)
  end
end

-- The index, where there is one: every response that may be the most recent must be known.

local base = read(KEYS[1], longest)
local has_index = base and string.sub(base, 1, 1) == 'I'
if has_index and #base > LONGEST_INDEX then
  drop(KEYS[1])
  base, has_index = nil, false
elseif has_index then
  local known = {}
  for i = 8, #ARGV do
    known[ARGV[i]] = true
  end
  for names in string.gmatch(base, '\n([^\t\n]*)') do
    if not known[names] then
      return {-2, 0, 0, base, '', 0, dropped}
    end
  end
end

-- The generations; one that is missing was never like the one that comes now.

local generations = redis.call('MGET', unpack(KEYS, 3, 2 + count))
local tokens, can_store = {}, true
for i = 1, count do
  local generation = generations[i]
  if not generation or #generation ~= GENERATION then
    local made = string.sub(redis.sha1hex(ARGV[2] .. KEYS[2 + i]), 1, MARK)
    generation = made .. string.rep('0', TOKEN)
    generations[i] = generation
    if redis.pcall('SET', KEYS[2 + i], generation, 'PX', ARGV[3]).err then
      can_store = false
    end
  end
  tokens[i] = string.sub(generation, 1, MARK)
end
local marks = table.concat(tokens)

-- The validity of a response with these marks, and since when it is soft.
local function judge(earlier)
  if earlier == marks then
    return 0, 0
  elseif #earlier ~= #marks then -- other tags than it had
    return 3, 0
  end
  local worst, softened = 0, 0
  for i = 1, count do
    local at = MARK * (i - 1)
    local function differs(token)
      local first = at + TOKEN * token + 1
      return string.sub(earlier, first, first + TOKEN - 1) ~= string.sub(marks, first, first + TOKEN - 1)
    end
    if differs(2) then
      return 3, 0
    elseif differs(1) then
      worst = 2
    elseif worst < 2 and differs(0) then
      local time = tonumber(string.sub(generations[i], MARK + 1)) or 0
      softened = worst == 1 and math.min(softened, time) or time
      worst = 1
    end
  end
  return worst, softened
end

local found, place, validity, softened, date, is_fresh = '', 0, -1, 0, -1, false

local function consider(value, number, key)
  local its_date, ends = tonumber(string.sub(value, 2, 14)), tonumber(string.sub(value, 15, 27))
  local length = tonumber(string.sub(value, 28, HEAD))
  if string.sub(value, 1, 1) ~= 'E' or not (its_date and ends and length) then
    drop(key)
    return
  end
  local its_validity, its_softened = judge(string.sub(value, HEAD + 1, HEAD + length))
  if its_validity == 3 then
    redis.pcall('UNLINK', key)
  elseif its_date > date then
    found, place, validity, softened, date = value, number, its_validity, its_softened, its_date
    is_fresh = validity == 0 and ends > now
  end
end

if base and not has_index then
  consider(base, 0, KEYS[1])
elseif has_index then
  for i = 8, #ARGV do
    local key = KEYS[count + i - 5]
    local value = read(key, longest)
    if value then
      consider(value, i - 7, key)
    end
  end
end

local ago = 0
if validity == 1 then
  local time = redis.call('TIME')
  ago = math.max(tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) - softened, 0)
end

local lease = 0
if ARGV[5] ~= '' and not is_fresh then
  local holder = redis.pcall('GET', KEYS[2])
  if type(holder) ~= 'string' or redis.call('PTTL', KEYS[2]) < 0 then
    lease = redis.pcall('SET', KEYS[2], ARGV[5], 'PX', ARGV[6]).err and 3 or 1
  else
    lease = 2
    if string.sub(holder, -1) ~= 'w' then -- somebody waits: its end is worth a message
      redis.pcall('SET', KEYS[2], holder .. 'w', 'KEEPTTL')
    end
  end
end

return {validity, place, ago, found, can_store and marks or '', lease, dropped}
