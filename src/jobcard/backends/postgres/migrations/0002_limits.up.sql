-- Once keys, limits of keys, the starts that rates count, and how far a job's place in line is from when it is due.
-- Safe from two processes at once: run in one transaction under a lock of its own, which looks at the version again.
alter table {prefix}jobs drop constraint {bare}jobs_hold_check;
alter table {prefix}jobs add constraint {bare}jobs_hold_check
    check (hold in ('delay', 'limit', 'after', 'batch', 'parked', 'broken'));
alter table {prefix}jobs alter column limit_key type text collate "C";
alter table {prefix}jobs add column once_key text collate "C";
alter table {prefix}jobs add column key_limit bigint;
alter table {prefix}jobs add column rate_count bigint;
alter table {prefix}jobs add column rate_per bigint;
alter table {prefix}jobs add column order_offset bigint not null default 0;

-- Only jobs of queues with ageing have one.
update {prefix}jobs set order_offset = order_at - available_at where order_at <> available_at;

-- Living jobs with a limit key: those at work and those put off are counted, those in line and those held stand in
-- claim order, each queue by itself.
create index {bare}jobs_limited on {prefix}jobs (state, hold, limit_key, queue, rank, order_at, id)
    where limit_key >= '' and state in ('waiting', 'claimed', 'running');

-- Jobs with a limit key that stand in line, by queue; read in every exchange.
create index {bare}jobs_keyed on {prefix}jobs (queue)
    where limit_key is not null and state = 'waiting' and coalesce(hold, '') = '';

-- Keys that stay taken until an instant, whatever becomes of their jobs.
create table {prefix}once (
    key text collate "C" primary key,
    job_id uuid not null,
    until bigint not null
);

create index {bare}once_until on {prefix}once (until);

-- How many jobs of a queue or key started in each slot of its rate's window; of no use from `until` on.
create table {prefix}starts (
    name text collate "C" not null,
    slot bigint not null,
    used bigint not null,
    until bigint not null,
    primary key (name, slot)
);

create index {bare}starts_live on {prefix}starts (name, until);
create index {bare}starts_until on {prefix}starts (until);
