-- Those of some queues in which a job stands in line.
-- Only reads: the first of each line. Asked for in that order, lest the plan of a quiet moment walks other queues' lines.
select queue from unnest(%(queues)s) as given (queue)
 where (select job.n from {prefix}jobs as job
         where job.queue = given.queue and job.state = 'waiting' and job.hold is null
         order by job.rank, job.order_at, job.id
         limit 1) is not null
