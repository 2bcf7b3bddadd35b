-- Forgets some counted starts of which no window knows any more.
-- Safe at once with others: one that somebody counts or forgets right now is passed over.
with moment as (select {now} as now)
delete from {prefix}starts
 where ctid = any(array(
    select ctid from {prefix}starts where until <= (select now from moment)
     order by until
     limit %(limit)s
       for update skip locked
 ))
