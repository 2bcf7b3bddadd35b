-- How far the limits of some queues are used: jobs at work, counted starts by slot; and the time.
-- Only reads: all claims once, which are few. Who may claim from a limited queue has its lock.
with moment as (select {now} as now),
at_work as materialized (
    select queue, count(*) as jobs from {prefix}jobs
     where claimed_by is not null and queue = any(%(queues)s)
     group by queue
)
select given.queue,
       coalesce((select jobs from at_work where at_work.queue = given.queue), 0),
       array(select slot from {prefix}starts where name = given.name and until > moment.now order by slot),
       array(select used from {prefix}starts where name = given.name and until > moment.now order by slot),
       moment.now
  from unnest(%(queues)s, %(names)s) as given (queue, name) cross join moment
