-- The state and token a ref has now, to tell a lost claim from a repeated write.
-- Only reads; the caller holds the write lock.
select state, claim_token from {prefix}jobs where n = ?1
