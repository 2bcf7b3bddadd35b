-- Takes waiting for others away; jobs that do wait for their time, if it has not come.
-- Safe from two processes at once: run under a lock of the server's by name. Each statement may be run again.
update {prefix}jobs set hold = 'delay', version = version + 1 where state = 'waiting' and hold = 'after';
alter table {prefix}jobs
    drop index by_batch,
    drop index by_dependent,
    drop column batch_state,
    drop column dependent,
    drop column waits_for;
