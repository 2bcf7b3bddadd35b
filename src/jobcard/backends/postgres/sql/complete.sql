-- Records that jobs returned, each only if its claim still holds it; ref and token of those
-- that did, if they were not all.
-- Safe at once with others: by ref, state and token; no row changes when the claim was lost. Rows are locked in the
-- order they are given, which is that of their refs.
with moment as (select {now} as now),
given as (
    select * from unnest(%(refs)s, %(tokens)s, %(results)s, %(started_ago)s) as given (n, token, result, ago)
),
done as (
    update {prefix}jobs as job
       set state = 'completed', result = given.result, started_at = moment.now - given.ago,
           finished_at = moment.now, expires_at = moment.now + job.keep,
           claimed_by = null, lease_until = null, cancel_requested = null, version = job.version + 1
      from given cross join moment
     where job.n = given.n and job.claim_token = given.token and job.state in ('claimed', 'running')
    returning job.n, job.claim_token
)
select case when (select count(*) from done) < %(count)s then array(select array[n, claim_token] from done) end
