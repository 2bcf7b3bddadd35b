-- Takes the lock of a job's limit key until the end of the transaction.
-- Safe at once with others: whoever comes second waits. Behind what changes the job: who has a key waits for no row.
select pg_advisory_xact_lock(hashtextextended(%(prefix)s || limit_key, '{prefix}jobs'::regclass::oid::bigint))
  from {prefix}jobs
 where id = %(id)s and limit_key is not null
