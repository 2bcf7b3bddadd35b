-- The store's time.
-- Only reads.
select {now}
