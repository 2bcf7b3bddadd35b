-- Claims of anybody whose lease has run out, whole or only their refs, by number; walks all claims, which are few.
-- Only reads; what is done with them is guarded by their tokens. ?1 now, ?2 at most, ?3 above this number.
-- `+n`, or SQLite walks the whole table by number to save the sorting.
select {what} from {prefix}jobs
 where claimed_by is not null and lease_until <= ?1 and state in ('claimed', 'running') and +n > ?3
 order by +n
 limit ?2
