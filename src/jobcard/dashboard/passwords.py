"""Passwords and their hashes. A hash is text: `scrypt$15$8$3$salt$digest`, the numbers being what it cost."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets

from jobcard.errors import ConfigError

SHORTEST, LONGEST = 8, 1_000
_LOG_N, _R, _P = 15, 8, 3
_MOST_MEMORY = 256 << 20


def hash_password(password: str, *, log_n: int = _LOG_N) -> str:
    """A hash of a password; `ConfigError` for one that is too short. log_n: what it costs, twice as much for each."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise ConfigError(f"a password has {SHORTEST} to {LONGEST:,} characters")
    salt = secrets.token_bytes(16)
    digest = _derive(password, salt, log_n, _R, _P)
    return "$".join(("scrypt", str(log_n), str(_R), str(_P), _to_text(salt), _to_text(digest)))


def matches(password: str, hashed: str) -> bool:
    """Whether a password has this hash; takes as long whether it has or not. False for what is no hash of ours."""
    try:
        kind, log_n, r, p, salt, digest = hashed.split("$")
        cost = int(log_n), int(r), int(p)
        if kind != "scrypt" or not (1 <= cost[0] <= 20 and 1 <= cost[1] <= 16 and 1 <= cost[2] <= 16):
            return False
        wanted = base64.urlsafe_b64decode(digest)
        found = _derive(password[:LONGEST], base64.urlsafe_b64decode(salt), *cost)
    except ValueError:
        return False
    return hmac.compare_digest(found, wanted)


def _derive(password: str, salt: bytes, log_n: int, r: int, p: int) -> bytes:
    plain = password.encode("utf-8", "surrogatepass")
    return hashlib.scrypt(plain, salt=salt, n=1 << log_n, r=r, p=p, maxmem=_MOST_MEMORY, dklen=32)


def _to_text(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode("ascii")
