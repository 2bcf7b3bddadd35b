-- Takes once keys for new jobs; none of them when one is taken.
-- Safe at once with others: the key is unique, and whoever comes second waits and is told.
insert into {prefix}once ("key", job_id, "until") values %(rows)s
