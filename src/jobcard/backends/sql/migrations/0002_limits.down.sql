-- Takes limits and once keys away; jobs held by a limit go back in line.
-- Safe from two processes at once: run under a lock of the store's. Each statement may be run again.
drop table if exists {prefix}turns;
drop table if exists {prefix}starts;
drop table if exists {prefix}once;
update {prefix}jobs set hold = null, version = version + 1 where state = 'waiting' and hold = 'limit';
alter table {prefix}jobs drop column if exists keyed;
alter table {prefix}jobs drop column if exists order_offset;
alter table {prefix}jobs drop column if exists rate_per;
alter table {prefix}jobs drop column if exists rate_count;
alter table {prefix}jobs drop column if exists key_limit;
alter table {prefix}jobs drop column if exists once_key;
