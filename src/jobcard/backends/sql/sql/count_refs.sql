-- How many refs a part finds, counted no further than a limit.
-- Only reads.
select count(*) from ({refs} limit %(most)s) as found
