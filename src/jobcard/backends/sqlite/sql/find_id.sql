-- What stands under an id, to tell a repeated enqueue from a taken id.
-- Only reads; the caller holds the write lock.
select name, init, args, kwargs from {prefix}jobs where id = ?1
