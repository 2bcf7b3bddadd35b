-- Takes limits and once keys away; jobs held by a limit go back in line.
-- Safe from two processes at once: run inside one immediate transaction that looks at the version again.

update {prefix}jobs set hold = null, version = version + 1
 where state = 'waiting' and hold is not null and hold = 'limit';
drop table {prefix}starts;
drop table {prefix}once;
drop index {prefix}jobs_limited;
alter table {prefix}jobs drop column order_offset;
alter table {prefix}jobs drop column rate_per;
alter table {prefix}jobs drop column rate_count;
alter table {prefix}jobs drop column key_limit;
alter table {prefix}jobs drop column once_key;
