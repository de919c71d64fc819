-- ARGV: largest record to send, in bytes.
-- Reply: {version, {field, record, ...}, number of records left out, {names of some of them}}.
local wrong = wrong_type()
if wrong then
  return redis.error_reply(wrong)
end
-- A write that changes nothing: a primary that was demoted refuses it, so an old view is never taken for the present one. Other
-- refusals (out of memory, a failed save) are no reason not to read.
local tried = redis.pcall('HDEL', INSTANCES, '')
if type(tried) == 'table' and tried.err and string.find(tried.err, 'READONLY', 1, true) then
  return redis.error_reply('READONLY this is a replica, flyproxy reads from the primary only')
end

local limit = tonumber(ARGV[1])
local all = redis.call('HGETALL', INSTANCES)
local kept, left_out, names = {}, 0, {}
for i = 1, #all, 2 do
  if #all[i] <= limit and #all[i + 1] <= limit then
    kept[#kept + 1] = all[i]
    kept[#kept + 1] = all[i + 1]
  else
    left_out = left_out + 1
    if #names < 32 then
      names[#names + 1] = string.sub(all[i], 1, 256)
    end
  end
end
return {text(current_version()), kept, left_out, names}
