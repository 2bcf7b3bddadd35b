-- Keeps log lines.
-- Runs in the transaction of the change that brought them; whoever adds to a job has its row locked.
insert into {prefix}log_lines (n, place, behind, at, text) values %(rows)s
