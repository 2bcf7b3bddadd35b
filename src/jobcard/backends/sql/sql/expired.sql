-- Refs of jobs that ended in one state and whose own keep has run out, locked.
-- Safe at once with others: a job somebody else is deleting is passed over.
select n from {prefix}jobs{along by_expiry}
 where expires_at <= {now} and ended = %(state)s
 order by expires_at
 limit %(limit)s
   for update skip locked
