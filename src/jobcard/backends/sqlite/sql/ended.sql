-- Those of some jobs that have ended, for whoever waits for them.
-- Only reads. The + keeps it with the index of ids, however many are asked for: that of ended jobs has all that ever did.
select id, state, result, reason from {prefix}jobs where id in ({marks}) and +finished_at is not null
   and +state in ('completed', 'failed', 'canceled')
