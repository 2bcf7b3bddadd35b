-- Takes once keys for jobs that follow another; one that is taken is passed over, and who has it keeps it.
-- Safe at once with others: the key is unique, and whoever comes second waits.
insert into {prefix}once (`key`, job_id, `until`) values %(rows)s
on duplicate key update `until` = `until`
