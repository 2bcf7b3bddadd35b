-- Which of some tables are there.
-- Only reads, and from the catalog itself: what to_regclass() remembers of a moment ago may be over.
select relation.relname::text
  from pg_class as relation join pg_namespace as place on place.oid = relation.relnamespace
 where relation.relname = any(%(tables)s)
   and place.nspname = any(case when %(schema)s::text is null then current_schemas(false)::text[] else array[%(schema)s::text] end)
