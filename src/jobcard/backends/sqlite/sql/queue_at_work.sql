-- How many jobs of a queue are at work.
-- Only reads; along the index of claims, of which there are few.
select count(*) from {prefix}jobs where claimed_by is not null and queue = ?1
