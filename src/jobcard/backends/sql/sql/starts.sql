-- The starts of some queues and keys by slot.
-- Only reads; whoever decides by it has their turns.
select name, slot, used from {prefix}starts where name in (%(names)s) and "until" > {now} order by name, slot
