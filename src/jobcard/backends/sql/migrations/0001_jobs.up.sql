-- Jobs, their failed tries and log lines, the small records and the facts about this store.
-- Safe from two processes at once: run under a lock of the store's. Each statement may be run again: where the server
-- commits after every one, a migration that was killed goes on where it stopped.

-- Made first: with its row `schema` it says that tables of these names are ours.
-- `settings` rises with every write of a queue, schedule or order; `rings` with what else engines want to hear of;
-- `seal` says where the jobs moved to.
create table if not exists {prefix}meta (name {word} primary key, number bigint, word {word});

insert into {prefix}meta (name, number, word)
values ('schema', 0, null), ('identity', null, {random}), ('settings', 0, null), ('rings', 0, null),
       ('seal', null, null)
{or_skip};

-- `n` is the ref of a claim, so it is never given twice, not even after a prune.
-- Four columns are made by the server and are null wherever the job has no business in their index: a look along one
-- walks only what it is for.
create table if not exists {prefix}jobs (
    n {number},
    id {id} not null,
    queue {word} not null,
    "rank" int not null,
    order_at bigint not null,
    available_at bigint not null,
    created_at bigint not null,
    claim_token bigint default 0 not null,
    version bigint default 1 not null,
    priority int not null,
    attempt int default 0 not null,
    max_attempts int not null,
    crashes int default 0 not null,
    max_crashes int not null,
    interrupts int default 0 not null,
    state {word} default 'waiting' not null,
    hold {word},
    claimed_by {word},
    lease_until bigint,
    claimed_at bigint,
    started_at bigint,
    finished_at bigint,
    expires_at bigint,
    timeout bigint,
    keep bigint,
    name {word} not null,
    unique_key {word},
    limit_key {word},
    schedule_id {word},
    batch_id {id},
    parent_id {id},
    cancel_requested {text},
    reason {text},
    error_kind {text},
    backoff {text} not null,
    tags {text},
    meta {text},
    init {text},
    args {text} not null,
    kwargs {text} not null,
    result {text},
    progress {text},
    checkpoint {text},
    line {word} generated always as (case when state = 'waiting' and hold is null then queue end) stored,
    held {word} generated always as (case when state = 'waiting' then hold end) stored,
    ended {word} generated always as (case when state in ('completed', 'failed', 'canceled') then state end) stored,
    living_key {word}
        generated always as (case when state in ('waiting', 'claimed', 'running') then unique_key end) stored,
    told int generated always as (case when cancel_requested is not null then 1 else 0 end) stored
);

create unique index if not exists {prefix}by_id on {prefix}jobs (id);

-- The line itself, in claim order; nothing in it may not be claimed.
create index if not exists {prefix}by_line on {prefix}jobs (line, "rank", order_at, id, available_at);

-- Delayed jobs by when they are due, and the other holds by name of the hold.
create index if not exists {prefix}by_hold on {prefix}jobs (held, available_at, queue);

-- Claims by their holder; of those, the few that shall be canceled are read in every exchange.
create index if not exists {prefix}by_holder on {prefix}jobs (claimed_by, told);

-- By queue before time: counts by queue and state then never touch the table.
create index if not exists {prefix}by_end on {prefix}jobs (ended, queue, finished_at);

-- Only jobs with a `keep` of their own.
create index if not exists {prefix}by_expiry on {prefix}jobs (expires_at);

-- For whoever asks what is new.
create index if not exists {prefix}by_creation on {prefix}jobs (created_at);

create unique index if not exists {prefix}by_living_key on {prefix}jobs (living_key);

-- `place` counts the tries of one job; whoever adds one has the job's row locked.
create table if not exists {prefix}attempts (
    n bigint not null,
    place int not null,
    at bigint not null,
    attempt int not null,
    error {text} not null,
    primary key (n, place)
);

-- `behind` counts the characters of the lines before it, so that nobody reads a thousand lines to drop the first.
create table if not exists {prefix}log_lines (
    n bigint not null,
    place int not null,
    behind bigint not null,
    at bigint not null,
    text {text} not null,
    primary key (n, place)
);

create table if not exists {prefix}records (
    kind {word} not null,
    "key" {word} not null,
    value {text} not null,
    version bigint not null,
    updated_at bigint not null,
    primary key (kind, "key")
);
