"""The dashboard as an ASGI application: one way through for every request.

    host known? → who asks → which route → may they → is it our own page that writes → what it says, in bounds
    → the view, on one of four threads → page, fragment or JSON → headers

What a view raises becomes a page with a sentence, or the same in JSON; what nobody foresaw becomes a 500 that tells
nothing, and a line in the log `jobcard.dashboard` that tells all.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Match
from starlette.routing import Route as PathPattern

from jobcard.dashboard import audit, headers, origins, pages
from jobcard.dashboard.asking import Ask, Done, Plain
from jobcard.dashboard.fields import MOST_VALUES, as_pairs, read_fields
from jobcard.dashboard.gate import Gate, Visit
from jobcard.dashboard.options import Options
from jobcard.dashboard.plain import to_json
from jobcard.dashboard.refusal import Refused, refusal_of, status_of
from jobcard.dashboard.roles import Role, Visitor
from jobcard.dashboard.routes import ROUTES
from jobcard.dashboard.routing import API, Route
from jobcard.dashboard.shared import Shared
from jobcard.dashboard.stores import Stores
from jobcard.dashboard.threads import Threads
from jobcard.errors import JobcardError

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from jobcard.client import Jobcard

_log = logging.getLogger("jobcard.dashboard")

_MOST_URL = 8_000
_BODY_SECONDS = 20.0


class _Found(NamedTuple):
    route: Route
    words: Mapping[str, Any]
    as_json: bool


class Dashboard:
    """Shows one application's jobs to whoever may see them; mount it, or let `jobcard dashboard` serve it."""

    def __init__(self, app: Jobcard, options: Options) -> None:
        self.app = app
        self.options = options
        self.gate = Gate(options)
        self._stores = Stores(app, options.read_url)
        self._shared = Shared()
        self._threads = Threads("dashboard")
        self._patterns = [
            (PathPattern(path, _unused, methods=[route.method]), route, as_json)
            for route in ROUTES
            for path, as_json in route.paths
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or see to the start and the end of the server."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            request = Request(self._rooted(scope), receive)
            try:
                response = await self._answer(request)
            except ClientDisconnect:
                return
            await headers.guard(response)(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            word = (await receive())["type"]
            await send({"type": f"{word}.complete"})
            if word == "lifespan.shutdown":
                self.close()
                return

    def close(self) -> None:
        """Let go of the store and of every thread; the application's own client stays as it is."""
        self._threads.close()
        self.gate.close()
        self._stores.close()

    def _rooted(self, scope: Scope) -> Scope:
        """The scope with the base path as its root, where whoever mounts us has not seen to that."""
        base = self.options.base_path
        root = scope.get("root_path", "")
        if not base or root.endswith(base):
            return scope
        return {**scope, "root_path": root + base}

    # -- one request

    async def _answer(self, request: Request) -> Response:
        as_json = _path(request).startswith(API)
        visit: Visit | None = None
        try:
            if len(request.url.path) + len(request.url.query) > _MOST_URL:
                raise Refused(414, "That address is too long.")
            origins.check_framing(request)
            origins.check_host(request, self.options.allowed_hosts)
            visit = await self.gate.meet(request)
            return await self._let_in(request, visit)
        except Refused as refusal:
            return self._refuse(request, visit, refusal, as_json=as_json)
        except JobcardError as error:
            status = status_of(error)
            if status >= 500:
                _log.warning("dashboard.answer %s: %s", type(error).__name__, error)
            # What the store says of itself is not for whoever has not come in.
            known = visit is not None and visit.visitor is not None
            text = refusal_of(error) if known else "The store does not answer."
            return self._refuse(request, visit, Refused(status, text), as_json=as_json)
        except ClientDisconnect:
            raise
        except Exception:
            _log.exception("dashboard.answer failed")
            return self._refuse(request, visit, Refused(500, "Something went wrong here."), as_json=as_json)

    async def _let_in(self, request: Request, visit: Visit) -> Response:
        try:
            found = self._find(request)
        except Refused:
            if visit.visitor is None:
                raise self._nobody() from None  # who may not come in learns no addresses either
            raise
        if found is None:
            return RedirectResponse(self._root(request) + "/", 307)
        route = found.route
        if route.role is not None:
            if visit.visitor is None:
                if self.gate.signs_in and not (found.as_json or route.writes or "hx-request" in request.headers):
                    return self._to_sign_in(request)
                raise self._nobody()
            if not visit.visitor.role.may(route.role):
                raise Refused(
                    403,
                    f"This is for the role {route.role}, and {visit.visitor.name} is no more than "
                    f"{visit.visitor.role}.",
                )
        said = await self._said(request, visit, found)
        if route.handler is not None:
            request.state.said = said
            return await route.handler(self, request, visit)
        response = await self._threads.run(partial(self._view, request, visit, found, said))
        if not visit.by_header and (visit.is_new or self.gate.sessions.is_stale(visit.session)):
            self.gate.keep(response, request, visit.session, self._root(request))
        return response

    def _find(self, request: Request) -> _Found | None:
        """The route of a request; None: it is for the root, without the slash that belongs there."""
        if _path(request) == "":
            return None
        other: str | None = None
        for pattern, route, as_json in self._patterns:
            match, child = pattern.matches(request.scope)
            if match is Match.FULL:
                return _Found(route, child["path_params"], as_json)
            if match is Match.PARTIAL:
                other = route.method
        if other is not None:
            raise Refused(405, f"This address is asked by {other}.", {"Allow": other})
        raise Refused(404, "There is no such page.")

    async def _said(self, request: Request, visit: Visit, found: _Found) -> dict[str, Any]:
        """The values of the query, the form and the path, the form's token being proved."""
        route = found.route
        said = read_fields(route.query, _pairs(request.url.query))
        if route.writes:
            origins.check_same_origin(request, self.options.allowed_hosts)
            pairs = await _body(request, route.body)
            token = request.headers.get("x-csrf-token") or dict(pairs).get("csrf", "")
            if not visit.by_header and not self.gate.sessions.is_token(visit.session, token):
                raise Refused(403, "This form was not one of ours, or is too old: load its page again.")
            said |= read_fields(route.form, [pair for pair in pairs if pair[0] != "csrf"])
        return {**said, **found.words}

    # -- answers

    def _view(self, request: Request, visit: Visit, found: _Found, said: Mapping[str, Any]) -> Response:
        """On a thread: ask the view, and write down what it answers."""
        route = found.route
        assert route.view is not None
        assert visit.visitor is not None or route.role is None
        # What is decided or has just been written is read where it is written: a replica is a little behind.
        with_care = route.writes or self._said_cookie in request.cookies
        ask = self._ask(visit, said, with_care=with_care)
        # Here and nowhere else is anything written, so no view can forget who did it.
        if route.writes:
            answer = audit.act(route, ask, found.words)
            self._shared.forget()
        elif "hx-request" in request.headers and route.template is not None and not found.as_json:
            # What a role is shown; never what is for one visitor alone, as its session.
            key = (route.path, ask.visitor.role, repr(sorted(said.items())))
            answer = self._shared.get(key, partial(route.view, ask))
        else:
            answer = route.view(ask)
        if isinstance(answer, Plain):
            return Response(answer.text, answer.status, headers={"Content-Type": answer.content_type})
        if isinstance(answer, Done):
            if found.as_json:
                return _json({"done": answer.text, **answer.data})
            response: Response = RedirectResponse(self._place(request).url("") + answer.see, 303)
            self._say_next(response, request, answer.text)
            return response
        if found.as_json or route.template is None:
            return _json(answer)
        return self.page(request, visit, route.template, answer, ask=ask)

    def _ask(self, visit: Visit, said: Mapping[str, Any], *, with_care: bool) -> Ask:
        return Ask(
            find_jobs=self._stores.jobs,
            find_reading=self._stores.jobs if with_care else self._stores.reading,
            app=self.app,
            options=self.options,
            visitor=visit.visitor or Visitor("nobody", Role.VIEWER),
            token=self.gate.sessions.token(visit.session),
            said=said,
            shared=self._shared,
        )

    def page(
        self,
        request: Request,
        visit: Visit,
        template: str,
        data: Mapping[str, Any],
        *,
        ask: Ask | None = None,
        status: int = 200,
    ) -> Response:
        """A page, or a part of one."""
        said = (
            self.gate.sessions.unwrap(request.cookies.get(self._said_cookie))
            if "hx-request" not in request.headers
            else None
        )
        text = pages.render(
            template,
            data,
            place=self._place(request),
            ask=ask,
            token=self.gate.sessions.token(visit.session),
            said=said,
            signs_out=self.gate.signs_in and ask is not None,
        )
        response = HTMLResponse(text, status)
        if said is not None:
            response.delete_cookie(self._said_cookie, path=self._root(request) or "/")
        return response

    def _refuse(self, request: Request, visit: Visit | None, refusal: Refused, *, as_json: bool) -> Response:
        response: Response
        if as_json:
            response = _json({"status": refusal.status, "error": refusal.text}, refusal.status)
        else:
            data = {"status": refusal.status, "text": refusal.text}
            page = pages.render(
                "error.html",
                data,
                place=self._place(request),
                ask=None,
                visitor=None if visit is None else visit.visitor,
                token="",
            )
            response = HTMLResponse(page, refusal.status)
        for name, value in refusal.headers.items():
            response.headers[name] = value
        return response

    def _nobody(self) -> Refused:
        # Not Basic: a browser that is asked for that sends the password along with whatever another site's page asks.
        return Refused(401, "Sign in first.", {"WWW-Authenticate": 'Session realm="jobcard"'})

    def _to_sign_in(self, request: Request) -> Response:
        wanted = _path(request) + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(self._place(request).url("/login", next=None if wanted == "/" else wanted), 303)

    @property
    def _said_cookie(self) -> str:
        return f"{self.gate.sessions.cookie}_said"

    def _say_next(self, response: Response, request: Request, text: str) -> None:
        response.set_cookie(
            self._said_cookie,
            self.gate.sessions.wrap(text[:500]),
            max_age=60,
            path=self._root(request) or "/",
            httponly=True,
            samesite="strict",
            secure=origins.is_https(request),
        )

    def _root(self, request: Request) -> str:
        return str(request.scope.get("root_path", "")).rstrip("/")

    def _place(self, request: Request) -> pages.Place:
        return pages.Place(self._root(request), _path(request))


async def _unused(request: Request) -> Response:
    raise NotImplementedError  # patterns match only


def _path(request: Request) -> str:
    """The path below our root."""
    path, root = str(request.scope["path"]), str(request.scope.get("root_path", "")).rstrip("/")
    return path[len(root) :] if root and (path == root or path.startswith(root + "/")) else path


def _json(document: Any, status: int = 200) -> Response:
    return Response(to_json(document), status, media_type="application/json")


def _pairs(text: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(text, keep_blank_values=True, max_num_fields=2 * MOST_VALUES, errors="strict")
    except ValueError:
        raise Refused(400, "That cannot be read.") from None


async def _body(request: Request, most: int) -> list[tuple[str, str]]:
    """The form, or the JSON object, as pairs."""
    body = b""
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > most:
                    raise Refused(413, f"A form here has at most {most:,} bytes.")
    except TimeoutError:
        raise Refused(408, "That takes too long to arrive.") from None
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if kind == "application/json":
            return as_pairs(json.loads(body))
        if kind == "application/x-www-form-urlencoded" or not body:
            return _pairs(body.decode("utf-8"))
    except (ValueError, RecursionError):
        raise Refused(400, "That cannot be read.") from None
    raise Refused(415, "Send a form (application/x-www-form-urlencoded) or JSON (application/json).")
