-- The starts of a queue or key by slot.
-- Only reads.
select slot, used from {prefix}starts where name = ?1 order by slot
