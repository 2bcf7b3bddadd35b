-- Writes a once key as it is, in place of the one that is there. ?1 key, ?2 job, ?3 until.
-- Safe at once with others: the key is unique, and stands under the write lock.
insert into {prefix}once (key, job_id, until) values (?1, ?2, ?3)
on conflict (key) do update set job_id = excluded.job_id, until = excluded.until
