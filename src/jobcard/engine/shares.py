"""How much of a lease may pass without a renewal before jobs are stopped; imports nothing, for the keeper reads it too.

0 ── renewed ── 0.2 ─────────── 0.6 ──────── 0.68 ── 0.7 ─────────────────── 1 ── others may take the jobs
                the next beat   stopped      killed  the keeper kills
                renews again    or told      if told

A beat leaves out claims that are younger than 0.2: they may be so old when the renewals begin to fail. From that beat
on it takes another 0.7 until the keeper kills, which is 0.9 of their lease. Renewed from 2/3 left, as every heartbeat
would allow, it could be 1.03: others may have the job by then. So `(1 - RENEW_SHARE) + UNSAFE_SHARE` stays below 1.
"""

RENEW_SHARE = 4 / 5  # claims with less than this left are renewed
SAFE_SHARE = 0.6  # the engine kills what runs, and tells the jobs that asked to be told instead
LAST_SHARE = 0.68  # those it told are killed …
UNSAFE_SHARE = 0.7  # … before the keeper kills every worker of an engine that does not renew
