"""Who asks: by the cookie of a session, by a password sent along, by the host application's word, or being here.

Nothing else in the dashboard decides who somebody is. Whether they may is a matter of the route's role; `app.py`
compares the two.
"""

from __future__ import annotations

import base64
import hashlib
import inspect
import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from jobcard.dashboard.options import Options
from jobcard.dashboard.origins import check_is_local, is_https, network_of
from jobcard.dashboard.refusal import Refused
from jobcard.dashboard.roles import Role, Visitor, visitor
from jobcard.dashboard.sessions import Session, Sessions
from jobcard.dashboard.threads import Threads
from jobcard.dashboard.throttle import Throttle
from jobcard.errors import ConfigError

_MOST_FAILURES, _FAILURES_PER = 10, 300.0
_REMEMBERED_SECONDS = 60.0
_MOST_REMEMBERED = 1_000
_MOST_PASSWORD = 1_000


@dataclass(frozen=True, slots=True)
class Visit:
    """A request and who makes it. visitor: None: nobody we know. session: this browser's, a new one if need be.

    is_new: the browser does not have that session yet. by_header: the password came with the request, so no other
    site's page can have sent it.
    """

    visitor: Visitor | None
    session: Session
    is_new: bool
    by_header: bool = False


class Gate:
    """Tells who asks, and lets them sign in and out."""

    def __init__(self, options: Options) -> None:
        self._options = options
        key = options.secret or (options.users.key if options.users else secrets.token_bytes(32))
        self.sessions = Sessions(key)
        # One at a time: a hash takes memory and a core for some tenths of a second, whoever asks for it.
        self._hashing = Threads("sign-in", 1)
        self._asking = Threads("auth", 4)
        self._throttle = Throttle(_MOST_FAILURES, _FAILURES_PER)
        self._remembered: dict[bytes, tuple[float, str, str]] = {}
        self._lock = threading.Lock()

    @property
    def signs_in(self) -> bool:
        """Whether there is a page to sign in with."""
        return self._options.users is not None

    async def meet(self, request: Request) -> Visit:
        """Who makes this request."""
        session = self.sessions.read(request.cookies.get(self.sessions.cookie))
        own, is_new = session or self.sessions.new(), session is None
        if self._options.open:
            check_is_local(request)
            return Visit(Visitor("local", Role.ADMIN), own, is_new)
        if self._options.auth is not None:
            return Visit(await self._ask_host(request), own, is_new)
        if "authorization" in request.headers:
            return Visit(await self._by_header(request), own, is_new, by_header=True)
        return Visit(self._by_session(session), own, is_new)

    # -- signing in and out

    async def sign_in(self, request: Request, name: str, password: str) -> tuple[Visitor, Session]:
        """The visitor and a new session of theirs; `Refused` when the password is wrong, or was too often."""
        found = await self._check(request, name, password)
        if found is None:
            raise Refused(401, "The name or the password is wrong.")
        return found, self.sessions.new(found.name, self._proof(found.name))

    def keep(self, response: Response, request: Request, session: Session, root: str) -> None:
        """Write the session's cookie."""
        response.set_cookie(
            self.sessions.cookie,
            self.sessions.write(session),
            path=root or "/",
            httponly=True,
            samesite="strict",
            secure=is_https(request),
        )

    # -- each way

    def _by_session(self, session: Session | None) -> Visitor | None:
        users = self._options.users
        if users is None or session is None or session.user is None:
            return None
        user = users.find(session.user)
        if user is None or not secrets.compare_digest(session.proof, self._proof(session.user)):
            return None  # removed since, or with another password
        return Visitor(session.user, user.role)

    async def _by_header(self, request: Request) -> Visitor | None:
        kind, _, coded = request.headers["authorization"].partition(" ")
        try:
            said = base64.b64decode(coded.strip(), validate=True).decode("utf-8")
        except ValueError:
            return None
        name, colon, password = said.partition(":")
        if kind.lower() != "basic" or not colon:
            return None
        return await self._check(request, name, password)

    async def _check(self, request: Request, name: str, password: str) -> Visitor | None:
        users = self._options.users
        if users is None or len(password) > _MOST_PASSWORD:
            return None
        asks_often = hashlib.sha256(f"{name}\0{password}".encode("utf-8", "surrogatepass") + self.sessions.key).digest()
        if (known := self._recall(asks_often)) is not None:
            return known
        keys = (f"address {network_of(request)}", f"name {name}")
        self._hold_back(keys)  # so that they keep nobody else from the one thread

        def try_it() -> Visitor | None:
            # One by one, and counted each: of a thousand tries at once ten are made.
            if (known := self._recall(asks_often)) is not None:
                return known
            self._hold_back(keys)
            found = users.check(name, password)
            if found is None:
                for key in keys:
                    self._throttle.failed(key)
            else:
                self._throttle.succeeded(keys[1])
                self._remember(asks_often, found.name)
            return found

        return await self._hashing.run(try_it)

    def _hold_back(self, keys: Sequence[str]) -> None:
        if wait := max(map(self._throttle.wait, keys)):
            raise Refused(429, "Too many tries. Wait a few minutes.", {"Retry-After": str(int(wait) + 1)})

    def _recall(self, asked: bytes) -> Visitor | None:
        """Who was found by the same name and password a moment ago: programs send them with every request."""
        users = self._options.users
        until, name, proof = self._remembered.get(asked, (0.0, "", ""))
        user = users.find(name) if users is not None and time.monotonic() < until else None
        return Visitor(name, user.role) if user is not None and proof == self._proof(name) else None

    def _remember(self, asked: bytes, name: str) -> None:
        with self._lock:
            while len(self._remembered) >= _MOST_REMEMBERED:
                del self._remembered[next(iter(self._remembered))]
            self._remembered[asked] = (time.monotonic() + _REMEMBERED_SECONDS, name, self._proof(name))

    async def _ask_host(self, request: Request) -> Visitor | None:
        auth = self._options.auth
        assert auth is not None
        # On a thread: it may ask a database of its own. What an async one returns there is awaited here.
        said = await self._asking.run(lambda: auth(request))
        if inspect.isawaitable(said):
            said = await said
        if said is None:
            return None
        try:
            return visitor(*said) if isinstance(said, tuple) and len(said) == 2 else visitor(str(said), said)
        except ConfigError as error:
            raise TypeError(f"what auth= returned is no visitor: {error}") from error  # the application's mistake

    def _proof(self, name: str) -> str:
        user = self._options.users.find(name) if self._options.users else None
        return "" if user is None else self.sessions.proof(name, user.password)

    def close(self) -> None:
        """Let its threads end."""
        self._hashing.close()
        self._asking.close()
