-- How far the limits of some limit keys are used: jobs at work, counted starts by slot, jobs that their rate has put
-- off; and the time.
-- Only reads. Who may claim a job with such a key has its lock. Nobody is put off where no start counts.
-- Only a waiting job has a hold; that alone would lead along the index of all delayed jobs.
with moment as (select {now} as now)
select given.key,
       (select count(*) from {prefix}jobs
         where limit_key >= '' and limit_key = given.key and state in ('claimed', 'running') and hold is null),
       array(select slot from {prefix}starts where name = given.name and until > moment.now order by slot),
       array(select used from {prefix}starts where name = given.name and until > moment.now order by slot),
       case when exists (select from {prefix}starts where name = given.name and until > moment.now) then (
           select count(*) from (
               select available_at, order_at, order_offset from {prefix}jobs
                where limit_key >= '' and limit_key = given.key and state in ('waiting', 'claimed', 'running')
                  and hold = 'delay'
                limit {most_kept_out}
           ) as late
            where available_at > moment.now and available_at + order_offset > order_at
       ) else 0 end,
       moment.now
  from unnest(%(keys)s, %(names)s) as given (key, name) cross join moment
