-- Writes once keys as they are, in place of those that are there.
-- Safe at once with others: whoever takes these keys has their locks.
insert into {prefix}once (key, job_id, until)
select key, job_id, until from unnest(%(keys)s, %(ids)s, %(untils)s) as given (key, job_id, until)
 order by key
    on conflict (key) do update set job_id = excluded.job_id, until = excluded.until
