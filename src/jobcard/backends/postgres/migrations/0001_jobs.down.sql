-- Takes every table of 0001 away, and the jobs in them; a schema that was made for them stays.
-- Safe from two processes at once: run in one transaction under a lock of its own, which looks at the version again.
drop table {prefix}jobs;
drop table {prefix}attempts;
drop table {prefix}log_lines;
drop table {prefix}records;
drop table {prefix}meta;
-- Of a seal.
drop function if exists {prefix}sealed();
