-- Jobs that wait for others, and the jobs of a batch.
-- Safe from two processes at once: run in one transaction under a lock of its own, which looks at the version again.
alter table {prefix}jobs add column waits_for text;

-- Only jobs that wait for others; read every second. Those who ask for holds in general say it in other words, so that
-- each keeps to its own index.
create index {bare}jobs_dependents on {prefix}jobs (id)
    where state = 'waiting' and coalesce(hold, '') = 'after';

-- Only jobs of a batch: to count those in one state without a look at the table, and to list the newest first. Whoever
-- names several states lists.
create index {bare}jobs_batch on {prefix}jobs (batch_id, state, queue)
    where batch_id is not null and state >= '';

create index {bare}jobs_of_batch on {prefix}jobs (batch_id, id)
    where batch_id is not null;
