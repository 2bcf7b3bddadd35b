-- Takes every table of 0001 away, and the jobs in them.
-- Safe from two processes at once: run inside one immediate transaction that looks at the version again.
drop table {prefix}jobs;
drop table {prefix}attempts;
drop table {prefix}records;
drop table {prefix}meta;
