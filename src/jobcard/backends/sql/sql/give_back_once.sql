-- Frees the once keys of jobs that were not stored with them.
-- Safe at once with others: in the transaction that took them.
delete from {prefix}once
 where "key" in (%(keys)s) and ("key", job_id) in (%(proofs)s)
   and not exists (
     select 1 from {prefix}jobs as job where job.id = {prefix}once.job_id and job.once_key = {prefix}once."key"
   )
