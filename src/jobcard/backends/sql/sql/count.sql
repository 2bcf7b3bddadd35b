-- Jobs of a filter by queue; {source} and {where} come from lookup.py and hold only places for values.
-- Only reads.
select job.queue, count(*) from {source} where {where} group by job.queue
