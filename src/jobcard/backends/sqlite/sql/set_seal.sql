-- Records the word that the store is sealed with; null: it is in use.
-- Runs in the transaction that raises the barrier, or lowers it.
update {prefix}meta set value = ?1 where key = 'seal'
