"""How much of a lease may pass without a renewal before jobs are stopped; imports nothing, for the keeper reads it too.

0 ── renewed ──────────────── 0.6 ──────── 0.68 ── 0.7 ─────────────────── 1 ── others may take the jobs
                              stopped      killed  the keeper kills
                              or told      if told
"""

SAFE_SHARE = 0.6  # the engine kills what runs, and tells the jobs that asked to be told instead
LAST_SHARE = 0.68  # those it told are killed …
UNSAFE_SHARE = 0.7  # … before the keeper kills every worker of an engine that does not renew
