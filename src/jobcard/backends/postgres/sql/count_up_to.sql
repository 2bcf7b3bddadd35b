-- How many jobs are in one part of the table, counted no further than a limit.
-- Only reads.
select count(*) from (select from {prefix}jobs where {where} limit %(most)s) as found
