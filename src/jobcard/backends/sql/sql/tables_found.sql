-- Which of some tables are there.
-- Only reads.
select table_name from information_schema.tables where table_schema = {here} and table_name in (%(tables)s)
