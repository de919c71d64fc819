-- ARGV: field, incarnation, record, lease in ms, claim (1 or 0), version of its claim (0 for none).
-- Reply: {status, version, incarnation that stands there}.
local wrong = wrong_type()
if wrong then
  return redis.error_reply(wrong)
end
local field, incarnation, record = ARGV[1], ARGV[2], ARGV[3]
local lease, claim, claimed_at = tonumber(ARGV[4]), ARGV[5] == '1', tonumber(ARGV[6])

local standing = redis.call('HGET', INSTANCES, field)
if not claim then
  local holder, since = holder_of(standing)
  if holder and holder ~= incarnation and gives_way(claimed_at, since) then
    return {'superseded', text(current_version()), holder}
  end
end

local version
if standing == record then
  -- Also where a claim is repeated because its answer was lost: nobody has claimed since, so this version ranks it as well.
  version = current_version()
else
  version = change(field, record, nil)
  redis.call('HSET', INSTANCES, field, record)
end
redis.call('ZADD', LEASES, text(now + lease), field)
return {'registered', text(version), incarnation}
