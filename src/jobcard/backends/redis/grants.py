"""What each role may do in Redis and Valkey, as the line that an administrator runs once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from jobcard.backends.redis.keys import Keys
from jobcard.backends.roles import Role
from jobcard.errors import ConfigError

_NAME = re.compile(r"[^\s\x00-\x1f'\"\\]{1,100}")

_READS = (
    "ping", "select", "info", "time", "eval", "evalsha", "subscribe",
    "hget", "hmget", "hgetall", "hexists", "hlen", "hscan",
    "zscore", "zcount", "zrange", "zrangebyscore", "zrangebylex", "zrevrangebylex", "zlexcount",
)  # fmt: skip
_ADDS = ("hset", "hsetnx", "hincrby", "zadd", "zremrangebyscore", "publish")
_TAKES = ("hdel", "zrem", "zremrangebylex", "sadd", "srem", "unlink")
_ON_A_CLUSTER = ("cluster|slots",)
_WAITS = ("wait",)

RIGHTS: Mapping[Role, Sequence[str]] = {
    Role.ENGINE: (*_READS, *_ADDS, *_TAKES),
    Role.PRODUCER: (*_READS, *_ADDS),
    Role.VIEWER: _READS,
    # There is no schema to keep from an engine: keys come and go with what is in them.
    Role.MIGRATION: (*_READS, *_ADDS, *_TAKES),
}
"""The commands of each role, all on the keys of one prefix. Scripts run with the rights of whoever sends them."""


def grants(role: Role, user: str, *, prefix: str, cluster: bool = False, waits: bool = False) -> list[str]:
    """The statement that gives a user what a role needs, and takes away what it had; on a cluster run it on each node.

    cluster: the store is on one. waits: it waits for replicas.
    """
    if not _NAME.fullmatch(user) or user == "default":
        raise ConfigError(
            f"{user[:80]!r} cannot be a user of its own in Redis: no spaces and quotes, and not `default`"
        )
    commands = [*RIGHTS[role], *(_ON_A_CLUSTER if cluster else ()), *(_WAITS if waits else ())]
    bell = Keys(prefix).bell
    # Quoted for redis-cli, which takes both as a shell would.
    rules = ["resetkeys", f'"~{{{prefix}}}:*"', "resetchannels", f'"&{bell}"', "-@all"]
    return [" ".join(["ACL SETUSER", user, "on", *rules, *(f"+{command}" for command in commands)])]
