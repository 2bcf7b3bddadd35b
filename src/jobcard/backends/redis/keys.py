"""The keys of one store: all with one hash tag, so that they live together and each move is one script.

    {prefix}:card     hash     id → digest and the part of a job that never changes, packed; no script reads it
    {prefix}:live     hash     id → the part that changes, a packed array of `rows.LIVE`
    {prefix}:line     sorted   queue, rank, order, id: what may be claimed, in claim order
    {prefix}:due      sorted   by available_at: held by `delay`
    {prefix}:parked   sorted   name, id: held by `parked`
    {prefix}:broken   set      held by `broken`, and unreadable jobs, taken out of every other index
    {prefix}:leases   sorted   by lease_until: owner, id; claimed and running
    {prefix}:cancels  hash     owner, id → why: at work and asked to stop
    {prefix}:alive    sorted   by created_at: not ended
    {prefix}:completed, failed, canceled    sorted   by finished_at: ended, without a `keep` of their own
    {prefix}:kept_completed, kept_failed, kept_canceled   the same, with a `keep`
    {prefix}:expires  sorted   by expires_at: those with a `keep`
    {prefix}:unique   hash     unique key → id, while that job lives
    {prefix}:once     hash     once key → id and until when, packed
    {prefix}:keyed_line   sorted   limit key, queue, rank, order, id: in line, of those with a limit key
    {prefix}:keyed_work   sorted   limit key, id: claimed and running, of those with a limit key
    {prefix}:keyed_due    sorted   limit key, available_at, id: put off by the rate of their limit key
    {prefix}:keyed_held   sorted   limit key, queue, rank, order, id: held by `limit`, in claim order
    {prefix}:starts   hash     queue or limit key → starts that its rate counts, packed
    {prefix}:lapses   sorted   by the instant from which nobody asks for them: once keys, names of `starts`
    {prefix}:after    sorted   id: held by `after`
    {prefix}:batches  sorted   batch, state, queue, id: every job of a batch
    {prefix}:ids      sorted   every id
    {prefix}:counts   hash     queue, state → how many
    {prefix}:attempts hash     id → the last tries, packed
    {prefix}:lines    hash     id → the last log lines, packed
    {prefix}:records  hash     kind, key → small records, packed
    {prefix}:meta     hash     schema, identity, settings, seal
    {prefix}:bell     channel  a hint that there may be work

Where several parts make one member a NUL parts them: no name holds one. A limit key may be any text: its length stands
before it. Ids, of jobs and batches, are of one length.
"""

from __future__ import annotations

NAMES = (
    "card",
    "live",
    "line",
    "due",
    "parked",
    "broken",
    "leases",
    "cancels",
    "alive",
    "completed",
    "failed",
    "canceled",
    "kept_completed",
    "kept_failed",
    "kept_canceled",
    "expires",
    "unique",
    "ids",
    "counts",
    "attempts",
    "lines",
    "records",
    "meta",
    "once",
    "keyed_line",
    "keyed_work",
    "keyed_due",
    "keyed_held",
    "starts",
    "lapses",
    "after",
    "batches",
)
"""In the order in which scripts get them."""


class Keys:
    """The keys with one prefix."""

    def __init__(self, prefix: str) -> None:
        self.all = tuple(f"{{{prefix}}}:{name}" for name in NAMES)
        for name, key in zip(NAMES, self.all, strict=True):
            setattr(self, name, key)
        self.bell = f"{{{prefix}}}:bell"

    card: str
    live: str
    line: str
    due: str
    parked: str
    broken: str
    leases: str
    alive: str
    expires: str
    unique: str
    ids: str
    counts: str
    attempts: str
    lines: str
    records: str
    meta: str
    once: str
    keyed_work: str
    keyed_due: str
    keyed_held: str
    starts: str
    lapses: str
    after: str
    batches: str

    def ended(self, state: str) -> tuple[str, str]:
        """Where the ended jobs of a state are: without and with a `keep` of their own."""
        return getattr(self, state), getattr(self, f"kept_{state}")
