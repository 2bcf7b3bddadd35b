-- The store's identity; all other keys appear with their first use.
-- Safe from two processes at once: a script, and only where no schema is.
-- ARGV[2] a random identity

redis.call('HSET', K_meta, 'identity', ARGV[2], 'settings', 0)
