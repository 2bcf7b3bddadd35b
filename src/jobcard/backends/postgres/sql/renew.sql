-- Holds claims for longer, but those that were lost or whose lease has run out; the refs of those.
-- Safe at once with others: by ref, token, owner and lease in one statement, in the order of the refs. The owner is not
-- compared by `=`, which would let the planner walk all claims of the owner for each of them.
with moment as (select {now} as now),
given as (select * from unnest(%(refs)s, %(tokens)s) as given (n, token)),
renewed as (
    update {prefix}jobs as job
       set lease_until = moment.now + %(lease)s
      from given cross join moment
     where job.n = given.n and job.claim_token = given.token and job.claimed_by is not distinct from %(owner)s
       and job.lease_until > moment.now and job.state in ('claimed', 'running')
    returning job.n
)
select n from given except all select n from renewed
