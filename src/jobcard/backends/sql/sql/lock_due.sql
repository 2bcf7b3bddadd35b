-- Locks those of some jobs that are delayed and due still.
-- Safe at once with others: a job somebody else is letting in is passed over.
select n from {prefix}jobs{along primary}
 where n in (%(refs)s) and held = 'delay' and available_at <= {now}
 order by n
   for update skip locked
