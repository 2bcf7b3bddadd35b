-- How many jobs were touched since an instant, counted no further than a limit.
-- Only reads.
select count(*) from (select 1 from ({touched}) limit ?)
