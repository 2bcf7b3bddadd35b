-- Takes every table of 0001 away, and the jobs in them.
-- Safe from two processes at once: run under a lock of the store's. The facts go last: as long as they are there the
-- tables are known to be ours, and what was killed half way goes on.
drop table if exists {prefix}jobs;
drop table if exists {prefix}attempts;
drop table if exists {prefix}log_lines;
drop table if exists {prefix}records;
drop table if exists {prefix}meta;
