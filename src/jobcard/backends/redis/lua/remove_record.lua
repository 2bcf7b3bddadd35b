-- Removes a small record.
-- ARGV[1]  [now, kind, key, whether it is a setting]; returns 1, or 0 when it was not there

local refused = closed()
if refused then return refused end
local gone = redis.call('HDEL', K_records, input[2] .. NUL .. input[3])
if gone == 1 and input[4] then
  raise_settings()
  ring()
end
return gone
