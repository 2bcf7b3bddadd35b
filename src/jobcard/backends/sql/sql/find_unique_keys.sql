-- The living jobs that hold some unique keys, whether they wait, so that another may replace what they are to do, and
-- the limit key with which they stand in line.
-- Only reads.
select living_key, id,
       case when state = 'waiting' and (hold is null or hold <> 'broken') then 1 else 0 end,
       case when state = 'waiting' and hold is null then limit_key end
  from {prefix}jobs where living_key in (%(keys)s)
