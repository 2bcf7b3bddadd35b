-- Which of some tables have a barrier, raised or lowered.
-- Only reads; under the lock of migrations nobody changes it.
select place
  from unnest(%(tables)s) with ordinality as ours (name, place) join pg_trigger on tgrelid = to_regclass(name)
 where tgname = 'jobcard_sealed' and not tgisinternal
