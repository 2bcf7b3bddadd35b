-- Jobs that wait for others, and the jobs of a batch.
-- Safe from two processes at once: run inside one immediate transaction that looks at the version again.

alter table {prefix}jobs add column waits_for text;

-- Only jobs that wait for others; read every second.
create index {prefix}jobs_dependents on {prefix}jobs (id)
    where state = 'waiting' and hold is not null and hold = 'after';

-- Only jobs of a batch: to count them without a look at the table, and to list the newest first.
create index {prefix}jobs_batch on {prefix}jobs (batch_id, state, queue)
    where batch_id is not null;
create index {prefix}jobs_of_batch on {prefix}jobs (batch_id, id)
    where batch_id is not null;
