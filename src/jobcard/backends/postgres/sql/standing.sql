-- The state and token that some refs have now, to tell a lost claim from a repeated write.
-- Only reads.
select n, state, claim_token from {prefix}jobs where n = any(%(refs)s)
