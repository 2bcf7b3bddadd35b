-- The refs of one part of the table; stands inside a condition.
-- Only reads.
select n from {prefix}jobs where {where}
