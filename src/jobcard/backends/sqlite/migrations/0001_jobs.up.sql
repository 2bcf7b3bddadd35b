-- Jobs, their failed tries, the small records and the facts about this store.
-- Safe from two processes at once: run inside one immediate transaction that looks at the version again.

-- `n` is the ref of a claim, so it is never given twice (autoincrement), not even after a prune.
-- What every move reads stands first; texts that may be long stand last, behind the page's edge.
create table {prefix}jobs (
    n integer primary key autoincrement,
    id blob not null check (length(id) = 16),
    queue text not null,
    rank integer not null,
    order_at integer not null,
    hold text check (hold in ('delay', 'limit', 'after', 'batch', 'parked', 'broken')),
    state text not null default 'waiting'
        check (state in ('waiting', 'claimed', 'running', 'completed', 'failed', 'canceled')),
    claim_token integer not null default 0 check (claim_token >= 0),
    claimed_by text,
    lease_until integer,
    cancel_requested text,
    attempt integer not null default 0 check (attempt >= 0),
    max_attempts integer not null,
    crashes integer not null default 0,
    max_crashes integer not null,
    interrupts integer not null default 0,
    priority integer not null,
    timeout integer,
    keep integer,
    available_at integer not null,
    created_at integer not null,
    claimed_at integer,
    started_at integer,
    finished_at integer,
    expires_at integer,
    version integer not null default 1,
    name text not null,
    unique_key text,
    limit_key text,
    batch_id blob,
    parent_id blob,
    schedule_id text,
    reason text,
    error_kind text,
    backoff text not null,
    tags text,
    meta text,
    init text,
    args text not null,
    kwargs text not null,
    result text,
    progress text,
    checkpoint text
) strict;

create unique index {prefix}jobs_id on {prefix}jobs (id);

-- The line itself, in claim order; nothing in it may not be claimed. What follows `id` is for counting without
-- a look at the table, as SQLite checks `hold` again although the condition says it.
create index {prefix}jobs_claim on {prefix}jobs (queue, rank, order_at, id, available_at, hold)
    where state = 'waiting' and hold is null;

-- Delayed jobs by when they are due, and the other holds by name of the hold.
create index {prefix}jobs_due on {prefix}jobs (hold, available_at, queue)
    where state = 'waiting' and hold is not null;

create index {prefix}jobs_held on {prefix}jobs (claimed_by)
    where claimed_by is not null;

-- Nearly always empty; read in every exchange.
create index {prefix}jobs_cancels on {prefix}jobs (claimed_by)
    where cancel_requested is not null and claimed_by is not null;

-- By queue before time: counts by queue and state then never touch the table.
create index {prefix}jobs_finished on {prefix}jobs (state, queue, finished_at)
    where finished_at is not null;

-- Only jobs with a `keep` of their own.
create index {prefix}jobs_expiry on {prefix}jobs (expires_at)
    where expires_at is not null;

create unique index {prefix}jobs_unique on {prefix}jobs (unique_key)
    where unique_key is not null and state in ('waiting', 'claimed', 'running');

create table {prefix}attempts (
    place integer primary key,
    n integer not null,
    attempt integer not null,
    at integer not null,
    error text not null
) strict;

create index {prefix}attempts_job on {prefix}attempts (n, place);

create table {prefix}records (
    kind text not null,
    key text not null,
    value text not null,
    version integer not null,
    updated_at integer not null,
    primary key (kind, key)
) strict, without rowid;

create table {prefix}meta (
    key text primary key,
    value any
) strict, without rowid;

-- `settings` rises with every write of a queue or schedule record; `seal` says where the jobs moved to.
insert into {prefix}meta (key, value)
values ('identity', lower(hex(randomblob(16)))), ('settings', 0), ('seal', null);
