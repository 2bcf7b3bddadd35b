-- Puts up a trigger that refuses one kind of write of one table while there is a word of the seal, unless it comes from
-- a connection that says it may pass. While there is none, each writer holds its row beside others.
-- Run under the lock of a migration; waits for whoever has the table open. {trigger}, {table} and {write} come from
-- sealing.py. errors.py knows the number: above those of the servers, and below 2 ** 15, where PyMySQL gets negative.
create trigger {trigger} before {write} on {table} for each row
begin
    declare sealed varchar(200);
    select word into sealed from {prefix}meta where name = 'seal' {for_share};
    if sealed is not null and @jobcard_passes is null then
        signal sqlstate '45000'
           set mysql_errno = 30745, message_text = 'this store was sealed: its jobs live elsewhere now';
    end if;
end
