-- The living jobs that hold some unique keys, and whether they wait, so that another may replace what they are to do.
-- Only reads.
select living_key, id,
       case when state = 'waiting' and (hold is null or hold <> 'broken') then 1 else 0 end
  from {prefix}jobs where living_key in (%(keys)s)
