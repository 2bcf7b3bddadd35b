-- Jobs, their failed tries and log lines, the small records and the facts about this store.
-- Safe from two processes at once: run under a lock of the server's by name. MySQL commits after every statement here,
-- so each may be run again: a migration that was killed goes on where it stopped.

-- Made first: with its row `schema` it says that tables of these names are ours.
-- `settings` rises with every write of a queue, schedule or order; `rings` with what else engines want to hear of;
-- `seal` says where the jobs moved to.
create table if not exists {prefix}meta (
    name varchar(40) not null primary key,
    number bigint,
    word varchar(200)
) engine = InnoDB, default charset = utf8mb4 collate = {collation};

insert into {prefix}meta (name, number, word)
values ('schema', 0, null), ('identity', null, replace(uuid(), '-', '')), ('settings', 0, null), ('rings', 0, null),
       ('seal', null, null)
on duplicate key update name = values(name);

-- `n` is the ref of a claim, so it is never given twice, not even after a prune.
-- There are no partial indexes here. Four columns are made by the server instead and are null wherever the job has no
-- business in their index: nulls stand apart in it and are not walked. They are stored, not virtual: indexes on
-- virtual columns are a long list of bugs of both servers.
create table if not exists {prefix}jobs (
    n bigint not null auto_increment primary key,
    id binary(16) not null,
    queue varchar(200) not null,
    `rank` int not null,
    order_at bigint not null,
    available_at bigint not null,
    created_at bigint not null,
    claim_token bigint not null default 0,
    version bigint not null default 1,
    priority int not null,
    attempt int not null default 0,
    max_attempts int not null,
    crashes int not null default 0,
    max_crashes int not null,
    interrupts int not null default 0,
    state varchar(9) not null default 'waiting',
    hold varchar(9),
    claimed_by varchar(200),
    lease_until bigint,
    claimed_at bigint,
    started_at bigint,
    finished_at bigint,
    expires_at bigint,
    timeout bigint,
    keep bigint,
    name varchar(200) not null,
    unique_key varchar(500),
    limit_key varchar(500),
    schedule_id varchar(200),
    batch_id binary(16),
    parent_id binary(16),
    cancel_requested text,
    reason text,
    error_kind text,
    backoff mediumtext not null,
    tags mediumtext,
    meta mediumtext,
    init longtext,
    args longtext not null,
    kwargs longtext not null,
    result longtext,
    progress mediumtext,
    checkpoint longtext,
    line varchar(200) as (case when state = 'waiting' and hold is null then queue end) stored,
    held varchar(9) as (case when state = 'waiting' then hold end) stored,
    ended varchar(9) as (case when state in ('completed', 'failed', 'canceled') then state end) stored,
    living_key varchar(500)
        as (case when state in ('waiting', 'claimed', 'running') then unique_key end) stored,
    told boolean as (cancel_requested is not null) stored,

    unique index by_id (id),
    -- The line itself, in claim order; nothing in it may not be claimed. What follows `id` is for counting.
    index by_line (line, `rank`, order_at, id, available_at),
    -- Delayed jobs by when they are due, and the other holds by name of the hold.
    index by_hold (held, available_at, queue),
    -- Claims by their holder; of those, the few that shall be canceled are read in every exchange.
    index by_holder (claimed_by, told),
    -- By queue before time: counts by queue and state then never touch the table.
    index by_end (ended, queue, finished_at),
    -- Only jobs with a `keep` of their own.
    index by_expiry (expires_at),
    -- For whoever asks what is new.
    index by_creation (created_at),
    unique index by_living_key (living_key)
) engine = InnoDB, row_format = dynamic, default charset = utf8mb4 collate = {collation};

-- `place` counts the tries of one job; whoever adds one has the job's row locked.
create table if not exists {prefix}attempts (
    n bigint not null,
    place int not null,
    at bigint not null,
    attempt int not null,
    error mediumtext not null,
    primary key (n, place)
) engine = InnoDB, default charset = utf8mb4 collate = {collation};

-- `behind` counts the characters of the lines before it, so that nobody reads a thousand lines to drop the first.
create table if not exists {prefix}log_lines (
    n bigint not null,
    place int not null,
    behind bigint not null,
    at bigint not null,
    text mediumtext not null,
    primary key (n, place)
) engine = InnoDB, default charset = utf8mb4 collate = {collation};

create table if not exists {prefix}records (
    kind varchar(20) not null,
    `key` varchar(200) not null,
    value mediumtext not null,
    version bigint not null,
    updated_at bigint not null,
    primary key (kind, `key`)
) engine = InnoDB, default charset = utf8mb4 collate = {collation};
