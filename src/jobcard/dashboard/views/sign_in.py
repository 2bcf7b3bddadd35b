"""Signing in and out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from jobcard.dashboard.fields import Text
from jobcard.dashboard.gate import Visit
from jobcard.dashboard.refusal import Refused
from jobcard.dashboard.roles import MAX_NAME

if TYPE_CHECKING:
    from jobcard.dashboard.app import Dashboard

NEXT = Text("next", "/", most=2_000)
FORM = (Text("name", "", most=MAX_NAME), Text("password", "", most=1_000), NEXT)

# A path of ours: no other host (`//`, `/\`), no scheme, nothing that browsers leave out before they look.
_OURS = re.compile(r"/(?![/\\])[\x21-\x7e]*")


async def page(dashboard: Dashboard, request: Request, visit: Visit) -> Response:
    """The form."""
    _need_users(dashboard)
    going = request.state.said["next"]
    if visit.visitor is not None:
        return _go(request, going)
    response = _form(dashboard, request, visit, going)
    dashboard.gate.keep(response, request, visit.session, _root(request))
    return response


async def sign_in(dashboard: Dashboard, request: Request, visit: Visit) -> Response:
    """Sign in, and go on to what was asked for."""
    _need_users(dashboard)
    said = request.state.said
    try:
        _, session = await dashboard.gate.sign_in(request, said["name"], said["password"])
    except Refused as refusal:
        response = _form(dashboard, request, visit, said["next"], refusal)
        for name, value in refusal.headers.items():
            response.headers[name] = value
        return response
    response = _go(request, said["next"])
    dashboard.gate.sessions.end(visit.session)
    dashboard.gate.keep(response, request, session, _root(request))
    return response


async def sign_out(dashboard: Dashboard, request: Request, visit: Visit) -> Response:
    """End the session, in this browser and wherever its cookie was copied to."""
    _need_users(dashboard)
    dashboard.gate.sessions.end(visit.session)
    response = _go(request, "/login")
    response.delete_cookie(dashboard.gate.sessions.cookie, path=_root(request) or "/")
    return response


def _form(dashboard: Dashboard, request: Request, visit: Visit, going: str, refusal: Refused | None = None) -> Response:
    data = {"next": going, "problem": None if refusal is None else refusal.text}
    return dashboard.page(request, visit, "sign_in.html", data, status=200 if refusal is None else refusal.status)


def _go(request: Request, going: str) -> Response:
    return RedirectResponse(_root(request) + (going if _OURS.fullmatch(going) else "/"), 303)


def _root(request: Request) -> str:
    return str(request.scope.get("root_path", "")).rstrip("/")


def _need_users(dashboard: Dashboard) -> None:
    if not dashboard.gate.signs_in:
        raise Refused(404, "Nobody signs in here.")
