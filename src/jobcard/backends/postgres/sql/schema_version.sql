-- The version of the schema.
-- Only reads; whoever migrates reads it again under the lock.
select schema_version from {prefix}meta
