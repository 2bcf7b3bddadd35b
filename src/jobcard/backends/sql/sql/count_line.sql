-- Jobs of a filter in one queue and state of a batch, a part of a union; as count_line_to.sql, without a limit.
-- Only reads.
(select '{state}', {queue}, count(*) from {source} where {where})
