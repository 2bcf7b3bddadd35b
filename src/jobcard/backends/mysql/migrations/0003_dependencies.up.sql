-- Jobs that wait for others, and the jobs of a batch.
-- Safe from two processes at once: run under a lock of the server's by name. The change of the table is done whole or
-- not at all; run again, the server says that it is done, and that is taken for well.

-- `dependent`: the id of a job that waits for others, `batch_state`: the state of one of a batch; null for all others,
-- as in the line: no look along their indexes walks those, and no change of their state writes these indexes.
-- Behind a batch stands the queue before the state: a job keeps its queue, so whoever knows the queues of a batch knows
-- where all its jobs are.
alter table {prefix}jobs
    add column waits_for mediumtext,
    add column dependent binary(16) as (case when state = 'waiting' and hold = 'after' then id end) stored,
    add column batch_state varchar(9) as (case when batch_id is not null then state end) stored,
    add index by_dependent (dependent),
    add index by_batch (batch_id, queue, batch_state, id);
