"""The schema's version: migrations up and down, each step one script that looks at the version again."""

from __future__ import annotations

import secrets
from typing import Any

from jobcard.backends.redis import checkup, rights, rows, scripts
from jobcard.backends.redis.keys import Keys
from jobcard.core.clock import Clock
from jobcard.errors import ConfigError, SchemaVersionError


def version(client: Any, keys: Keys) -> int:
    """The version found; 0: there is none."""
    found = client.hget(keys.meta, "schema")
    if found is None:
        return 0
    if not found.isdigit():
        raise ConfigError(f"the key {keys.meta!r} holds no schema version: it is damaged or not jobcard's")
    return int(found)


def check(client: Any, keys: Keys) -> None:
    """`SchemaVersionError` unless this is exactly this code's version."""
    found, wanted = version(client, keys), scripts.migrations()[-1].number
    if found != wanted:
        raise SchemaVersionError(found, wanted)
    _refuse_eviction(client)


def migrate(client: Any, keys: Keys, clock: Clock | None) -> list[int]:
    """Bring the schema to this code's version; the versions that this call applied."""
    _refuse_eviction(client)
    known = scripts.migrations()
    if version(client, keys) > known[-1].number:
        check(client, keys)
    applied = []
    for migration in known:
        if _step(client, keys, clock, migration.number - 1, migration.number, migration.up):
            applied.append(migration.number)
    return applied


def rollback(client: Any, keys: Keys, clock: Clock | None) -> int | None:
    """Take the newest migration back; its version, None when nothing is left."""
    known = scripts.migrations()
    while (found := version(client, keys)) > 0:
        if found > known[-1].number:
            raise SchemaVersionError(found, known[-1].number)
        if _step(client, keys, clock, found, found - 1, known[found - 1].down):
            return found
    return None


def _step(client: Any, keys: Keys, clock: Clock | None, before: int, after: int, step: scripts.Script) -> bool:
    """One step up or down, if the version is still the one before it; in as many scripts as it says."""
    now = False if clock is None else clock.now()
    guard = f"local found=tonumber(redis.call('HGET',K_meta,'schema') or 0)\nif found~={before} then return 0 end\n"
    finish = f"\nredis.call('HSET',K_meta,'schema',{after})\nreturn 1\n" if after else "\nreturn 1\n"
    head, body = step.text.split("local NUL = '\\0'\n", 1)
    text = f"{head}local NUL = '\\0'\n{scripts.spell_out(guard)}{body}{scripts.spell_out(finish)}"
    arguments = (rows.pack([now]), secrets.token_hex(16))
    with rights.refusals_named(client, step, keys):
        while (answer := client.eval(text, len(keys.all), *keys.all, *arguments)) == scripts.MORE:
            pass
        return bool(answer)


def _refuse_eviction(client: Any) -> None:
    if (policy := checkup.eviction(client.info("memory"))) is not None:
        raise ConfigError(
            f"this Redis throws keys away when it is full (maxmemory-policy {policy}), and so would lose jobs: "
            "set maxmemory-policy noeviction"
        )
