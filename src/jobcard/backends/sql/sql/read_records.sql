-- All records of a kind, by key.
-- Only reads.
select "key", value, version, {now} - updated_at from {prefix}records where kind = %(kind)s order by "key"
