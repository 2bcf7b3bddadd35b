"""Every route of the dashboard, in one table. What is not here is not there."""

from __future__ import annotations

from jobcard.dashboard.routing import Route
from jobcard.dashboard.views import assets, machines, overview, sign_in

ROUTES: tuple[Route, ...] = (
    # -- the overview, and its parts, each refreshed by itself
    Route(
        path="/",
        api="/overview",
        view=overview.overview,
        template="overview.html",
        query=(overview.SPAN,),
        summary="Counts, throughput, queues, engines, schedules and recent failures",
    ),
    Route(path="/overview/counts", view=overview.counts, template="overview/counts.html", summary="Jobs by state"),
    Route(
        path="/overview/chart",
        view=overview.chart,
        template="overview/chart.html",
        query=(overview.SPAN,),
        summary="Jobs that ended, over time",
    ),
    Route(path="/overview/queues", view=overview.queues, template="overview/queues.html", summary="Queues"),
    Route(path="/overview/engines", view=overview.engines, template="overview/engines.html", summary="Engines alive"),
    Route(
        path="/overview/schedules", view=overview.schedules, template="overview/schedules.html", summary="Next ticks"
    ),
    Route(path="/overview/failures", view=overview.failures, template="overview/failures.html", summary="Failures"),
    # -- for programs
    Route(api="/openapi.json", view=machines.document, summary="This document"),
    Route(api="/session", view=machines.session, summary="Who asks"),
    Route(path="/metrics", view=machines.metrics, summary="Figures for Prometheus"),
    Route(path="/healthz", view=machines.healthz, role=None, summary="Whether the store answers"),
    # -- coming in
    Route(path="/login", handler=sign_in.page, role=None, query=(sign_in.NEXT,), summary="The form to sign in with"),
    Route(path="/login", handler=sign_in.sign_in, role=None, writes=True, form=sign_in.FORM, summary="Sign in"),
    Route(path="/logout", handler=sign_in.sign_out, role=None, writes=True, summary="Sign out"),
    Route(
        path="/static/{name:path}", handler=assets.asset, role=None, query=(assets.STAMP,), summary="Style and scripts"
    ),
)
