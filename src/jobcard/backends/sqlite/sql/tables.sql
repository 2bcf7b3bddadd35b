-- Which tables of these names the file has, whoever made them.
-- Only reads; whoever migrates reads it again under the write lock.
select name from sqlite_schema where name in ({marks})
