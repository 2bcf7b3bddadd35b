-- How many jobs were touched since an instant, counted no further than a limit.
-- Only reads.
select count(*) from (select from ({touched}) as touched limit %(most)s) as found
