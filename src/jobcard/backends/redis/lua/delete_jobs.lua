-- Deletes these jobs if they have ended.
-- ARGV[1]  [now, ids]; returns how many

return closed() or forget(input[2])
