-- Whether the barrier of a seal stands; also where there is no table yet.
-- Read under the write lock by whoever raises or lowers it.
select exists (select 1 from sqlite_schema where type = 'trigger' and name = '{prefix}jobs_sealed_insert')
