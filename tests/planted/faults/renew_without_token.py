"""2. Whoever once held a job may renew it: the lease is lengthened whatever token and owner."""

from planted import sqlite_text

BREAKS = sqlite_text(renew=("claim_token = ?3 and claimed_by = ?4", "?3 is not null and ?4 is not null"))
