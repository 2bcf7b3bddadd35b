-- Writes a small record, if its version is the one expected.
-- Safe at once with others: no other command runs in between.
--
-- ARGV[1]  [now, kind, key, value, version expected (false: any, 0: none), whether it is a setting]
-- returns  its new version, false when another was found

local refused = begin()
if refused then return refused end
local field = input[2] .. NUL .. input[3]
local text = redis.call('HGET', K_records, field)
local record = text and cmsgpack.unpack(text) or {}
local version = record[2] or 0
if input[5] and input[5] ~= version then return false end
record[1], record[2], record[3] = input[4], version + 1, now
redis.call('HSET', K_records, field, cmsgpack.pack(record))
if input[6] then
  raise_settings()
  ring()
end
return version + 1
