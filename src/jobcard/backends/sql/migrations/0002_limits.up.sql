-- Once keys, limits of keys, the starts that rates count, the turns of those who decide about a limit, and how far a
-- job's place in line is from when it is due.
-- Safe from two processes at once: run under a lock of the store's. Each statement may be run again.

-- Keys that stay taken until an instant, whatever becomes of their jobs.
create table if not exists {prefix}once (
    "key" {word} primary key,
    job_id {id} not null,
    "until" bigint not null
);

create index if not exists {prefix}once_by_until on {prefix}once ("until");

-- How many jobs of a queue or key started in each slot of its rate's window; of no use from `until` on.
create table if not exists {prefix}starts (
    name {word} not null,
    slot bigint not null,
    used bigint not null,
    "until" bigint not null,
    primary key (name, slot)
);

create index if not exists {prefix}starts_by_until on {prefix}starts ("until");

-- Locks, and nothing else: a limited queue or key has the one that its name falls on, so none is ever made or forgotten.
create table if not exists {prefix}turns (place int primary key);

insert into {prefix}turns (place)
with recursive places (place) as (select 0 union all select place + 1 from places where place < 511)
select place from places
{or_skip};

alter table {prefix}jobs add column if not exists once_key {word};
alter table {prefix}jobs add column if not exists key_limit bigint;
alter table {prefix}jobs add column if not exists rate_count bigint;
alter table {prefix}jobs add column if not exists rate_per bigint;
alter table {prefix}jobs add column if not exists order_offset bigint default 0 not null;

update {prefix}jobs set order_offset = order_at - available_at where order_at <> available_at;

-- What a living job with a limit key is to it; null for all others, so that a look along the index walks none of them.
alter table {prefix}jobs add column if not exists keyed {word} generated always as (
    case when limit_key is null then null when state in ('claimed', 'running') then 'work'
         when state <> 'waiting' then null when hold is null then 'line'
         when hold = 'limit' then 'held' when hold = 'delay' then 'late' end
) stored;

create index if not exists {prefix}by_limit on {prefix}jobs (keyed, limit_key, queue, "rank", order_at, id);
