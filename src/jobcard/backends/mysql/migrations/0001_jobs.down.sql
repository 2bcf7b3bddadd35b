-- Takes every table of 0001 away, and the jobs in them.
-- Safe from two processes at once: run under a lock of the server's by name. The facts go last: as long as they are
-- there the tables are known to be ours, and what was killed half way goes on.
drop table if exists {prefix}jobs, {prefix}attempts, {prefix}log_lines, {prefix}records;
drop table if exists {prefix}meta;
