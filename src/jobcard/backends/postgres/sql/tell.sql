-- Tells running engines that queues, schedules or orders changed, if one was `written`; part of other statements.
-- Safe at once with others: it counts under the lock of the row.
, told as (
    update {prefix}meta set settings = settings + 1 where %(settings)s and exists (select from written)
)
