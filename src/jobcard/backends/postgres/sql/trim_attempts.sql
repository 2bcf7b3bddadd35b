-- Keeps only the newest tries of some jobs.
-- Runs in the transaction that added some; whoever adds to a job has its row locked.
delete from {prefix}attempts as try
 using (
    select job.n, (
        select newer.place from {prefix}attempts as newer
         where newer.n = job.n order by newer.place desc offset %(keep)s limit 1
    ) as last
      from unnest(%(refs)s) as job (n)
 ) as old
 where try.n = old.n and try.place <= old.last
