-- The living jobs that hold some unique keys.
-- Only reads.
select living_key, id from {prefix}jobs where living_key in (%(keys)s)
