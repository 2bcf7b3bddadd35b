-- How many jobs with a limit key its rate has put off, whose turn is still to come. ?1 key, ?2 now, ?3 look at so many.
-- Only reads; along the index of limited jobs.
select count(*) from (
    select available_at, order_at, order_offset from {prefix}jobs
     where limit_key is not null and state in ('waiting', 'claimed', 'running')
       and limit_key = ?1 and state = 'waiting' and hold = 'delay'
     limit ?3
)
 where available_at > ?2 and available_at + order_offset > order_at
