-- Jobs, their failed tries and log lines, the small records and the facts about this store.
-- Safe from two processes at once: run in one transaction under a lock of its own, which looks at the version again.

-- `n` is the ref of a claim, so it is never given twice, not even after a prune.
-- First what has a fixed width and is never null, since a row is read from its front; texts that may be long stand last.
-- Texts are compared as bytes ("C"): that is the contract's order, and no upgrade of a locale spoils an index.
create table {prefix}jobs (
    n bigint generated always as identity primary key,
    id uuid not null,
    order_at bigint not null,
    available_at bigint not null,
    created_at bigint not null,
    claim_token bigint not null default 0 check (claim_token >= 0),
    version bigint not null default 1,
    rank integer not null,
    priority integer not null,
    attempt integer not null default 0 check (attempt >= 0),
    max_attempts integer not null,
    crashes integer not null default 0,
    max_crashes integer not null,
    interrupts integer not null default 0,
    state text collate "C" not null default 'waiting'
        check (state in ('waiting', 'claimed', 'running', 'completed', 'failed', 'canceled')),
    queue text collate "C" not null,
    hold text collate "C" check (hold in ('delay', 'after', 'batch', 'parked', 'broken')),
    claimed_by text collate "C",
    lease_until bigint,
    claimed_at bigint,
    started_at bigint,
    finished_at bigint,
    expires_at bigint,
    timeout bigint,
    keep bigint,
    name text collate "C" not null,
    cancel_requested text,
    unique_key text collate "C",
    limit_key text,
    batch_id uuid,
    parent_id uuid,
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
) with (
    -- A busy queue writes each row three times over; what it leaves behind must not wait for a fifth of the history.
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05
);

-- A partial index serves every query that implies its condition, and with statistics of a quiet moment all of them
-- look empty to the planner, so it may take any. Each condition therefore holds something that only the queries it is
-- made for say. (Measured: a claim that sorted the whole line; outcomes that each walked all claims, ten times slower.)

create unique index {bare}jobs_id on {prefix}jobs (id);

-- The line itself, in claim order; nothing in it may not be claimed.
create index {bare}jobs_claim on {prefix}jobs (queue, rank, order_at, id) include (available_at)
    where state = 'waiting' and hold is null;

-- Delayed jobs by when they are due, and the other holds by name of the hold.
create index {bare}jobs_due on {prefix}jobs (hold, available_at, queue)
    where state = 'waiting' and hold is not null;

-- Jobs that wait, by when they came: for whoever asks what is new.
create index {bare}jobs_created on {prefix}jobs (created_at)
    where state = 'waiting' and created_at >= 0;

create index {bare}jobs_held on {prefix}jobs (claimed_by)
    where claimed_by is not null;

-- Nearly always empty; read in every exchange.
create index {bare}jobs_cancels on {prefix}jobs (n)
    where cancel_requested is not null;

-- By queue before time: counts by queue and state then never touch the table.
create index {bare}jobs_finished on {prefix}jobs (state, queue, finished_at)
    where finished_at is not null;

-- Only jobs with a `keep` of their own.
create index {bare}jobs_expiry on {prefix}jobs (expires_at)
    where expires_at is not null;

create unique index {bare}jobs_unique on {prefix}jobs (unique_key)
    where unique_key is not null and state in ('waiting', 'claimed', 'running');

create table {prefix}attempts (
    n bigint not null,
    place bigint generated always as identity,
    at bigint not null,
    attempt integer not null,
    error text not null,
    primary key (n, place)
);

create table {prefix}log_lines (
    n bigint not null,
    place bigint generated always as identity,
    at bigint not null,
    text text not null,
    primary key (n, place)
);

create table {prefix}records (
    kind text collate "C" not null,
    key text collate "C" not null,
    value text not null,
    version bigint not null,
    updated_at bigint not null,
    primary key (kind, key)
);

-- One row. `settings` rises with every write of a queue, schedule or order; `seal` says where the jobs moved to.
create table {prefix}meta (
    one boolean primary key default true check (one),
    schema_version integer not null,
    identity text not null default replace(gen_random_uuid()::text, '-', ''),
    settings bigint not null default 0,
    seal text
);

insert into {prefix}meta (schema_version) values (0);
