"""What the demo says at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobcard.cli import output

if TYPE_CHECKING:
    from jobcard.cli.demo_run import Misbehaved, Report


def print_report(report: Report) -> None:
    """Print the summary for people."""
    if report.index is not None:
        index = report.index
        common = ", ".join(f"{word} {count:,}" for word, count in index["common"])
        output.emit(f"files     {index['files']:,} indexed, {index['duplicates']:,} of them copies of another")
        output.emit(f"lines     {index['lines']:,}")
        output.emit(f"words     {index['words']:,}, {index['different_words']:,} different")
        output.emit(f"commonest {common}")
        output.emit(f"imported  {', '.join(name for name, _ in index['imported'])}")
    else:
        output.emit(f"files     {report.indexed:,} of {report.files:,} indexed; the merging job did not end well")
    retried = [one for one in report.misbehaved if one.job.state == "completed"]
    crashed = [one for one in report.misbehaved if one.job.state == "failed"]
    output.emit(f"done      {report.done} jobs, {report.left} left")
    output.emit(f"retried   {_each(retried)}")
    output.emit(f"crashed   {_each(crashed)}")
    for one in report.misbehaved:
        if not one.as_meant:
            output.note(f"not as it was meant to end: {one.name} ({one.said})")
    output.emit(f"{report.jobs_per_s:.0f} jobs/s, one for each file, over {report.seconds:.1f} s")
    output.emit(f"p50 {_ms(report.p50_ms)} from enqueue to start, one job at a time")
    output.emit(f"p99 {_ms(report.p99_ms)}")


def plain_report(report: Report) -> dict[str, Any]:
    """The summary as one JSON object."""
    crashed = [one for one in report.misbehaved if one.job.state == "failed"]
    return {
        "ok": report.ok,
        "files": report.files,
        "indexed": report.indexed,
        "index": report.index,
        "done": report.done,
        "left": report.left,
        "retried": sum(one.job.state == "completed" and one.job.attempt > 1 for one in report.misbehaved),
        "crashed": len(crashed),
        "misbehaved": [
            {
                "id": str(one.job.id),
                "name": one.name,
                "state": one.job.state,
                "reason": one.job.reason,
                "attempt": one.job.attempt,
                "signal": (one.job.error or {}).get("signal"),
                "exit_code": (one.job.error or {}).get("exit_code"),
                "as_meant": one.as_meant,
            }
            for one in report.misbehaved
        ],
        "seconds": round(report.seconds, 3),
        "jobs_per_s": round(report.jobs_per_s, 1),
        "p50_ms": None if report.p50_ms is None else round(report.p50_ms, 2),
        "p99_ms": None if report.p99_ms is None else round(report.p99_ms, 2),
    }


def _each(some: list[Misbehaved]) -> str:
    said = ", ".join(f"{one.name.removeprefix('demo.')} ({one.said})" for one in some)
    return f"{len(some)}: {said}" if some else "0"


def _ms(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1f} ms"
