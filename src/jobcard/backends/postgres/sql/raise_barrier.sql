-- Lets nobody write to one table any more, whatever program it is and however many rows it means.
-- Safe at once with others: it waits for all who have written and not ended; who comes later waits, and is refused.
create or replace trigger jobcard_sealed before insert or update or delete on {prefix}{table}
   for each statement execute function {prefix}sealed()
