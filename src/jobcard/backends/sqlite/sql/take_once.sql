-- Takes a once key for a job until an instant; no row when it is taken and its time is not over, by this job too.
-- Safe at once with others: the key is unique, and stands under the write lock. ?1 key, ?2 job, ?3 until, ?4 now.
insert into {prefix}once (key, job_id, until) values (?1, ?2, ?3)
on conflict (key) do update set job_id = excluded.job_id, until = excluded.until
 where until <= ?4
