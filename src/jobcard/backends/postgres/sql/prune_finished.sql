-- Deletes jobs that ended in one state before an instant, queue by queue along the index; how many.
-- Safe at once with others: a job somebody else is deleting is passed over.
with recursive moment as (select {now} as now),
line (queue) as (
    (select queue from {prefix}jobs where state = %(state)s and finished_at is not null order by queue limit 1)
    union all
    select (select queue from {prefix}jobs
             where state = %(state)s and finished_at is not null and queue > line.queue order by queue limit 1)
      from line where line.queue is not null
),
doomed as (
    select job.n
      from line cross join moment cross join lateral (
          select n from {prefix}jobs as ended
           where ended.state = %(state)s and ended.finished_at is not null and ended.queue = line.queue
             and ended.finished_at < coalesce(%(before)s, moment.now - %(age)s)
             and (%(before)s::bigint is not null or ended.keep is null)
           limit %(limit)s
             for update skip locked
      ) as job
     limit %(limit)s
)
{DELETE_DOOMED}
