-- Lets nobody insert into, update or delete from one table any more, whatever program it is.
-- Safe at once with others: under the write lock, so every writer has ended, and whoever writes next meets it.
create trigger if not exists {table}_sealed_{write} before {write} on {table}
begin
    select raise(abort, '{sealed}');
end
