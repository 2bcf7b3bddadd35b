-- Puts jobs that were claimed a moment ago back: their keys are at their limit. They have spent nothing.
-- Safe at once with others: in the transaction of their claim, whose rows nobody else has seen.
update {prefix}jobs as job
   set state = 'waiting', hold = given.hold, available_at = coalesce(given.until, job.available_at),
       attempt = job.attempt - 1, claimed_by = null, claimed_at = null, lease_until = null
  from unnest(%(refs)s, %(holds)s, %(untils)s) as given (n, hold, until)
 where job.n = given.n
