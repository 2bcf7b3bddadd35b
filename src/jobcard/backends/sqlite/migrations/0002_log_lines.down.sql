-- Takes away what 0002 brought, and the log lines with it.
-- Safe from two processes at once: run inside one immediate transaction that looks at the version again.
drop index {prefix}jobs_created;
drop table {prefix}lines;
