"""Sessions in a signed cookie: who signed in, and the secret of a browser that its forms must know.

cookie: base64 of {"id": …, "user": name or null, "proof": of the password, "seen": seconds} "." its signature
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

IDLE_SECONDS = 8 * 3600
REFRESH_SECONDS = 300
_MOST_ENDED = 10_000
_MOST_TEXT = 2_000


@dataclass(frozen=True, slots=True)
class Session:
    """One browser's. user: who signed in there; None: nobody. proof: changes with the user's password."""

    id: str
    user: str | None
    proof: str
    seen: int


class Sessions:
    """Makes, reads and ends them; any thread may use it."""

    def __init__(self, key: bytes, *, clock: Callable[[], float] = time.time) -> None:
        self.key = self._key = hmac.digest(key, b"jobcard dashboard", "sha256")
        self._clock = clock
        self._ended: dict[str, int] = {}
        self._lock = threading.Lock()
        self.cookie = "jobcard_" + hmac.new(self._key, b"cookie", "sha256").hexdigest()[:8]
        """Its name: cookies know no ports, and two dashboards of one host must not end each other's."""

    def new(self, user: str | None = None, proof: str = "") -> Session:
        """A session of its own id, so that one which somebody planted is worth nothing after signing in."""
        return Session(secrets.token_urlsafe(16), user, proof, int(self._clock()))

    def read(self, text: str | None) -> Session | None:
        """The session of a cookie; None when it is none of ours, too old, or was ended."""
        if not text or len(text) > _MOST_TEXT:
            return None
        payload, _, signature = text.partition(".")
        if not hmac.compare_digest(signature.encode("utf-8", "replace"), self._sign("session", payload).encode()):
            return None
        said = json.loads(base64.urlsafe_b64decode(payload))
        session = Session(said["id"], said["user"], said["proof"], said["seen"])
        if self._clock() - session.seen > IDLE_SECONDS or session.id in self._ended:
            return None
        return session

    def write(self, session: Session) -> str:
        """The cookie of a session, seen now."""
        said = {"id": session.id, "user": session.user, "proof": session.proof, "seen": int(self._clock())}
        payload = base64.urlsafe_b64encode(json.dumps(said).encode()).decode()
        return f"{payload}.{self._sign('session', payload)}"

    def is_stale(self, session: Session) -> bool:
        """Whether its cookie is to be written anew, so that it does not end while it is used."""
        return self._clock() - session.seen > REFRESH_SECONDS

    def end(self, session: Session) -> None:
        """Let its cookie be worth nothing from now on, wherever it was copied to."""
        with self._lock:
            now = int(self._clock())
            self._ended = {id: until for id, until in self._ended.items() if until > now}
            while len(self._ended) >= _MOST_ENDED:
                del self._ended[next(iter(self._ended))]
            self._ended[session.id] = now + IDLE_SECONDS + REFRESH_SECONDS

    def token(self, session: Session) -> str:
        """What a form must carry to be believed: nobody but this browser's own pages know it."""
        return hmac.new(self._key, f"form {session.id}".encode(), "sha256").hexdigest()

    def is_token(self, session: Session, token: str) -> bool:
        """Whether this is that."""
        return hmac.compare_digest(self.token(session).encode(), token.encode("utf-8", "replace"))

    def proof(self, *parts: str) -> str:
        """What a session keeps of a password's hash: enough to see that it is another."""
        return hmac.new(self._key, hashlib.sha256("\0".join(parts).encode()).digest(), "sha256").hexdigest()[:32]

    def wrap(self, text: str) -> str:
        """Text for a cookie that only we can have written."""
        payload = base64.urlsafe_b64encode(text.encode()).decode()
        return f"{payload}.{self._sign('said', payload)}"

    def unwrap(self, text: str | None) -> str | None:
        """The text of such a cookie."""
        payload, _, signature = (text or "").partition(".")
        if not payload or not hmac.compare_digest(
            signature.encode("utf-8", "replace"), self._sign("said", payload).encode()
        ):
            return None
        return base64.urlsafe_b64decode(payload).decode()

    def _sign(self, what: str, payload: str) -> str:
        # What it is stands before what it says, so that neither can be shown as the other.
        digest = hmac.digest(self._key, f"{what} {payload}".encode("utf-8", "replace"), "sha256")
        return base64.urlsafe_b64encode(digest).decode()
