-- Reply: {now in ms, {field, load, ...}}. The clock is read in the same place as the table, which a pipeline cannot promise in a
-- cluster.
local wrong = wrong_type()
if wrong then
  return redis.error_reply(wrong)
end
return {text(now), redis.call('HGETALL', LOAD)}
