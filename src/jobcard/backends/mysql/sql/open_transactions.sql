-- The transactions that have been open for longest: the number of the connection, whose it is, for how many seconds.
-- Only reads; takes the right PROCESS.
select trx.trx_mysql_thread_id, coalesce(concat(who.user, '@', who.host), '?'),
       timestampdiff(second, trx.trx_started, now())
  from information_schema.innodb_trx as trx
  left join information_schema.processlist as who on who.id = trx.trx_mysql_thread_id
 where trx.trx_mysql_thread_id <> connection_id()
 order by trx.trx_started
 limit 3
