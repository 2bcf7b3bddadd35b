"""What Redis says when it fails, in jobcard's words; by the code that its message begins with."""

from __future__ import annotations

from redis import exceptions as redis

from jobcard.backends.door import Door
from jobcard.backends.redis.scripts import migrations
from jobcard.backends.verbs import NotAllowedError
from jobcard.errors import (
    AccessDeniedError,
    ConfigError,
    JobcardError,
    SchemaVersionError,
    StoreError,
    StoreFullError,
    StoreMovedError,
    StoreUnavailableError,
)

_FOR_NOW = frozenset(
    {"LOADING", "READONLY", "MASTERDOWN", "BUSY", "TRYAGAIN", "CLUSTERDOWN", "NOREPLICAS", "MOVED", "ASK", "UNKILLABLE"}
)


def _code_of(error: BaseException) -> str:
    # A script's own errors begin with their code; those of a command in a script may have it later in older servers.
    # The driver takes a plain ERR away.
    word = str(error).lstrip("-").partition(" ")[0].rstrip(":")
    return word if word.isupper() else "ERR"


def translate(error: BaseException) -> JobcardError | None:
    """The jobcard error for a driver's; None: it is none of the driver's."""
    if not isinstance(error, redis.RedisError):
        return None
    if isinstance(error, redis.NoPermissionError):
        return NotAllowedError(f"this Redis user may not do that: {error}")
    if isinstance(error, (redis.AuthenticationError, redis.AuthorizationError)):
        return AccessDeniedError(f"Redis does not let us in: {type(error).__name__}")
    if isinstance(error, redis.OutOfMemoryError):
        return StoreFullError("Redis has no memory left; nothing was stored")
    if isinstance(error, redis.MovedError):  # on a cluster it is followed
        return ConfigError("this server is a node of a cluster, and our keys are on another: add cluster=1 to the URL")
    if isinstance(error, (redis.AskError, redis.ClusterDownError)):
        return StoreUnavailableError(f"the Redis Cluster cannot take this now: {type(error).__name__}")
    if isinstance(error, (redis.BusyLoadingError, redis.ReadOnlyError, redis.MasterDownError, redis.TryAgainError)):
        return StoreUnavailableError(f"Redis cannot take this now: {type(error).__name__}")
    if isinstance(error, (redis.ConnectionError, redis.TimeoutError)):
        return StoreUnavailableError(f"Redis does not answer: {type(error).__name__}")
    code = _code_of(error)
    match code:
        case "JOBCARDSCHEMA":
            return SchemaVersionError(0, migrations()[-1].number)
        case "JOBCARDSEALED":
            return StoreMovedError("this store was sealed: its jobs live elsewhere now")
        case "OOM":
            return StoreFullError("Redis has no memory left; nothing was stored")
        case "MISCONF":
            return StoreFullError("Redis cannot write to its disk; nothing was stored")
        case "NOPERM":
            return NotAllowedError("this Redis user may not do that; `ACL LOG` on the server says what it was")
        case "NOAUTH" | "WRONGPASS":
            return AccessDeniedError(f"Redis does not let us in: {code}")
        case "WRONGTYPE":
            return StoreError("a key with our prefix is not ours: choose another prefix")
    if code in _FOR_NOW:
        return StoreUnavailableError(f"Redis cannot take this now: {code}")
    return StoreError(f"Redis failed: {code}")


def may_be_a_refusal(error: BaseException) -> bool:
    """Whether the server says nothing that we know: inside a script a missing right may look so."""
    return type(error) is redis.ResponseError and type(translate(error)) is StoreError


driver_errors = Door(translate)
