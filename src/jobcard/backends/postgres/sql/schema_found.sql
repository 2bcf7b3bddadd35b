-- Whether there is a schema of this name.
-- Only reads.
select to_regnamespace(%(schema)s) is not null
