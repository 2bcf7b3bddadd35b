-- Lets everybody write to one table again.
-- Safe at once with others: unlike a drop it waits for no reader, such as a dump of the database.
alter table {prefix}{table} disable trigger jobcard_sealed
