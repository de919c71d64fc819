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

-- A record is measured before it is read: HGETALL would copy one of 10 MB, and hold up Redis for 30 ms, at each watcher's snapshot.
-- That makes a snapshot of usual records a fifth slower.
local limit = tonumber(ARGV[1])
local fields = redis.call('HKEYS', INSTANCES)
local fitting, left_out, names = {}, 0, {}
for i = 1, #fields do
  if #fields[i] <= limit and redis.call('HSTRLEN', INSTANCES, fields[i]) <= limit then
    fitting[#fitting + 1] = fields[i]
  else
    left_out = left_out + 1
    if #names < 32 then
      names[#names + 1] = string.sub(fields[i], 1, 256)
    end
  end
end
local kept = {}
for first = 1, #fitting, 500 do
  local last = math.min(first + 499, #fitting)
  local records = redis.call('HMGET', INSTANCES, unpack(fitting, first, last))
  for i = first, last do
    kept[#kept + 1] = fitting[i]
    kept[#kept + 1] = records[i - first + 1]
  end
end
return {text(current_version()), kept, left_out, names}
