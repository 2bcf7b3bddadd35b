-- Limit keys that hold jobs back, some of those behind one, in order.
-- Only reads; from key to key along the index of limited jobs, whatever number each of them holds.
with recursive line (key) as (
    select (select min(limit_key) from {prefix}jobs
             where limit_key >= '' and limit_key > %(behind)s and state = 'waiting' and hold = 'limit')
    union all
    select (select min(limit_key) from {prefix}jobs
             where limit_key >= '' and limit_key > line.key and state = 'waiting' and hold = 'limit')
      from line where line.key is not null
)
select key from line where key is not null limit %(limit)s
