-- Jobs of a filter by queue and state; {where} comes from lookup.py and holds only places for values.
-- Only reads.
select queue, state, count(*) from {prefix}jobs where {where} group by queue, state
