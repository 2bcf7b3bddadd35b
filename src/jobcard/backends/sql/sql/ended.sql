-- Those of some jobs that have ended, for whoever waits for them.
-- Only reads.
select id, state, result, reason from {prefix}jobs where id in (%(ids)s) and ended is not null
