-- Drops a job's oldest log lines up to the first that may stay; the walk ends there.
-- Runs in the transaction that added some. ?1 ref, ?2 the last place that is too old, ?3 text before it that may go.
delete from {prefix}lines
 where n = ?1 and place < coalesce(
    (select place from {prefix}lines where n = ?1 and place > ?2 and before >= ?3 order by place limit 1),
    9223372036854775807
 )
