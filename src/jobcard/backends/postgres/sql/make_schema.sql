-- Makes the schema that the tables shall be in.
-- Safe at once with others: run under the lock of a migration.
create schema if not exists {schema}
