-- Writes a small record, if its version is the one expected.
-- Safe at once with others: no other command runs in between.
--
-- ARGV[1]  [now, kind, key, value, version expected (false: any, 0: none), whether it is a setting]
-- returns  its new version, false when another was found

local refused = begin()
if refused then return refused end
local field = input[2] .. NUL .. input[3]
local text = redis.call('HGET', K_records, field)
local version = text and cmsgpack.unpack(text)[2] or 0
if input[5] and input[5] ~= version then return false end
redis.call('HSET', K_records, field, cmsgpack.pack({ input[4], version + 1, now }))
if input[6] then
  raise_settings()
  ring()
end
return version + 1
