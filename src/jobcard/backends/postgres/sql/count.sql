-- Jobs of a filter in one part of the table, by queue and state; {where} holds only places for values.
-- Only reads.
select queue, state, count(*) from {prefix}jobs where {where} group by queue, state
