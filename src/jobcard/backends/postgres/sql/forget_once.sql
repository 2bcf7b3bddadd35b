-- Forgets some once keys whose time is over.
-- Safe at once with others: one that somebody takes or forgets right now is passed over.
with moment as (select {now} as now)
delete from {prefix}once
 where key = any(array(
    select key from {prefix}once where until <= (select now from moment)
     order by until
     limit %(limit)s
       for update skip locked
 ))
