-- Records the word that the store is sealed with; null: it is in use.
-- Runs in the transaction that raises the barrier of the jobs, or lowers it.
update {prefix}meta set seal = %(word)s::text where seal is distinct from %(word)s::text
