-- Jobs that wait for others, and the jobs of a batch.
-- Safe from two processes at once: run under a lock of the store's. Each statement may be run again.
alter table {prefix}jobs add column if not exists waits_for {text};

-- The id of a job that waits for others, and the state of one of a batch; null for all others, so that a look along
-- their indexes walks none of them, and a change of their state writes none of these indexes.
alter table {prefix}jobs add column if not exists dependent {id}
    generated always as (case when state = 'waiting' and hold = 'after' then id end) stored;
alter table {prefix}jobs add column if not exists batch_state {word}
    generated always as (case when batch_id is not null then state end) stored;

-- Read every second.
create index if not exists {prefix}by_dependent on {prefix}jobs (dependent);

-- By queue before state: a job keeps its queue, so whoever knows the queues of a batch knows where all its jobs are.
create index if not exists {prefix}by_batch on {prefix}jobs (batch_id, queue, batch_state, id);
