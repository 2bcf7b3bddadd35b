-- Makes what refuses every write of a sealed store, but those of a migration; errors.py knows its code.
-- Safe at once with others: under the lock of migrations.
create or replace function {prefix}sealed() returns trigger language plpgsql as $barrier$
begin
    if current_setting('jobcard.migrating', true) = 'on' then
        return null;
    end if;
    raise exception 'this store was sealed: its jobs live elsewhere now' using errcode = 'JC001';
end
$barrier$
