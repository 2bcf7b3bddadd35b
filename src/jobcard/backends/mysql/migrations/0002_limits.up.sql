-- Once keys, limits of keys, the starts that rates count, the turns of those who decide about a limit, and how far a
-- job's place in line is from when it is due.
-- Safe from two processes at once: run under a lock of the server's by name. Each statement may be run again; of the
-- change of the table, which is done whole or not at all, the server then says so, and that is taken for well.

-- Keys that stay taken until an instant, whatever becomes of their jobs.
create table if not exists {prefix}once (
    `key` varchar(500) not null primary key,
    job_id binary(16) not null,
    `until` bigint not null,
    index by_until (`until`)
) engine = InnoDB, row_format = dynamic, default charset = utf8mb4 collate = {collation};

-- How many jobs of a queue or key started in each slot of its rate's window; of no use from `until` on.
create table if not exists {prefix}starts (
    name varchar(520) not null,
    slot bigint not null,
    used bigint not null,
    `until` bigint not null,
    primary key (name, slot),
    index by_until (`until`)
) engine = InnoDB, row_format = dynamic, default charset = utf8mb4 collate = {collation};

-- Locks, and nothing else: a limited queue or key has the one that its name falls on, so none is ever made or forgotten.
create table if not exists {prefix}turns (place int not null primary key) engine = InnoDB;

insert ignore into {prefix}turns (place)
with recursive places (place) as (select 0 union all select place + 1 from places where place < 511)
select place from places;

-- `keyed`: what a living job with a limit key is to it; null for all others, as in the line.
alter table {prefix}jobs
    add column once_key varchar(500),
    add column key_limit bigint,
    add column rate_count bigint,
    add column rate_per bigint,
    add column order_offset bigint not null default 0,
    add column keyed varchar(4) as (
        case when limit_key is null then null when state in ('claimed', 'running') then 'work'
             when state <> 'waiting' then null when hold is null then 'line'
             when hold = 'limit' then 'held' when hold = 'delay' then 'late' end
    ) stored,
    add index by_limit (keyed, limit_key, queue, `rank`, order_at, id);

-- Only jobs of queues with ageing have one.
update {prefix}jobs set order_offset = order_at - available_at where order_at <> available_at;
