-- The version of the schema.
-- Only reads; whoever migrates reads it again under the lock.
select number from {prefix}meta where name = 'schema'
