-- ARGV: lease in ms, number of owned, then field, incarnation, version of its claim, load for each, then the fields whose loads
-- are asked for.
-- Reply: {version, now in ms, renewed (1 or 0), pruned, {a standing for each owned}, {a load for each asked, '' for none}}.
local wrong = wrong_type()
if wrong then
  return redis.error_reply(wrong)
end
local lease, owned = tonumber(ARGV[1]), tonumber(ARGV[2])
local expiry = text(now + lease)

-- The script's own instances come first: a sidecar whose lease ran out while it was paused must not prune itself.
local fields, standings = {}, {}
for i = 1, owned do
  fields[i] = ARGV[4 * i - 1]
end
if owned > 0 then
  local records = redis.call('HMGET', INSTANCES, unpack(fields))
  local leases, loads = {}, {}
  for i = 1, owned do
    local holder, since = holder_of(records[i])
    if not holder then
      standings[i] = 'unknown'
    elseif holder ~= ARGV[4 * i] then
      standings[i] = gives_way(tonumber(ARGV[4 * i + 1]), since) and 'superseded' or 'unknown'
    else
      standings[i] = 'current'
      leases[#leases + 1] = expiry
      leases[#leases + 1] = fields[i]
      loads[#loads + 1] = fields[i]
      loads[#loads + 1] = text(now) .. '|' .. ARGV[4 * i + 2]
    end
  end
  if #leases > 0 then
    redis.call('ZADD', LEASES, unpack(leases))
    redis.call('HSET', LOAD, unpack(loads))
  end
end

-- Gives instances a lease: with NX those that the sorted set does not know, with GT all, but none a shorter one than it has (who
-- beats now may have a shorter lease than others), with XX then NX all. Forgets leases and loads without an instance. It walks over
-- everything, so it runs only where something was lost.
local function mend(...)
  local modes = {...}
  local known = redis.call('HKEYS', INSTANCES)
  for first = 1, #known, 500 do
    local batch = {}
    for i = first, math.min(first + 499, #known) do
      batch[#batch + 1] = expiry
      batch[#batch + 1] = known[i]
    end
    for _, which in ipairs(modes) do
      redis.call('ZADD', LEASES, which, unpack(batch))
    end
  end
  local function forget(names, command, key)
    for i = 1, #names do
      if redis.call('HEXISTS', INSTANCES, names[i]) == 0 then
        redis.call(command, key, names[i])
      end
    end
  end
  if redis.call('ZCARD', LEASES) > #known then
    forget(redis.call('ZRANGE', LEASES, 0, -1), 'ZREM', LEASES)
  end
  if redis.call('HLEN', LOAD) > #known then
    forget(redis.call('HKEYS', LOAD), 'HDEL', LOAD)
  end
  return #known
end

-- One dead instance looks to its lease like a fleet that could not reach Redis: Redis was stopped, a failover took long, its clock
-- stepped. The time of the last beat of anybody tells them apart. A fleet beats several times in half a lease, so if nobody did,
-- or if the last beat lies in the future, nobody's lease says anything and all begin anew.
local last = tonumber(redis.call('GET', BEAT) or '')
redis.call('SET', BEAT, text(now))
local renewed, pruned = 0, 0
if last and now < last then
  -- Leases from before the step may end far in the future.
  renewed = mend('XX', 'NX') > 0 and 1 or 0
elseif not last or now - last > lease / 2 then
  renewed = mend('GT') > 0 and 1 or 0
else
  local instances = redis.call('HLEN', INSTANCES)
  if instances ~= redis.call('ZCARD', LEASES) or instances < redis.call('HLEN', LOAD) then
    mend('NX')
  end
  -- A bounded number, so that many that end at once cost no beat much; the next beats take the rest.
  local expired = redis.call('ZRANGEBYSCORE', LEASES, '-inf', text(now), 'LIMIT', 0, 100)
  if #expired > 0 then
    change(nil, nil, expired)
    pruned = redis.call('HDEL', INSTANCES, unpack(expired))
    redis.call('ZREM', LEASES, unpack(expired))
    redis.call('HDEL', LOAD, unpack(expired))
  end
end

local asked = {}
if #ARGV > 2 + 4 * owned then
  local wanted = {}
  for i = 3 + 4 * owned, #ARGV do
    wanted[#wanted + 1] = ARGV[i]
  end
  local found = redis.call('HMGET', LOAD, unpack(wanted))
  for i = 1, #wanted do
    asked[i] = found[i] or ''
  end
end
return {text(current_version()), text(now), renewed, pruned, standings, asked}
