-- Records the version of the schema. `word` has nothing to say there: the right to write it is a migration's alone.
-- Safe at once with others: run under the lock of a migration.
update {prefix}meta set number = %(version)s, word = null where name = 'schema'
