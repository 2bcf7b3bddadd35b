-- Once keys, limits of keys and the starts that rates count.
-- Safe from two processes at once: run inside one immediate transaction that looks at the version again.

alter table {prefix}jobs add column once_key text;
alter table {prefix}jobs add column key_limit integer;
alter table {prefix}jobs add column rate_count integer;
alter table {prefix}jobs add column rate_per integer;

-- How far its order is from its time, for a rate moves the time alone.
alter table {prefix}jobs add column order_offset integer not null default 0;
update {prefix}jobs set order_offset = order_at - available_at where order_at <> available_at;

-- Living jobs with a limit key: those at work are counted, those that wait stand in claim order, and from one key that
-- holds jobs back the next one is found at once. SQLite takes it only where a statement says its whole condition.
create index {prefix}jobs_limited on {prefix}jobs (state, hold, limit_key, queue, rank, order_at, id)
    where limit_key is not null and state in ('waiting', 'claimed', 'running');

-- Keys that stay taken until an instant, whatever becomes of their jobs.
create table {prefix}once (
    key text primary key,
    job_id blob not null,
    until integer not null
) strict, without rowid;

create index {prefix}once_until on {prefix}once (until);

-- How many jobs of a queue or key started in each slot of its rate's window; of no use from `until` on.
create table {prefix}starts (
    name text not null,
    slot integer not null,
    used integer not null,
    until integer not null,
    primary key (name, slot)
) strict, without rowid;

create index {prefix}starts_until on {prefix}starts (until);
