-- Takes waiting for others away; jobs that do wait for their time, if it has not come.
-- Safe from two processes at once: run under a lock of the store's. Each statement may be run again.
update {prefix}jobs set hold = 'delay', version = version + 1 where state = 'waiting' and hold = 'after';
drop index if exists {prefix}by_batch;
alter table {prefix}jobs drop column if exists batch_state;
alter table {prefix}jobs drop column if exists dependent;
alter table {prefix}jobs drop column if exists waits_for;
