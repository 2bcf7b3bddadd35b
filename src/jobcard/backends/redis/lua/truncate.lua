-- Deletes every job and record; the schema and the store's identity stay.
-- ARGV[1]  [now]

for place = 1, #KEYS do
  if KEYS[place] ~= K_meta then redis.call('UNLINK', KEYS[place]) end
end
raise_settings()
ring()
return 1
