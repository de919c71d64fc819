-- Stands before every script. All keys are in KEYS, the channel too, so that Redis Cluster can route the script and an ACL can
-- name what it touches; they share one hash tag and so one slot.
local INSTANCES = KEYS[1] -- hash: service/id -> record
local LEASES = KEYS[2]    -- sorted set: service/id -> expiry in ms
local LOAD = KEYS[3]      -- hash: service/id -> "<ms>|<load>"
local VERSION = KEYS[4]   -- string: version of the registry
local BEAT = KEYS[5]      -- string: when anybody last beat, in ms; see beat.lua
local CHANGES = KEYS[6]   -- channel

-- Records above this are never decoded here: a Lua script holds up every other client of Redis.
local MAX_DECODE = 1048576
-- Messages above this are sent without their content; whoever hears one reads a snapshot. Redis keeps a copy of a message for
-- each slow subscriber, so a large record must not be multiplied by a thousand watchers.
local MAX_MESSAGE = 16384

-- The only clock of the registry, so that the clocks of Machines need not agree.
local clock = redis.call('TIME')
local now_us = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local now = math.floor(now_us / 1000)

-- Lua would write 1.7e+15 where a number is turned into a string by itself.
local function text(number)
  return string.format('%.0f', number)
end

-- A script that fails half way is not rolled back, so this runs before the first write.
local function wrong_type()
  local wanted = {'hash', 'zset', 'hash', 'string', 'string'}
  for i = 1, #wanted do
    local found = redis.call('TYPE', KEYS[i]).ok
    if found ~= 'none' and found ~= wanted[i] then
      return 'WRONGKEYTYPE key ' .. KEYS[i] .. ' is a ' .. found .. ', flyproxy needs a ' .. wanted[i]
    end
  end
  return nil
end

local function current_version()
  local version = tonumber(redis.call('GET', VERSION) or '') or 0
  -- Doubles count exactly up to 2^53 only. Redis' time in microseconds stays below that until the year 2255.
  if version ~= version or version < 0 or version >= 9007199254740991 then
    return 0
  end
  return math.floor(version)
end

-- Incarnation in a record and when it claimed: nil where there is no record or none that can be read, and nil for the time in the
-- record that the claim itself wrote.
local function holder_of(record)
  if not record or #record > MAX_DECODE then
    return nil, nil
  end
  local fine, decoded = pcall(cjson.decode, record)
  if fine and type(decoded) == 'table' and type(decoded.incarnation) == 'string' and decoded.incarnation ~= '' then
    return decoded.incarnation, type(decoded.claimed_at) == 'number' and decoded.claimed_at or nil
  end
  return nil, nil
end

-- Tells whether somebody who claimed at the given time (0 for never) must leave the record to another incarnation that holds it. A
-- holder that claimed earlier was superseded once and came back when the data were lost: it gives way again. The times are versions
-- of the registry, so it is this clock that orders them, not those of the Machines.
local function gives_way(claimed_at, holder_claimed_at)
  return not holder_claimed_at or claimed_at <= holder_claimed_at
end

-- Gives the registry its next version and tells the watchers. The version never comes back to one that was used before: after a
-- failover that lost writes, or after FLUSHALL, the time takes it past all of them. Comes before the writes that it speaks of,
-- because PUBLISH is what an ACL is likeliest to refuse.
local function change(put_field, put_record, removed)
  local previous = current_version()
  local version = math.max(previous + 1, now_us)
  local head = '{"p":' .. text(previous) .. ',"v":' .. text(version)
  local body = ''
  if put_field then
    body = ',"put":{' .. cjson.encode(put_field) .. ':' .. put_record .. '}'
  end
  if removed then
    body = body .. ',"del":' .. cjson.encode(removed)
  end
  if #body > MAX_MESSAGE then
    body = ''
  end
  redis.call('PUBLISH', CHANGES, head .. body .. '}')
  redis.call('SET', VERSION, text(version))
  return version
end
