-- Takes waiting for others away; jobs that do wait for their time, if it has not come.
-- Safe from two processes at once: run in one transaction under a lock of its own, which looks at the version again.
drop index {prefix}jobs_of_batch;
drop index {prefix}jobs_batch;
drop index {prefix}jobs_dependents;
update {prefix}jobs set hold = 'delay', version = version + 1
 where state = 'waiting' and hold is not null and hold = 'after';
alter table {prefix}jobs drop column waits_for;
