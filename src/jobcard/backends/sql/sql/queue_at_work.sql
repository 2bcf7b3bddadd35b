-- How many jobs of some queues are at work; walks all claims, which are few.
-- Only reads; whoever decides by it has the turns of these queues.
select queue, count(*) from {prefix}jobs{along by_holder}
 where claimed_by is not null and queue in (%(queues)s)
 group by queue
