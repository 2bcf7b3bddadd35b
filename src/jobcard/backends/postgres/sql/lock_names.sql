-- Takes the locks of some names until the end of the transaction, in one order for everybody.
-- Safe at once with others: whoever comes second waits. A lock's number comes from the name and from the table of jobs
-- itself, which is the same whatever schema or prefix led to it.
select pg_advisory_xact_lock(number)
  from (
    select distinct hashtextextended(name, '{prefix}jobs'::regclass::oid::bigint) as number
      from unnest(%(names)s) as given (name)
     order by number
  ) as ordered
