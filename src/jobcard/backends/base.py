"""The contract between jobcard and a store, in words.

A backend keeps jobs; it never decides. Which move a job may make, and what it changes, is said by
`core/states.py`; a backend applies it as one guarded step. Its methods are synchronous and may be called
from several threads; `exchange` is never called twice at once on one backend.

Rules every store obeys:

- **Fence.** A holder's write applies only where the job's ref, state (claimed or running) and claim token
  match. The token is an integer that never falls: every claim adds one, and so does every change with
  `takes=True`.
- **One clock.** `Now()` and `After(delay)` are the store's own time, never the caller's.
- **Order.** Jobs are claimed by (queue in the order wanted, rank, order_at, id), ascending; only those that
  are waiting with no hold.
- **Errors** are jobcard's own (`errors.py`); the driver's stands behind as `__cause__`.
- **Time may be coarse.** A store may round stored instants to milliseconds.
- **Rows are locked in one order**, by ascending `ref`, so that engines do not deadlock; jobs that wait for others, whom
  all know by their ids only, by ascending `id`.
- **A record that cannot be read** goes under hold `broken` and is left out; it never takes others with it.
- **Text is opaque.** Arguments, results, errors come and go as the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple, Protocol

from jobcard.backends.figures import Facts as Facts  # part of the contract
from jobcard.backends.figures import Lines as Lines
from jobcard.backends.figures import Tally as Tally
from jobcard.core.findings import Finding
from jobcard.core.job import Attempt, Claimed, Dependent, JobRow, LogLine, NewJob, OnceKey, Ref, WholeJob
from jobcard.core.rates import QueueLimit, Use
from jobcard.core.states import Change

# ------------------------------------------------------------------ what a store can do


class Capabilities(NamedTuple):
    """How stores differ, as data. Core asks these, never a store's name."""

    max_batch: int
    """The most outcomes, or claims, one exchange takes."""
    own_thread: bool
    """Run `exchange` and `renew` on threads of their own, as all else: a server may hang, and kills must not wait."""
    one_commit_exchange: bool
    """Outcomes and claims of one exchange are stored together or not at all."""
    shared_by_hosts: bool
    """Engines on several machines may use it."""
    survives_process: bool = True
    """False: the jobs live in this process's memory only, so no other process may run them."""
    readonly: bool = False
    """Opened to look only: every verb that may write is a `ConfigError`."""
    follows: bool = False
    """Goes along when its jobs are moved into another store."""
    joins: bool = False
    """New jobs may become part of a transaction of the caller's: `enqueue` takes `within`."""


# ------------------------------------------------------------------ enqueue


class Fate(StrEnum):
    """What became of one job of an enqueue."""

    STORED = "stored"
    REPEATED = "repeated"
    """The same id with the same name and arguments was there: nothing stored, nothing wrong."""
    ID_TAKEN = "id_taken"
    """The same id with other content was there: nothing stored."""
    KEY_TAKEN = "key_taken"
    """Another job has the same unique key and lives, or the same once key and its time is not over: nothing stored.

    A once key whose own job is gone before its time names that job still, also to the same id.
    """
    REPLACED = "replaced"
    """Another job has the key, was waiting, and is to do now what this one was to: its id, this one's content."""


class Enqueued(NamedTuple):
    """The answer for one job. existing: the id of the job that is there, ours if it was stored."""

    fate: Fate
    existing: bytes


# ------------------------------------------------------------------ exchange


class Completions(NamedTuple):
    """Jobs that returned, in columns: the hot path of the whole system.

    started_ago: microseconds from the job's start to this exchange.
    """

    refs: Sequence[Ref] = ()
    tokens: Sequence[int] = ()
    results: Sequence[str | None] = ()
    started_ago: Sequence[int] = ()


class Outcome(NamedTuple):
    """One move of a held job, with the proof of holding it.

    then: up to 1,000 jobs stored in the same atomic step, after the change, if and only if it applies now. One whose
    id is there is left as it is; one whose unique key is taken is not stored. A move that was ours before (`MINE`) has
    stored them; one that the store cannot take refuses the whole outcome. Queues unknown so far get a record, and
    whoever waits for jobs is woken, as by `enqueue`. A sealed store: `StoreMovedError`, nothing of the exchange is
    stored.
    """

    ref: Ref
    token: int
    change: Change
    then: Sequence[NewJob] = ()


class Want(NamedTuple):
    """What an engine would take: from each queue at most so many, in this order, and in all at most `total`.

    limits: of the queues that the engine serves and that are limited over all engines, also of those it wants
    nothing from now. Where one of them has room and jobs in line after an exchange that settled something, and
    nobody took them, a store that can wakes whoever waits for jobs.
    """

    queues: Sequence[tuple[str, int]] = ()
    total: int = 0
    limits: Mapping[str, QueueLimit] = MappingProxyType({})


NO_COMPLETIONS = Completions()
NOTHING = Want()


class Verdict(StrEnum):
    """What became of a write that did not simply apply."""

    MINE = "mine"
    """It had been applied before and the answer was lost: success."""
    LOST = "lost"
    """The claim is gone, or the job is not as the change expects (`hold`, `lapsed`); drop it."""
    REFUSED = "refused"
    """The store cannot take this value; the job is untouched. `why` says more."""


class Refusal(NamedTuple):
    """One write of an exchange that did not simply apply."""

    ref: Ref
    token: int
    verdict: Verdict
    why: str = ""


RELEASED_AT_ONCE = 1_000
"""Delayed jobs that one exchange lets in line at most; while more are due, `Exchanged.next_due` is 0."""


class Exchanged(NamedTuple):
    """A store's answer to an exchange. Writes that applied are not listed."""

    claimed: list[Claimed]
    """Sorted: by place of the queue in `want`, then rank, order_at, id."""
    refusals: list[Refusal]
    cancels: list[tuple[Ref, str]]
    """Jobs of this owner that somebody asked to cancel, and why; those claimed just now included."""
    settings: int
    """Rises with every change of a queue, schedule or order record."""
    next_due: int | None
    """Microseconds until the next delayed job is due (0: more are due than one call releases, or there is more to look
    at behind jobs whose keys are full), or until the rate of a wanted queue with jobs in line lets one more start;
    None: neither."""


class Held(NamedTuple):
    """Some claims, by ascending ref. after: the ref behind which the next ones are; None: that was the end."""

    claims: Sequence[Claimed]
    after: Ref | None


# ------------------------------------------------------------------ looking up


class Filter(NamedTuple):
    """Which jobs: everything given must hold. Empty: all. Instants in microseconds, `after <= created_at < before`."""

    states: Sequence[str] = ()
    queues: Sequence[str] = ()
    names: Sequence[str] = ()
    tags: Sequence[str] = ()
    args: str | None = None
    """Equal to this stored text."""
    error_kind: str | None = None
    batch_id: bytes | None = None
    limit_key: str | None = None
    after: int | None = None
    before: int | None = None
    search: str | None = None
    """This text, taken literally, stands in the name or in the id as text."""
    touched_since: int | None = None
    """Created, claimed, started or finished at this instant or later; of a job that ended only the end counts. Cheap:
    no look at jobs that ended before; where more than `FEW` were touched, a list looks at some thousands at a time."""


FEW = 5_000
"""So many jobs a list may read and sort whole; where more may fit, it walks down the ids and soon has a page."""


class Listed(NamedTuple):
    """Some jobs, newest id first. below: the id under which the next page begins; None: that was the end."""

    rows: Sequence[JobRow]
    below: bytes | None


class Ended(NamedTuple):
    """The end of a job, for those who wait for it."""

    id: bytes
    state: str
    result: str | None
    reason: str | None


class Bucket(NamedTuple):
    """One slice of a chart: jobs by state from `at` (microseconds) on."""

    at: int
    counts: Mapping[str, int]


# ------------------------------------------------------------------ small records


class RecordKind(StrEnum):
    """What small records there are: documents of settings and liveness beside the jobs."""

    QUEUE = "queue"
    SCHEDULE = "schedule"
    """When jobs are made, and which."""
    TICK = "tick"
    """How far a schedule is, by its name; written at every tick, so it is no setting."""
    ENGINE = "engine"
    ORDER = "order"
    """What an operator told an engine, by the engine's id."""
    MOVE = "move"
    """That jobs are on their way from or into this store, and how far they are."""
    AUDIT = "audit"
    """What an operator did, by its time; it is no setting."""


SETTINGS = frozenset({RecordKind.QUEUE, RecordKind.SCHEDULE, RecordKind.ORDER, RecordKind.MOVE})
"""Writing one of these raises `Exchanged.settings`, so that running engines read them again."""


class Record(NamedTuple):
    """A small JSON document. version rises by one at each write. age: microseconds since the last one."""

    key: str
    value: str
    version: int
    age: int


# ------------------------------------------------------------------ hints


class Waker(NamedTuple):
    """How an engine learns that something may have changed without asking. Hints only: polling is the truth.

    fd: becomes readable at a hint; `drain()` empties it, without waiting. Open, and the same, until `close()`, whatever
    becomes of the connection behind it: an engine's selector has it. None: there is nothing to listen to.
    changed: ask it every `interval` seconds; True: look now. None: nothing cheap to ask.
    """

    fd: int | None = None
    drain: Callable[[], None] = lambda: None
    changed: Callable[[], bool] | None = None
    interval: float = 1.0
    close: Callable[[], None] = lambda: None


# ------------------------------------------------------------------ the contract


class Backend(Protocol):
    """A store of jobs. Everything is in the domain's verbs; no method is optional.

    A class for it takes `(url, *, clock=None, patience=None, **options)`. clock: where it tells the time by the
    host, tests give their own. patience: seconds a call may wait for what others hold locked, before
    `StoreUnavailableError`; an engine's is short. For a server that is slow, or far away, its options say how long.
    Connections must survive a fork: the child opens its own.
    """

    capabilities: Capabilities

    # -- schema

    def migrate(self) -> list[int]:
        """Bring the schema to this code's version; the versions applied, [] when it was there. Safe to race."""
        ...

    def rollback(self) -> int | None:
        """Take the newest migration back; its version, None when nothing is left."""
        ...

    def check_schema(self) -> None:
        """`SchemaVersionError` unless the schema has exactly this code's version."""
        ...

    def close(self) -> None:
        """Let go of every connection. Calling it twice is fine."""
        ...

    # -- producing

    def enqueue(self, jobs: Sequence[NewJob], *, within: object | None = None) -> list[Enqueued]:
        """Store up to 1,000 jobs, all or nothing; one answer each, in order. Queues unknown so far get a record.

        One that waits for others is under hold `after` until it is released, whatever its time. Where jobs appear one
        by one, they do so in order: who sees the last one sees all.

        After a failure none or all of them stay, though they may appear over some milliseconds. A job with
        another fate does not stop the others. A sealed store: `StoreMovedError`, checked in the same step.

        Keys are kept by the store itself: of many at once with one key exactly one is stored, and the others are told
        its id, those of the same call too. A once key is a record of its own, which no prune takes before its time: it
        guards against its own job too. A repeat is found by its id while that job is there, and is `REPEATED`; when it
        was deleted, the same id again is `KEY_TAKEN`, and `existing` is that id.
        A job that `replaces` writes itself over the waiting job that has its key, which then is as new but for its
        id, `created_at`, token, both keys and what is recorded of its tries: no attempt or crash is counted, nobody
        asks to cancel it, it has no progress and no checkpoint. Where that job is not waiting it is `KEY_TAKEN`. If it
        stood in line with a limit key, the next ones of that key come in, in the same step, as by `exchange`.

        within: a connection or session whose transaction is open, of a driver that the store names; only a store that
        `joins` is given one. Jobs, keys and queue records are then written by that connection, and are there if and
        only if its transaction commits, which is the caller's to do. Nothing is tried again, and whatever is raised or
        answered leaves the transaction as it was and usable, as far as the server lets it. `ConfigError`: it is none
        of those, in no transaction, or not on this very store. Who stood behind a job that is replaced may come in by
        `let_in` alone, as it is not known when the transaction ends.
        """
        ...

    # -- holding

    def exchange(
        self,
        owner: str,
        *,
        completions: Completions = NO_COMPLETIONS,
        outcomes: Sequence[Outcome] = (),
        want: Want = NOTHING,
        lease: int = 0,
        freed: Collection[str] = (),
    ) -> Exchanged:
        """Release due jobs, settle what ended, claim what is wanted, for `lease` microseconds.

        freed: the limit keys of the jobs that leave work by these completions and outcomes. After them the first jobs
        held by `limit` with such a key are in line. In each queue for itself those with the key that stand in line or
        are held are gone through in claim order: a held one comes in if fewer stand before it than its own limit
        leaves beside those at work with the key in all queues (without a limit: always), and the first one that may
        not ends the walk. So a job in a queue that nobody serves holds up nobody of another queue; where too many come
        in, the claim decides. A store may let in a thousand of a queue at a time. Where this exchange does not claim
        those that it puts back in line, a store that can wakes whoever waits for jobs.
        No claim exceeds a limit, whatever other engines do at the same time. A job whose key is at its limit is put
        under the hold `limit` instead of being claimed; one whose key's rate is used up under `delay` until it has
        room, behind those that the rate put off before, its `order_at` kept. Either way it has spent nothing, and
        those behind it are claimed in its stead. How far one exchange looks past them is bounded: where it stops for
        that, `next_due` is 0, or 10 milliseconds while it waits for others.

        One bad outcome never takes others with it. A completion or outcome whose token matches but whose
        state moved on was ours before: `MINE`. A job that ends gets `expires_at` = now + its `keep`, if it
        has one. An empty `want` settles only. A change's `lines` are kept with the job, the last `LAST_LINES` of
        them and no more than `LINES_TEXT` characters, or somewhat more; the oldest go first.

        After an unknown answer repeat it with an empty `want`: what it claimed is found by `find_held`. A job
        handed back and claimed since by another is `LOST`. A start or note applies again: its lines then stand twice.
        """
        ...

    def renew(self, owner: str, held: Sequence[tuple[Ref, int]], *, lease: int) -> list[Ref]:
        """Hold these claims for another `lease` from now; returns the refs of those that are gone.

        May run beside `exchange`; a job settled meanwhile counts as gone. A lease that has run out is not renewed,
        even if nobody took the job yet: whoever rescues may rely on what it read.
        """
        ...

    def find_held(self, owners: Sequence[str], *, lapsed: bool, limit: int, after: Ref | None = None) -> Held:
        """Claims held by these owners, and with `lapsed` also those of anybody whose lease has run out.

        By ascending ref, at most `limit`, above `after`. Fewer, or none, are no sign of the end: `Held.after` is.

        What a rescue starts from: `states.rescue()` decides, `exchange(outcomes=…)` applies. What is read here
        may be old by then: a lapsed claim is taken only by a change with `lapsed`. A record among them that cannot
        be read is left out; if its lease has run out, it is taken from its holder and goes under hold `broken`.
        """
        ...

    def let_in(self, limit: int) -> int:
        """Put at most so many jobs back in line whose limit key has room again; how many.

        `exchange` does so for the keys that it frees; this is asked now and then, and mends what a death left. It
        holds up nobody while it looks: only keys with room are written.
        """
        ...

    def unpark(self, names: Sequence[str]) -> int:
        """Put jobs parked under these names back in line; how many."""
        ...

    def dependents(self, *, after: bytes | None, limit: int) -> Sequence[Dependent]:
        """Jobs that wait for others (hold `after`), by ascending id, above `after`. Fewer than `limit`: the end.

        Asked every second and at every hint: it costs next to nothing where no job waits for another.
        """
        ...

    def release_dependents(self, those: Sequence[Dependent]) -> int:
        """Put up to 1,000 jobs that wait for others where they belong: in line or, not due, among the delayed.

        How many there were: only those under hold `after` and of the version named. All others stay as they are: one
        that was replaced since it was read may wait for others now. Whether what they waited for has come is said by
        `core/dependencies.py`.
        """
        ...

    # -- operators

    def apply_by_operator(self, job_id: bytes, change: Change) -> JobRow | None:
        """Apply a change to a job whoever holds it; None: no such job, or its state does not allow it.

        The row as it is after the change. `DuplicateJobError` when a living job holds its unique key. Whatever becomes
        of a waiting job with a limit key, the next ones of its key come in, in the same step, as by `exchange`.
        """
        ...

    def prune(self, *, states: Sequence[str], finished_before: int | None, age: int | None, limit: int) -> int:
        """Delete at most `limit` ended jobs in these states; how many.

        finished_before: those that ended before this instant. age: those without a `keep` of their own that
        ended longer ago than this, and any whose own `keep` has run out. Once keys and counted starts whose time is
        over go too, some at each call; those whose time is not over stay, whatever becomes of their jobs.
        """
        ...

    def delete(self, job_ids: Sequence[bytes]) -> int:
        """Delete these jobs if they have ended; how many."""
        ...

    def truncate(self) -> None:
        """Delete every job and record; the schema and the store's identity stay."""
        ...

    # -- looking up

    def get(self, job_ids: Sequence[bytes]) -> list[JobRow]:
        """Those of the jobs that exist, in any order.

        One that cannot be read is left out of several; asked for by itself it is a `CorruptRecordError`.
        """
        ...

    def attempts(self, job_ids: Sequence[bytes]) -> list[Attempt]:
        """The recorded tries of these jobs, oldest first."""
        ...

    def log_lines(self, job_ids: Sequence[bytes]) -> list[LogLine]:
        """The log lines of these jobs, each job's oldest first; deleted with their job."""
        ...

    def ended(self, job_ids: Sequence[bytes]) -> list[Ended]:
        """Those of the jobs that have ended; one cheap query, asked often."""
        ...

    def list(self, where: Filter, *, limit: int, before_id: bytes | None = None) -> Listed:
        """Jobs, newest id first, at most `limit`, below `before_id`.

        One that cannot be read is left out, so fewer, or none, are no sign of the end: `Listed.below` is.
        """
        ...

    def count(self, where: Filter, *, limit: int | None = None) -> dict[str, dict[str, int]]:
        """Jobs by queue and state: {queue: {state: n}}. limit: stop counting a (queue, state) there.

        Without a limit as of one moment, wherever the store can show one: a job that moves meanwhile is counted once.
        """
        ...

    def count_over_time(self, *, first: int, step: int, buckets: int, states: Sequence[str] = ()) -> Sequence[Bucket]:
        """Jobs by present state, each at its latest stamp (finished, started, claimed, created), oldest first.

        states: these alone; none: all. The cost grows with the jobs counted and those at work, not with all stored.
        """
        ...

    def tally(self) -> Tally:
        """The whole store's figures."""
        ...

    def lines(self, *, limit: int) -> Lines:
        """How jobs wait; delayed ones are counted up to a limit, of those due unreleased some are looked at. Cheap."""
        ...

    def usage(self, queues: Sequence[str], keys: Sequence[str]) -> tuple[Mapping[str, Use], Mapping[str, Use]]:
        """How far the limits of these queues, and of these limit keys, are used now, by their names."""
        ...

    # -- small records

    def read_records(self, kind: RecordKind) -> Sequence[Record]:
        """All records of a kind, by key."""
        ...

    def write_record(self, kind: RecordKind, key: str, value: str, *, expect: int | None = None) -> int | None:
        """Write one; its new version. expect: only over this version (0: only if absent), else None."""
        ...

    def remove_record(self, kind: RecordKind, key: str) -> bool:
        """Remove one; False: it was not there."""
        ...

    # -- moving

    def put(self, jobs: Sequence[WholeJob]) -> Sequence[bytes]:
        """Write up to 1,000 jobs as they are, each in place of the one with its id; the ids of those not written.

        Row, tries and log lines become exactly these, token and version included; what was there of the job is gone.
        All or nothing but for those not written: a living job whose unique key another living job has, here or among
        `jobs`. Once keys are not looked at: they are records of their own. Queues unknown so far get a record; nobody
        is woken. Whoever puts sees to it that no engine is at work on these jobs.
        """
        ...

    def versions(self, *, after: bytes | None, limit: int) -> Sequence[tuple[bytes, int]]:
        """(id, version) of jobs by ascending id, above `after`; also of one that cannot be read, with version -1.

        Every change of a job but a renewal raises its version, so who knows the version knows whether it has changed.
        Fewer than `limit`: that was the end.
        """
        ...

    def once_keys(self, *, after: str | None, limit: int) -> Sequence[OnceKey]:
        """Once keys in force, by ascending key, above `after`. Fewer than `limit`: that was the end."""
        ...

    def put_once_keys(self, keys: Sequence[OnceKey]) -> None:
        """Write up to 1,000 once keys as they are, in place of those that are there."""
        ...

    def erase(self, job_ids: Sequence[bytes]) -> int:
        """Delete up to 1,000 jobs in whatever state they are, and all that belongs to them; how many were there.

        Their once keys stay. For whoever puts jobs, to take back what has gone from where they come from.
        """
        ...

    def seal(self, word: str | None) -> None:
        """Close this store to every writer, or with None open it again.

        A barrier that the store itself keeps up, also against code that knows nothing of it: when this returns, every
        transaction that was open has ended and each later write of jobs, tries, lines, once keys and records by anyone
        raises `StoreMovedError` and changes nothing: `enqueue`, `exchange` (whatever it brings or wants), `renew`,
        changes by operators, `prune`, `put`, records. Reading goes on. `Facts.seal` is the word. Sealing a sealed store
        changes the word; migrations, `truncate` and `seal` itself are not stopped. It waits for writers that are open,
        for as long as the store's patience; then `StoreUnavailableError`, and nothing is sealed.
        """
        ...

    # -- itself

    def facts(self) -> Facts:
        """Versions, identity, size, the store's time; proves that it answers."""
        ...

    def examine(self) -> Sequence[Finding]:
        """What an operator should know: driver and server, what they survive, the way to them, jobs set aside.

        A finding for every point that was looked at, also for one that is as it should be. Never raises: a store that
        does not answer, or refuses us, is a finding behind those that need no answer. Needs no schema, changes nothing,
        and its cost does not grow with the jobs that are stored. Those that weaken durability are `Facts.problems`.
        """
        ...

    def waker(self) -> Waker:
        """A new waker; the caller closes it."""
        ...
