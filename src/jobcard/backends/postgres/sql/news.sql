-- The version of settings, how long until the next delayed job is due, this owner's jobs that shall be canceled, and
-- whether in one of some queues a job with a limit key stands in line.
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
       exists (select from {prefix}jobs
                where queue = any(%(queues)s) and limit_key is not null and state = 'waiting'
                  and coalesce(hold, '') = '')
