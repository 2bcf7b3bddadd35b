-- Those of some queues in which a job stands in line.
-- Only reads.
select queue from unnest(%(queues)s) as given (queue)
 where exists (select from {prefix}jobs as job
                where job.queue = given.queue and job.state = 'waiting' and job.hold is null)
