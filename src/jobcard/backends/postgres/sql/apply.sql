-- Applies changes of one form by their holders, each only if its claim still holds the job; the refs that were changed.
-- Safe at once with others: by ref, state and token; no row changes when the claim was lost.
-- {assignments}, {guard}, {given} and {further} come from changes.py and hold only names and places for values.
with moment as (select {now} as now),
given as (select * from unnest({given})),
applied as (
    update {prefix}jobs as job
       set {assignments}
      from given cross join moment
     where {guard} and job.n = given.n and job.claim_token = given.token
    returning job.n, moment.now{returned}
){further}
select n from applied
