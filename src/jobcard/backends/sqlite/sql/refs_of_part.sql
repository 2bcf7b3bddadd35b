-- The refs of one part of the table; stands inside list.sql.
-- Only reads.
select n from {prefix}jobs where {where}
