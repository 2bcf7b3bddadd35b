-- Jobs of a filter in one part of the table, by queue, a part of a union; {where} holds only places for values.
-- Only reads.
(select '{state}', queue, count(*) from {prefix}jobs where {where} group by queue)
