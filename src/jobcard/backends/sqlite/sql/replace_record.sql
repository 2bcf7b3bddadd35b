-- Writes a record only over the version expected.
-- Safe at once with others: the version is compared in the statement that raises it.
update {prefix}records
   set value = ?3, version = version + 1, updated_at = ?4
 where kind = ?1 and key = ?2 and version = ?5
returning version
