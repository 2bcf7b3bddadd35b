-- All records of a kind, by key.
-- Only reads.
select key, value, version, updated_at from {prefix}records where kind = ?1 order by key
