-- ARGV: field, incarnation. Reply: {status, version, incarnation that stands there}.
local wrong = wrong_type()
if wrong then
  return redis.error_reply(wrong)
end
local field, incarnation = ARGV[1], ARGV[2]

local standing = redis.call('HGET', INSTANCES, field)
if not standing then
  return {'absent', text(current_version()), ''}
end
local holder = holder_of(standing)
if holder and holder ~= incarnation then
  return {'superseded', text(current_version()), holder}
end
local version = change(nil, nil, {field})
redis.call('HDEL', INSTANCES, field)
redis.call('ZREM', LEASES, field)
redis.call('HDEL', LOAD, field)
return {'removed', text(version), incarnation}
