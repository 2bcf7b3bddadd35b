"""The static files: style, script and what we took from others. For anybody: a sign-in page needs them, too."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from jobcard.dashboard.fields import Text
from jobcard.dashboard.gate import Visit
from jobcard.dashboard.headers import KEPT
from jobcard.dashboard.pages import STATIC, stamp
from jobcard.dashboard.refusal import Refused

if TYPE_CHECKING:
    from jobcard.dashboard.app import Dashboard

TYPES = {
    "jobcard.css": "text/css; charset=utf-8",
    "jobcard.js": "text/javascript; charset=utf-8",
    "chart.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "vendor/htmx.min.js": "text/javascript; charset=utf-8",
    "vendor/uplot.min.js": "text/javascript; charset=utf-8",
    "vendor/uplot.min.css": "text/css; charset=utf-8",
}
"""Every file that is served: what is not named here is not there, whatever the path says."""


STAMP = Text("v", most=64)


async def asset(dashboard: Dashboard, request: Request, visit: Visit) -> Response:
    """One of them, kept by browsers for ever if it was asked for by its stamp."""
    name = request.state.said["name"]
    if name not in TYPES:
        raise Refused(404, "There is no such file.")
    kept = request.state.said["v"] == stamp(name)
    return Response(
        _content(name),
        headers={"Content-Type": TYPES[name], "Cache-Control": KEPT if kept else "no-cache"},
    )


@cache
def _content(name: str) -> bytes:
    return STATIC.joinpath(name).read_bytes()
