-- Those of some jobs that have ended, for whoever waits for them.
-- Only reads.
select id, state, result, reason from {prefix}jobs
 where id = any(%(ids)s) and state in ('completed', 'failed', 'canceled')
