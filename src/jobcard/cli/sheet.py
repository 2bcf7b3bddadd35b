"""One job, everything about it, for people to read."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

from jobcard.cli import output
from jobcard.cli.record import job_to_plain, moment, to_plain
from jobcard.core.dependencies import ANY_END, Dependency
from jobcard.core.view import Job

# Said in a section of its own below, or of no use to a reader.
_BELOW = frozenset({"errors", "log", "progress", "claim_token"})
_ALWAYS = frozenset({"args", "kwargs", "result", "priority", "attempt"})
_JSON = frozenset({"init", "args", "kwargs", "result", "checkpoint", "meta", "tags"})


def print_job(job: Job) -> None:
    """Print a job: its fields, then every recorded try with traceback and output, then its log."""
    plain = job_to_plain(job)
    fields: dict[str, object] = {}
    for name, value in plain.items():
        if name in _BELOW or (name not in _ALWAYS and not value):
            continue
        if name == "result" and job.state != "completed":
            continue
        fields[name] = json.dumps(value) if name in _JSON else _said(getattr(job, name), value)
    if job.progress is not None:
        text = f" {job.progress.text}" if job.progress.text else ""
        fields["progress"] = f"{job.progress.value:.0%}{text} ({moment(job.progress.at)})"
    output.sheet(fields)
    for error in job.errors:
        _print_error(error)
    if job.log:
        output.emit("\nlog")
        for at, text in job.log:
            output.emit(f"  {moment(at)}  {output.one_line(text)}")


def _said(value: object, plain: Any) -> str:
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g} s"
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(map(_awaited, value))
    return str(plain)


def _awaited(one: Dependency) -> str:
    return f"{one} (any end)" if one.until == ANY_END else str(one)


def _print_error(error: dict[str, Any]) -> None:
    facts = [str(error.get("kind") or "error")]
    if error.get("exit_code") is not None:
        facts.append(f"exit code {error['exit_code']}")
    if error.get("signal"):
        facts.append(str(error["signal"]))
    what = " ".join(str(error[name]) for name in ("type", "message") if error.get(name))
    attempt = error.get("attempt", "?")
    which = "not tried" if attempt == 0 else f"attempt {attempt}"
    output.emit(f"\n{which}, {to_plain(error.get('at'))}: {output.one_line(', '.join(facts))}")
    if what:
        output.emit(f"  {output.one_line(what)}")
    for title in ("traceback", "output"):
        if error.get(title):
            output.emit(f"  {title}")
            for line in output.many_lines(error[title]).rstrip("\n").split("\n"):
                output.emit(f"    {line}")
