-- Deletes one ended job.
-- Safe at once with others: a job that was put back in line meanwhile is not ended and stays.
delete from {prefix}jobs where n = ?1 and state in ('completed', 'failed', 'canceled')
