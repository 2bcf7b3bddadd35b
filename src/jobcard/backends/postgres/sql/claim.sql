-- Takes the first waiting jobs of some queues for an owner, attempt and token raised; unless `keyed` is true those with
-- a limit key stay in line, and nobody comes in their stead.
-- Safe at once with others: a job somebody else is taking is passed over. The list of numbers is made first and once,
-- so no plan takes more than was asked. RETURNING promises no order: the caller sorts.
with moment as (select {now} as now)
update {prefix}jobs as job
   set state = 'claimed', attempt = job.attempt + 1, claim_token = job.claim_token + 1,
       claimed_by = %(owner)s, claimed_at = moment.now, lease_until = moment.now + %(lease)s,
       version = job.version + 1
  from moment
 where job.n = any(array(
    select found.n
      from unnest(%(queues)s, %(most)s) as wanted (queue, most)
           cross join lateral (
               select n from {prefix}jobs
                where queue = wanted.queue and state = 'waiting' and hold is null
                order by rank, order_at, id
                limit wanted.most
                  for no key update skip locked
           ) as found
     limit %(total)s
 )) and (%(keyed)s or job.limit_key is null)
returning {claimed_columns}
