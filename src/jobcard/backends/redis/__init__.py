"""Jobs in Redis or Valkey: `redis://`, `rediss://`, `valkey://`, `valkeys://`."""

from jobcard.backends.redis.backend import RedisBackend

__all__ = ["RedisBackend"]
