-- The transactions that have been open for longest: the number of the connection, whose it is, for how many seconds.
-- Only reads.
select pid, cast(usename as text), cast(extract(epoch from clock_timestamp() - xact_start) as bigint)
  from pg_stat_activity
 where xact_start is not null and pid <> pg_backend_pid() and datname = current_database()
 order by xact_start
 limit 3
