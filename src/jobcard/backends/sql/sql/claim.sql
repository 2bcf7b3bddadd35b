-- Locks the first waiting jobs of one queue and reads them as they will be once take.sql has run, in the same step.
-- Safe at once with others: a job somebody else is taking is passed over. The index has the order already; sorting
-- would have to read, and so lock, the whole line.
select {claimed_columns}
  from {prefix}jobs{along by_line}
 where line = %(queue)s
 order by "rank", order_at, id
 limit %(most)s
   for update skip locked
