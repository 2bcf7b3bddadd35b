-- The version of settings, how long until the next delayed job is due, this owner's jobs that shall be canceled, and
-- those of some queues where a job with a limit key stands in line.
-- Only reads.
select (select settings from {prefix}meta),
       (select available_at from {prefix}jobs
         where state = 'waiting' and hold is not null and hold = 'delay'
         order by available_at limit 1) - {now},
       array(select n from {prefix}jobs
              where cancel_requested is not null and claimed_by is not distinct from %(owner)s
              order by n),
       array(select cancel_requested from {prefix}jobs
              where cancel_requested is not null and claimed_by is not distinct from %(owner)s
              order by n),
       array(select queue from unnest(%(queues)s) as wanted (queue)
              where exists (select from {prefix}jobs as keyed
                             where keyed.queue = wanted.queue and keyed.limit_key is not null
                               and keyed.state = 'waiting' and coalesce(keyed.hold, '') = ''))
