-- Deletes these jobs if they have ended.
-- ARGV[1]  [now, ids]; returns how many

return forget(input[2])
