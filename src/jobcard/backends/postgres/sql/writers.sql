-- Who has written to a table and not ended: process, user, application, and for how many seconds, where we may see it.
-- Only reads.
select writer.pid, activity.usename::text, activity.application_name,
       extract(epoch from clock_timestamp() - activity.xact_start)::bigint
  from pg_locks as writer left join pg_stat_activity as activity on activity.pid = writer.pid
 where writer.locktype = 'relation' and writer.granted
   and writer.database = (select oid from pg_database where datname = current_database())
   and writer.relation = to_regclass(%(table)s)
   and writer.mode not in ('AccessShareLock', 'RowShareLock')
 order by activity.xact_start
 limit 5
