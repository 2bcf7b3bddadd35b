"""Writing into a store behind its back, as somebody with a console of its database would: any kind, by URL."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from jobcard.backends.url import parse


def spoil(url: str, job_id: bytes, **fields: object) -> None:
    """Set fields of a stored job to these values, whatever they are; None: to nothing."""
    scheme = parse(url, several_hosts=True).scheme
    [(_, write)] = [(name, write) for name, write in _WRITERS.items() if re.fullmatch(name, scheme)]
    write(url, job_id, fields)


def set_schema_version(url: str, version: int) -> None:
    """Say that the schema has this version."""
    scheme = parse(url, several_hosts=True).scheme
    prefix = _prefix(url)
    if scheme == "sqlite":
        _on_sqlite(url, _update(f"{prefix}meta", ("value",), "?", "key = 'schema'"), version)
    elif scheme.startswith("postgres"):
        _on_postgres(url, _update(f"{prefix}meta", ("schema_version",), "%s", "true"), version)
    elif scheme in ("mysql", "mariadb"):
        on_mysql(url, _update(f"{prefix}meta", ("number",), "%s", "name = 'schema'"), version)
    elif scheme == "mongodb":
        with _mongo(url) as client:
            records = client.get_default_database()[f"{prefix}.records"]
            assert records.update_one({"schema": {"$exists": True}}, {"$set": {"schema": version}}).matched_count == 1
    else:
        _redis(url).hset(f"{{{prefix}}}:meta", "schema", version)


def _prefix(url: str, default: str = "jobcard_") -> str:
    return parse_qs(urlsplit(url).query).get("prefix", [default])[0]


def _update(table: str, fields: Iterable[str], mark: str, where: str) -> str:
    return " ".join(("update", table, "set", ", ".join(f"{name} = {mark}" for name in fields), "where", where))


def _on_sqlite(url: str, sql: str, *values: object) -> None:
    import apsw

    connection = apsw.Connection(parse(url).path)
    connection.execute("pragma ignore_check_constraints = on")
    connection.execute(sql, values)
    connection.close()


def _sqlite(url: str, job_id: bytes, fields: Mapping[str, object]) -> None:
    table = f"{_prefix(url)}jobs"
    _on_sqlite(url, _update(table, fields, "?", "id = ?"), *fields.values(), job_id)


def _without_prefix(url: str) -> str:
    return url.partition("?")[0]


def _on_postgres(url: str, sql: str, *values: object) -> None:
    import psycopg

    with psycopg.connect(_without_prefix(url), autocommit=True) as connection:
        connection.execute(sql, values)  # type: ignore[call-overload]


def _postgres(url: str, job_id: bytes, fields: Mapping[str, object]) -> None:
    from uuid import UUID

    table = f"{_prefix(url)}jobs"
    for column in ("state", "hold", "attempt"):
        _on_postgres(url, f"alter table {table} drop constraint if exists {table}_{column}_check")
    _on_postgres(url, _update(table, fields, "%s", "id = %s"), *fields.values(), UUID(bytes=job_id))


def on_mysql(url: str, sql: str, *values: object) -> None:
    import pymysql

    parts = parse(url)
    connection = pymysql.connect(
        host=parts.host,
        port=parts.port or 3306,
        user=parts.user,
        password=(parts.password or "").encode(),
        database=parts.path,
        autocommit=True,
    )
    with connection, connection.cursor() as cursor:
        cursor.execute(sql, values)


def _mysql(url: str, job_id: bytes, fields: Mapping[str, object]) -> None:
    table = f"{_prefix(url)}jobs"
    on_mysql(url, _update(table, fields, "%s", "id = %s"), *fields.values(), job_id)


def _mongo(url: str) -> Any:
    from pymongo import MongoClient

    return MongoClient[dict[str, Any]](re.sub(r"[?&]prefix=\w+", "", url))


def _mongodb(url: str, job_id: bytes, fields: Mapping[str, object]) -> None:
    with _mongo(url) as client:
        jobs = client.get_default_database()[f"{_prefix(url)}.jobs"]
        steps: dict[str, dict[str, object]] = {}
        for name, value in fields.items():
            steps.setdefault("$unset" if value is None else "$set", {})[name] = value
        assert jobs.update_one({"_id": job_id}, steps).matched_count == 1


def _redis(url: str) -> Any:
    from redis import Redis

    parts = parse(url)
    return Redis(host=parts.host or "localhost", port=parts.port or 6379, db=int(parts.path), password=parts.password)


def _redis_like(url: str, job_id: bytes, fields: Mapping[str, object]) -> None:
    from jobcard.backends.redis.rows import LIVE, pack, unpack

    key = f"{{{_prefix(url)}}}:live"
    client = _redis(url)
    live = unpack(client.hget(key, job_id.hex()))
    for name, value in fields.items():
        live[LIVE.index(name)] = False if value is None else value
    client.hset(key, job_id.hex(), pack(live))


_WRITERS = {
    "sqlite": _sqlite,
    "postgres(ql)?": _postgres,
    "mysql|mariadb": _mysql,
    "mongodb": _mongodb,
    "redis|valkey": _redis_like,
}
