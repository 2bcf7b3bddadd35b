"""Which right a script lacks: a server may say no more than that it failed.

Redis 7.0 answers with a plain `ERR` where the user may not run a command that a script uses. So after such an answer
each command of the script is tried in a way that changes nothing, and those that are refused are named.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redis.exceptions import RedisError, ResponseError

from jobcard.backends.redis.errors import may_be_a_refusal
from jobcard.backends.redis.keys import Keys
from jobcard.backends.redis.scripts import Script
from jobcard.backends.verbs import NotAllowedError

_USED = re.compile(r"redis\.call\('([A-Z]+)'")

# On the hash of a store that is there: a hash is no sorted set, and its mark of a write says nothing.
_TRIALS = {
    "TIME": (),
    "PUBLISH": ("bell", "''"),
    "HSET": ("meta", "'touched'", "1"),
    "HSETNX": ("meta", "'touched'", "1"),
    "HINCRBY": ("meta", "'touched'", "0"),
    "HDEL": ("meta", "'trial'"),
    "HGET": ("meta", "'schema'"),
    "HMGET": ("meta", "'schema'"),
    "HGETALL": ("meta",),
    "HEXISTS": ("meta", "'schema'"),
    "HLEN": ("meta",),
    "HSCAN": ("meta", "'0'"),
    "ZADD": ("meta", "'XX'", "0", "'trial'"),
    "ZREM": ("meta", "'trial'"),
    "ZSCORE": ("meta", "'trial'"),
    "ZCOUNT": ("meta", "0", "1"),
    "ZRANGE": ("meta", "0", "1"),
    "ZRANGEBYSCORE": ("meta", "0", "1"),
    "ZRANGEBYLEX": ("meta", "'-'", "'+'"),
    "ZREVRANGEBYLEX": ("meta", "'+'", "'-'"),
    "ZLEXCOUNT": ("meta", "'-'", "'+'"),
    "ZREMRANGEBYSCORE": ("meta", "1", "0"),
    "ZREMRANGEBYLEX": ("meta", "'(-'", "'(-'"),
    "SADD": ("meta", "'trial'"),
    "SREM": ("meta", "'trial'"),
    "UNLINK": ("trial",),
}
_BEFORE = """
local meta, trial, bell, refused = KEYS[1], KEYS[2], ARGV[1], {}
local function try(name, ...)
  local answer = redis.pcall(name, ...)
  if type(answer) == 'table' and answer.err and not string.find(answer.err, 'WRONGTYPE', 1, true) then
    refused[#refused + 1] = name
  end
  return answer
end
if try('HEXISTS', meta, 'schema') ~= 1 then return refused end
"""


@contextmanager
def refusals_named(client: Any, script: Script, keys: Keys) -> Iterator[None]:
    """A right that is missing inside a script is an error that names it."""
    try:
        yield
    except ResponseError as error:
        if may_be_a_refusal(error) and (names := refused(client, script, keys)):
            raise NotAllowedError(f"this Redis user may not run {' '.join(names)}") from error
        raise


def refused(client: Any, script: Script, keys: Keys) -> list[str]:
    """The commands of a script that the server does not let this user run; none when it failed for another reason."""
    used = [name for name in _TRIALS if name in set(_USED.findall(script.text)) - {"HEXISTS"}]
    text = _BEFORE + "".join(f"try({', '.join([repr(name), *_TRIALS[name]])})\n" for name in used) + "return refused\n"
    try:
        found = client.eval(text, 2, keys.meta, f"{keys.meta}:trial", keys.bell)
    except RedisError:
        return []
    return [name.decode().lower() for name in found]
