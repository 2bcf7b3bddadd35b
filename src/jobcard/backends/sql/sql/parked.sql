-- Jobs parked under some names, locked.
-- Safe at once with others: a job somebody else is unparking is passed over.
select n from {prefix}jobs{along by_hold}
 where held = 'parked' and name in (%(names)s)
   for update skip locked
