-- Claims of some owners, or with a lease that has run out, whole or only their refs, by number; walks all claims,
-- which are few. Only reads; what is done with them is guarded by their tokens.
with moment as (select {now} as now)
select {what} from {prefix}jobs cross join moment
 where claimed_by is not null and state in ('claimed', 'running')
   and (claimed_by = any(%(owners)s) or (%(lapsed)s and lease_until <= moment.now))
   and n > %(after)s
 order by n
 limit %(limit)s
