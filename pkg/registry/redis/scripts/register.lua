-- ARGV: field, incarnation, record, lease in ms, claim (1 or 0).
-- Reply: {status, version, incarnation that stands there}.
local wrong = wrong_type()
if wrong then
  return redis.error_reply(wrong)
end
local field, incarnation, record = ARGV[1], ARGV[2], ARGV[3]
local lease, claim = tonumber(ARGV[4]), ARGV[5] == '1'

local standing = redis.call('HGET', INSTANCES, field)
if not claim then
  local holder = incarnation_of(standing)
  if holder and holder ~= incarnation then
    return {'superseded', text(current_version()), holder}
  end
end

local version
if standing == record then
  version = current_version()
else
  version = change(field, record, nil)
  redis.call('HSET', INSTANCES, field, record)
end
redis.call('ZADD', LEASES, text(now + lease), field)
return {'registered', text(version), incarnation}
