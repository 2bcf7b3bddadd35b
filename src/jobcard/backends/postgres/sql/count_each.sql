-- Jobs of a filter in one part of the table by queue, none counted further than a limit, a part of a union; {part} and
-- {where} hold only places for values. Only reads.
(with recursive line (queue) as (
    select (select queue from {prefix}jobs where {part} order by queue limit 1)
    union all
    select (select queue from {prefix}jobs where {part} and queue > line.queue order by queue limit 1)
      from line where line.queue is not null
)
select '{state}', line.queue, (
    select count(*) from (
        select from {prefix}jobs where {where} and queue = line.queue limit %(most)s
    ) as found
) from line where line.queue is not null)
