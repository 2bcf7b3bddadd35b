"""What an operator should know about a Redis or Valkey store: what it forgets or throws away, and the way to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import redis

from jobcard.backends.redis.keys import Keys
from jobcard.backends.url import StoreURL, is_this_machine
from jobcard.core import findings
from jobcard.core.findings import MOST_HELD, Finding, error, note, ok, warning

Info = dict[str, Any]

OLDEST = (6, 2)
_OLDEST_DRIVER = (5,)
_HOW = "`config set {}`, then `config rewrite` (or the same in the server's configuration file)"


def ask(client: Any) -> Info:
    """What the server tells of itself: `info`, and `appendfsync` where this user may read settings."""
    info: Info = client.info()
    try:
        return {**info, "appendfsync": client.config_get("appendfsync").get("appendfsync")}
    except redis.ResponseError:  # an ACL, or a provider who has no such command
        return info


def driver() -> Finding:
    """The driver's version."""
    return findings.version(
        "versions.driver", "redis-py", redis.__version__, _OLDEST_DRIVER, "pip install --upgrade 'jobcard[redis]'"
    )


def server(info: Info) -> Finding:
    """The server's version."""
    if found := info.get("valkey_version"):
        return findings.version("versions.server", "Valkey", str(found), OLDEST, "upgrade the server")
    return findings.version(
        "versions.server", "Redis", str(info.get("redis_version", "0")), OLDEST, "upgrade the server"
    )


def durability(info: Info) -> list[Finding]:
    """What the newest confirmed jobs outlive, and whether the server keeps them at all."""
    return [_append_only(info), _appendfsync(info), _eviction(info), _standby(info), _survives(info)]


def _append_only(info: Info) -> Finding:
    code, subject = "durability.appendonly", "appendonly"
    if not info.get("aof_enabled"):
        text = "appendonly is off: jobs since the last snapshot are lost when the server dies"
        return error(code, subject, text, _HOW.format("appendonly yes"))
    if info.get("aof_last_write_status", "ok") != "ok":
        return error(code, subject, "the append-only file cannot be written", "look at the server's disk and its log")
    return ok(code, subject, "appendonly is on")


def _appendfsync(info: Info) -> Finding:
    code, subject, value = "durability.appendfsync", "appendfsync", info.get("appendfsync")
    fix = _HOW.format("appendfsync always")
    if value is None:
        return note(
            code, subject, "this user may not read the server's appendfsync", f"see that it is as you want it, {fix}"
        )
    if value == "no":
        text = "appendfsync=no: what the system has not written by itself, half a minute maybe, is lost with the power"
        return warning(code, subject, text, fix)
    if value == "everysec":
        text = "appendfsync=everysec: the last second or two are lost with the power"
        return note(code, subject, text, f"{fix}; each write then waits for the disk")
    return ok(code, subject, f"appendfsync={value}: each write waits for the disk")


def eviction(info: Info) -> str | None:
    """The policy by which the server drops our keys when it is full; None: it does not, or does not say."""
    policy = str(info.get("maxmemory_policy", "noeviction"))
    return policy if info.get("maxmemory", 0) and policy.startswith("allkeys") else None


def _eviction(info: Info) -> Finding:
    code, subject = "durability.eviction", "maxmemory-policy"
    policy, fix = info.get("maxmemory_policy", "noeviction"), _HOW.format("maxmemory-policy noeviction")
    if eviction(info) is not None:
        text = f"maxmemory-policy {policy} throws jobs away when memory is full"
        return error(code, subject, text, fix)
    if str(policy).startswith("allkeys"):
        text = f"maxmemory-policy {policy} would throw jobs away as soon as there is a maxmemory, now there is none"
        return note(code, subject, text, fix)
    return ok(code, subject, f"maxmemory-policy {policy} leaves jobs alone")


def _standby(info: Info) -> Finding:
    code, subject = "durability.standby", "role"
    if info.get("role") == "slave":
        return error(
            code, subject, "the server is a replica: nothing can be stored in it", "give the URL of the primary"
        )
    return ok(code, subject, "the server takes writes")


def _survives(info: Info) -> Finding:
    if not info.get("aof_enabled"):
        text = "confirmed jobs do not outlive the server's process: those since the last snapshot are gone"
        return findings.survives("this store", text)
    power = {
        "always": "and the loss of power",
        "everysec": "but not the loss of power: the last second or two are gone",
        "no": "but not the loss of power",
    }.get(info.get("appendfsync", ""), "and the loss of power with appendfsync=always only")
    return findings.survives(
        "this store",
        f"confirmed jobs outlive the server's process, {power}; the newest may not outlive a fail-over: replication is "
        f"asynchronous ({info.get('connected_slaves', 0)} replicas)",
    )


# ------------------------------------------------------------------ the way to it


def way(url: StoreURL) -> Iterator[Finding]:
    """Who can read along, and who is let in."""
    local, subject = is_this_machine(url.host), url.host or "localhost"
    secret = url.scheme in ("rediss", "valkeys")
    yield findings.secrecy(
        subject, local=local, encrypted=secret, fix="give the server a certificate (tls-port) and write rediss://"
    )
    yield findings.password(
        subject, local=local, given=bool(url.password), fix="`config set requirepass …`, and redis://:PASSWORD@host"
    )


def set_aside(client: Any, keys: Keys) -> list[Finding]:
    """Jobs out of the line: by the index of parked jobs, which begins with their names, and the set of broken ones."""
    numbers: dict[str | None, int] = {None: min(MOST_HELD, client.scard(keys.broken))}
    for member in client.zrange(keys.parked, 0, MOST_HELD - 1):
        name = member.partition(b"\0")[0].decode(errors="replace")
        numbers[name] = numbers.get(name, 0) + 1
    return findings.set_aside(numbers.items())
