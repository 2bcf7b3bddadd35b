"""Every route of the dashboard, in one table. What is not here is not there."""

from __future__ import annotations

from jobcard.dashboard.fields import Field
from jobcard.dashboard.roles import Role
from jobcard.dashboard.routing import FORM_BYTES, Route, View
from jobcard.dashboard.views import (
    assets,
    audit,
    bulk,
    choosing,
    engines,
    job,
    jobs,
    machines,
    overview,
    queues,
    schedules,
    sign_in,
)


def _write(
    path: str,
    view: View,
    summary: str,
    *,
    role: Role = Role.OPERATOR,
    form: tuple[Field, ...] = (),
    body: int = FORM_BYTES,
) -> Route:
    """A route that writes: of the page and of the API, under the same path."""
    return Route(path=path, api=path, view=view, role=role, writes=True, form=form, body=body, summary=summary)


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
    # -- operations, each with the part of its page that is refreshed
    Route(
        path="/queues", api="/queues", view=queues.queues, template="queues.html", summary="Queues with their limits"
    ),
    Route(path="/parts/queues", view=queues.queues, template="queues/table.html", summary="Queues"),
    Route(path="/queues/{name}", api="/queues/{name}", view=queues.queue, template="queue.html", summary="A queue"),
    Route(path="/parts/queues/{name}", view=queues.queue, template="queues/state.html", summary="A queue's figures"),
    _write("/queues/{name}/pause", queues.pause, "Pause a queue"),
    _write("/queues/{name}/resume", queues.resume, "Resume a queue"),
    _write("/queues/{name}/limits", queues.change, "Change a queue's limits", form=queues.LIMITS),
    Route(
        path="/schedules",
        api="/schedules",
        view=schedules.schedules,
        template="schedules.html",
        summary="Schedules, the next to be due first",
    ),
    Route(path="/parts/schedules", view=schedules.schedules, template="schedules/table.html", summary="Schedules"),
    Route(
        path="/schedules/{name}",
        api="/schedules/{name}",
        view=schedules.schedule,
        template="schedule.html",
        summary="A schedule, its ticks and its jobs",
    ),
    Route(
        path="/parts/schedules/{name}",
        view=schedules.schedule,
        template="schedules/state.html",
        summary="A schedule's ticks and jobs",
    ),
    _write("/schedules/{name}/pause", schedules.pause, "Pause a schedule"),
    _write("/schedules/{name}/resume", schedules.resume, "Resume a schedule"),
    _write("/schedules/{name}/run", schedules.run_now, "Run a schedule now"),
    Route(
        path="/engines",
        api="/engines",
        view=engines.engines,
        template="engines.html",
        summary="Engines, and what their workers run",
    ),
    Route(path="/parts/engines", view=engines.engines, template="engines/list.html", summary="Engines"),
    _write("/engines/{id}/quiet", engines.quiet, "Quiet an engine"),
    _write("/engines/{id}/work", engines.work, "Let an engine work"),
    _write("/engines/{id}/stop", engines.stop, "Stop an engine", role=Role.ADMIN),
    Route(
        path="/audit",
        api="/audit",
        view=audit.entries,
        template="audit.html",
        query=(audit.BEFORE, audit.ON),
        summary="What operators did",
    ),
    # -- jobs, and many of them at once
    Route(path="/jobs", api="/jobs", view=jobs.jobs, template="jobs.html", query=choosing.QUERY, summary="Jobs"),
    Route(path="/jobs/rows", view=jobs.rows, template="jobs/rows.html", query=choosing.QUERY, summary="A page of jobs"),
    Route(
        path="/jobs/count",
        api="/jobs/count",
        view=jobs.count,
        template="jobs/count.html",
        query=choosing.QUERY,
        summary="How many jobs there are",
    ),
    Route(
        path="/jobs/bulk",
        api="/jobs/bulk",
        view=bulk.preview,
        template="jobs/preview.html",
        role=Role.OPERATOR,
        query=bulk.PREVIEW,
        summary="What a move of many jobs will touch",
    ),
    _write("/jobs/bulk", bulk.move, "Retry or cancel many jobs", form=bulk.MOVE),
    _write("/jobs/delete", bulk.move, "Delete many jobs that have ended", role=Role.ADMIN, form=bulk.DELETE),
    # -- one job
    Route(path="/jobs/{id}", api="/jobs/{id}", view=job.job, template="job.html", answer=job.ANSWER, summary="A job"),
    Route(path="/jobs/{id}/now", view=job.job, template="job/now.html", summary="A job as it is now"),
    Route(
        path="/jobs/{id}/edit",
        api="/jobs/{id}/edit",
        view=job.edit,
        template="job/edit.html",
        role=Role.OPERATOR,
        summary="The arguments of a job, to be changed",
    ),
    _write(
        "/jobs/{id}/edit",
        job.edit_and_retry,
        "Store a job again with other arguments",
        form=job.EDIT,
        body=job.EDIT_BYTES,
    ),
    _write("/jobs/{id}/run_now", job.run_now, "Make a waiting job due now"),
    _write("/jobs/{id}/cancel", job.cancel, "Cancel a job"),
    _write("/jobs/{id}/retry", job.retry, "Run a job again from the start"),
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
