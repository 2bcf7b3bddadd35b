"""1. Whoever once held a job may finish it: outcomes are stored whatever their token."""

from planted import sqlite_text

BREAKS = sqlite_text(
    complete=("claim_token = ?5", "?5 is not null"),
    apply=("n = ? and claim_token = ?", "n = ? and ? is not null"),
)
