-- Records the version of the schema, when a migration is through.
-- Safe at once with others: run under the lock of a migration.
update {prefix}meta set number = %(version)s where name = 'schema'
