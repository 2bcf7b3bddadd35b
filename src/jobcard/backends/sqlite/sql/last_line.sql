-- The newest log line of a job: its place, how many characters stand before it, its text.
-- Runs in the transaction that adds the next.
select place, before, text from {prefix}lines where n = ?1 order by place desc limit 1
