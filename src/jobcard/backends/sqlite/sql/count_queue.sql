-- Jobs of a filter, one queue and one state, counted no further than a limit.
-- Only reads.
select count(*) from (select 1 from {prefix}jobs where {where} and queue = ? limit ?)
