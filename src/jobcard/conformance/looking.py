"""The steps of a random history that look things up, and those of the small records."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import rule

from jobcard.backends.base import Backend, Filter, RecordKind
from jobcard.conformance.drawing import ENDED_STATES, LEASE, LIMIT_KEYS, NAMES, QUEUE_RATE, QUEUES, RATE_PER, picks
from jobcard.conformance.history import History
from jobcard.conformance.pair import listed, without_zeros
from jobcard.core.clock import DAY, SECOND
from jobcard.core.rates import Rate


class Looking(History):
    """Looks at both, and compares."""

    @rule(
        states_=st.lists(st.sampled_from([*ENDED_STATES, "waiting", "claimed", "running"]), max_size=2, unique=True),
        queues=st.lists(st.sampled_from([*QUEUES, "nowhere"]), max_size=2, unique=True),
        names=st.lists(st.sampled_from(NAMES), max_size=1),
        tags=st.sampled_from([[], [], ["a"], ["b", "a"]]),
        search=st.sampled_from([None, None, "ai", "%", "-0000-"]),
        since=st.sampled_from([None, None, 0, LEASE]),
        touched=st.sampled_from([None, None, 0, LEASE]),
        error_kind=st.sampled_from([None, None, "X", "lost"]),
        limit_key=st.sampled_from([None, None, None, *LIMIT_KEYS[:2]]),
        limit=st.integers(1, 30),
        number=picks,
    )
    def list_and_count(
        self,
        states_: list[str],
        queues: list[str],
        names: list[str],
        tags: list[str],
        search: str | None,
        since: int | None,
        touched: int | None,
        error_kind: str | None,
        limit_key: str | None,
        limit: int,
        number: int,
    ) -> None:
        where = Filter(
            states=states_,
            queues=queues,
            names=names,
            tags=tags,
            search=search,
            after=None if since is None else self.clock.now() - since,
            touched_since=None if touched is None else self.clock.now() - touched,
            error_kind=error_kind,
            limit_key=limit_key,
        )
        below = self.pick(number, lambda row: True) if number % 2 else None
        before_id = None if below is None else below.id
        self.pair.on_both(lambda backend: listed(backend, where, limit, before_id))
        self.pair.on_both(lambda backend: without_zeros(backend.count(where)))
        self.pair.on_both(lambda backend: without_zeros(backend.count(where, limit=3)))
        if below is not None:
            self.pair.on_both(lambda backend: listed(backend, Filter(), limit, below.id))
            self.pair.on_both(lambda backend: backend.attempts([below.id]))

    @rule(since=st.sampled_from([0, 1_000, SECOND, LEASE, DAY]), limit=st.integers(1, 30))
    def list_touched(self, since: int, limit: int) -> None:
        where = Filter(touched_since=self.clock.now() - since)
        self.pair.on_both(lambda backend: listed(backend, where, limit))
        self.pair.on_both(lambda backend: without_zeros(backend.count(where)))

    @rule(step=st.sampled_from([SECOND, LEASE, DAY]), buckets=st.integers(1, 5))
    def chart(self, step: int, buckets: int) -> None:
        first = self.clock.now() - step * (buckets - 1)
        self.pair.on_both(
            lambda backend: [
                (bucket.at, {state: n for state, n in bucket.counts.items() if n})
                for bucket in backend.count_over_time(first=first, step=step, buckets=buckets)
            ]
        )

    @rule(
        kind=st.sampled_from(RecordKind),
        key=st.sampled_from(["x", "y"]),
        expect=st.sampled_from([None, None, 0, 1, 2]),
        remove=st.integers(0, 3),
    )
    def keep_records(self, kind: RecordKind, key: str, expect: int | None, remove: int) -> None:
        if remove == 0:
            self.pair.on_both(lambda backend: backend.remove_record(kind, key))
        else:
            self.pair.on_both(lambda backend: backend.write_record(kind, key, f'"{len(self.jobs)}"', expect=expect))
        # The text of a record that an enqueue made is the store's affair.
        self.pair.on_both(
            lambda backend: [
                (record.key, record.version, max(0, record.age))
                for record in backend.read_records(kind)
                if kind is not RecordKind.QUEUE or record.key in ("x", "y")
            ]
        )

    @rule()
    def how_far_limits_are_used(self) -> None:
        now = self.clock.now()

        def used(backend: Backend) -> tuple[object, object]:
            queues, keys = backend.usage([*QUEUES, "nowhere"], [*LIMIT_KEYS, "nobody"])
            return (
                {name: (use.at_work, use.starts.room(QUEUE_RATE, now)) for name, use in queues.items()},
                {name: (use.at_work, use.starts.room(Rate(4, RATE_PER), now)) for name, use in keys.items()},
            )

        self.pair.on_both(used)
