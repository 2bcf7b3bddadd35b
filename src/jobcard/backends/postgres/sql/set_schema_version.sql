-- Records the version of the schema.
-- Runs in the transaction of the migration itself.
update {prefix}meta set schema_version = %(version)s
