-- What stands under some ids, to tell a repeated enqueue from a taken id.
-- Only reads.
select id, name, init, args, kwargs from {prefix}jobs where id in (%(ids)s)
