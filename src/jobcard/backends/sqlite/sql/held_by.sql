-- Claims of one owner, whole or only their refs, by number.
-- Only reads; what is done with them is guarded by their tokens. ?1 owner, ?2 at most, ?3 above this number.
select {what} from {prefix}jobs
 where claimed_by is not null and claimed_by = ?1 and state in ('claimed', 'running') and n > ?3
 order by n
 limit ?2
