-- Takes the once keys of the jobs that were stored; part of the statements that store jobs.
-- Safe at once with others: whoever takes these keys has their locks, so one that is there is over.
, taken as (
    insert into {prefix}once (key, job_id, until)
    select once_key, id, once_until from new_jobs
     where once_key is not null and id = any(array(select id from stored))
     order by once_key
        on conflict (key) do update set job_id = excluded.job_id, until = excluded.until
)
