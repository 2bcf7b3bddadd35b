-- How many jobs of a limit key its rate has put off, and are still to come; none where no start counts.
-- Only reads; whoever decides by it has the key's turn.
select count(*) from (
    select available_at, order_at, order_offset from {prefix}jobs{along by_limit}
     where keyed = 'late' and limit_key = %(key)s
       and exists (select 1 from {prefix}starts where name = %(name)s and "until" > {now})
     limit %(most)s
) as late
 where available_at > {now} and available_at + order_offset > order_at
