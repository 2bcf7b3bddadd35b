-- Takes limits and once keys away; jobs held by a limit go back in line.
-- Safe from two processes at once: run under a lock of the server's by name. Each statement may be run again.
drop table if exists {prefix}turns, {prefix}starts, {prefix}once;
update {prefix}jobs set hold = null, version = version + 1 where state = 'waiting' and hold = 'limit';
alter table {prefix}jobs
    drop index by_limit,
    drop column keyed,
    drop column order_offset,
    drop column rate_per,
    drop column rate_count,
    drop column key_limit,
    drop column once_key;
