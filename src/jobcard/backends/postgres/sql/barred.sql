-- Which of some tables have a barrier, by their places, and whether it is raised.
-- Only reads; under the lock of migrations nobody changes it.
select place, tgenabled <> 'D'
  from unnest(%(tables)s) with ordinality as ours (name, place) join pg_trigger on tgrelid = to_regclass(name)
 where tgname = 'jobcard_sealed' and not tgisinternal
