-- What the server says about itself and about this store.
-- Only reads.
select current_setting('server_version'),
       (select schema_version from {prefix}meta),
       (select identity from {prefix}meta),
       (select seal from {prefix}meta),
       (select sum(pg_total_relation_size(to_regclass(name)))::bigint from unnest(%(tables)s) as ours (name)),
       (select count(*) from pg_stat_activity where datname = current_database()),
       {now}
