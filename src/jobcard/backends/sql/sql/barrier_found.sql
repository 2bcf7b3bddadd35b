-- Which of the triggers of the barrier are there.
-- Read under the lock of a migration by whoever puts them up or takes them away.
select trigger_name from information_schema.triggers where trigger_schema = {here} and trigger_name in (%(names)s)
