-- Closes the store to everybody who writes, or opens it again. No writer is open while this runs: each of them is one
-- script, and looks at the seal first.
--
-- ARGV[1]  [now, word or false: open]
-- returns  nothing

if redis.call('HEXISTS', K_meta, 'schema') == 0 then return redis.error_reply('JOBCARDSCHEMA none') end
-- Taken off before it is put on: whoever may take nothing away, as a producer, can seal nothing. A full store may be
-- sealed, too.
redis.call('HDEL', K_meta, 'seal')
if input[2] then redis.call('HSET', K_meta, 'seal', input[2]) end
ring()
