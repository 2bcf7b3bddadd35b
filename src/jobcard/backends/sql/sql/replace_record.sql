-- Writes a record only over the version expected.
-- Safe at once with others: the version is compared in the statement that raises it.
update {prefix}records
   set value = %(value)s, version = version + 1, updated_at = {now}
 where kind = %(kind)s and "key" = %(key)s and version = %(expect)s
