-- Claims of some owners, and of anybody whose lease has run out if that is asked for, by number; walks all claims,
-- which are few. Only reads; what is done with them is guarded by their tokens.
select {held_columns} from {prefix}jobs{along by_holder}
 where claimed_by is not null and state in ('claimed', 'running') and n > %(after)s
   and (claimed_by in (%(owners)s) or (%(lapsed)s and lease_until <= {now}))
 order by n
 limit %(limit)s
