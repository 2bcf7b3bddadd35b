"""The jobs of a batch, found queue by queue along an index of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jobcard.backends.sql.connection import Connection
from jobcard.backends.sql.statements import Statements


def source(sql: Statements) -> str:
    """Where the jobs of a batch are."""
    return sql.part("{prefix}jobs as job{along by_batch}")


def count(
    connection: Connection,
    sql: Statements,
    states: Sequence[str],
    condition: str,
    values: Mapping[str, object],
    limit: int | None,
) -> list[tuple[str, str, int]]:
    """(state, queue, number) of the jobs of a filter that names a batch, none counted further than the limit.

    As of one moment, though by several looks: a job keeps its queue, so one that goes from state to state meanwhile is
    in the queues that are known, and all of them are counted at once.
    """
    queues = _queues(connection, sql, values["batch_id"])
    if not queues:
        return []
    given = {**values, "most": limit, **{f"queue_{place}": queue for place, queue in enumerate(queues)}}
    text = sql["count" if limit is None else "count_to"].replace("{source}", source(sql))
    parts = [
        text.replace("{state}", state)
        .replace("{queue}", str(place))
        .replace("{where}", f"{condition} and job.queue = %(queue_{place})s and job.batch_state = '{state}'")
        for state in map(str, states)
        for place in range(len(queues))
    ]
    found = connection.execute(" union all ".join(parts), given)
    return [(state, queues[queue] if limit is not None else queue, number) for state, queue, number in found if number]


def _queues(connection: Connection, sql: Statements, batch_id: object) -> list[str]:
    found: list[str] = []
    while rows := connection.execute(sql["next_of_batch"], {"batch_id": batch_id, "queue": found[-1] if found else ""}):
        found.append(rows[0][0])
    return found
