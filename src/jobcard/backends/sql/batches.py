"""The jobs of a batch, along an index of their own: queue by queue, and in each state by state.

A job keeps its queue. So whoever knows the queues of a batch and then looks at all of them at once sees all its jobs,
each in one state, though they go from state to state meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jobcard.backends.base import Filter
from jobcard.backends.sql.connection import Connection
from jobcard.backends.sql.statements import Statements
from jobcard.core.states import JobState


class Batch:
    """Those jobs of a batch that a filter may find: each of its queues, and of each the states that are wanted."""

    def __init__(self, connection: Connection, sql: Statements, where: Filter) -> None:
        self._connection = connection
        self._sql = sql
        self._queues = self._queues_of(where.batch_id)
        self._states = [state.value for state in JobState if not where.states or state in where.states]

    def _queues_of(self, batch_id: bytes | None) -> list[str]:
        found: list[str] = []
        text, at = self._sql["next_of_batch"], {"batch_id": batch_id, "queue": ""}
        while rows := self._connection.execute(text, at):
            found.append(rows[0][0])
            at["queue"] = found[-1]
        return found

    def _union(self, name: str, condition: str) -> str:
        """One statement, of a part for each queue and state; in one that counts a queue is called by its place."""
        text = self._sql[name].replace("{source}", self._sql.part("{prefix}jobs as job{along by_batch}"))
        return " union all ".join(
            text.replace("{state}", state)
            .replace("{queue}", str(place))
            .replace("{where}", f"job.queue = %(queue_{place})s and job.batch_state = '{state}' and {condition}")
            for state in self._states
            for place in range(len(self._queues))
        )

    def refs(self, condition: str) -> str:
        """What finds the refs of the newest jobs, a page of each queue and state; empty: there are none."""
        return self._union("newest_refs", condition)

    @property
    def values(self) -> Mapping[str, object]:
        """What belongs to it."""
        return {f"queue_{place}": queue for place, queue in enumerate(self._queues)}

    def count(self, condition: str, values: Mapping[str, object], limit: int | None) -> Sequence[tuple[str, str, int]]:
        """(state, queue, number), none counted further than the limit; all as of one moment."""
        text = self._union("count_line" if limit is None else "count_line_to", condition)
        if not text:
            return []
        found = self._connection.execute(text, {**values, **self.values, "most": limit})
        return [(state, self._queues[place], number) for state, place, number in found if number]
