-- Which of some queues have a record.
-- Only reads.
select "key" from {prefix}records where kind = 'queue' and "key" in (%(queues)s)
