-- Puts up a trigger that refuses every write of one table while there is a word of the seal, unless it comes from a
-- connection that says it may pass. While there is none, each writer holds its row beside others.
-- Run under the lock of a migration; waits for whoever has the table open. {trigger}, {table} and {write} come from
-- sealing.py.
do $do$
begin
    create or replace function {trigger}() returns trigger language plpgsql as $trigger$
    declare
        sealed text;
    begin
        select word into sealed from {prefix}meta where name = 'seal' {for_share};
        if sealed is not null and coalesce(current_setting('jobcard.passes', true), '') <> 'on' then
            raise exception 'this store was sealed, its jobs live elsewhere now' using errcode = 'JC001';
        end if;
        return null;
    end
    $trigger$;
    create trigger {trigger} before {write} on {table} for each statement execute function {trigger}();
end
$do$
