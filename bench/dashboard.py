"""How fast the dashboard answers beside many jobs, and what open tabs cost whoever runs jobs meanwhile.

    python bench/dashboard.py --url URL [--jobs 1000000] [--rounds 20]
    python bench/dashboard.py --url URL --tabs 10 --drain 30000 [--rounds 5]

A store of its own where the URL is gets that many jobs (90 % completed, 6 % failed, 4 % waiting, two thirds of these
delayed; 20 queues, 30 names, twelve days) and is removed afterwards; with `--as-it-is` the jobs are those that are
there, and it stays. The first prints how long each page took, from the call of the ASGI application to
the last byte of its answer, and one line of JSON; what the first round took is the column `first`. The second drains
jobs by turns with and without a dashboard that so many tabs look at over HTTP, and prints both rates and their ratio.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import UUID

from full_store import drain

from jobcard.backends.registry import open_backend
from jobcard.cli.bench_app import VARIABLE
from jobcard.cli.own_store import own_store
from jobcard.client import Jobcard
from jobcard.core.clock import DAY, HOUR, SECOND, to_datetime
from jobcard.core.job import Attempt, JobRow, LogLine, WholeJob
from jobcard.engine.outcomes import error_text

CHUNK = 1_000
MILLISECOND = SECOND // 1_000
QUEUES, NAMES = 20, 30
SPREAD = 12 * DAY
ERRORS = ("ValueError", "TimeoutError", "shop.mail.RefusedError", "KeyError", "ConnectionResetError")
BATCH = UUID(int=0x018F_0000_0000_7000_8000_0000_0000_0001).bytes
TAGS = ("weekly", "vip", "import", "eu")
OVERVIEW = {"counts": 2, "queues": 3, "engines": 3, "failures": 5, "schedules": 5, "chart": 10}
"""The parts of the overview, and how often an open tab asks for each: as `templates/overview/` says."""
ROWS_EVERY = 3


# ------------------------------------------------------------------ jobs


def whole_job(number: int, of: int, now: int, rng: random.Random) -> WholeJob:
    """The job of a number, the last of which was made just now."""
    created = now - SPREAD * (of - number) // of - rng.randrange(SECOND)
    job_id = (created // 1000).to_bytes(6, "big") + b"\x70" + rng.randbytes(1) + b"\x80" + rng.randbytes(7)
    lot = rng.random()
    state = "completed" if lot < 0.9 else "failed" if lot < 0.96 else "waiting"
    delayed = state == "waiting" and rng.random() < 0.67
    due = now + rng.randrange(1, 30 * 24) * HOUR if delayed else created
    began = created + rng.randrange(5, 2_000) * MILLISECOND
    ended = began + int(rng.lognormvariate(4, 1)) * MILLISECOND
    kind = rng.choice(ERRORS)
    done = state in ("completed", "failed")
    row = JobRow(
        id=job_id,
        queue=f"queue-{number % QUEUES:02}",
        name=f"shop.job_{rng.randrange(NAMES):02}",
        init=None,
        args=f"[{number}]",
        kwargs=json.dumps({"order": number, "mail": f"somebody.{number}@example.org", "text": "x" * 60}),
        result='{"sent": true}' if state == "completed" else None,
        priority=0,
        rank=0,
        order_at=due,
        order_offset=0,
        hold="delay" if delayed else None,
        state=state,
        attempt=1 if done else 0,
        max_attempts=5,
        crashes=0,
        max_crashes=3,
        interrupts=0,
        backoff='{"kind": "exponential"}',
        timeout=None,
        keep=None,
        available_at=due,
        created_at=created,
        claimed_at=began if done else None,
        started_at=began if done else None,
        finished_at=min(ended, now) if done else None,
        expires_at=None,
        claimed_by=None,
        claim_token=1 if done else 0,
        lease_until=None,
        cancel_requested=None,
        unique_key=None,
        once_key=None,
        limit_key=None,
        key_limit=None,
        rate_count=None,
        rate_per=None,
        batch_id=BATCH if number % 10_000 < 20 else None,
        parent_id=None,
        schedule_id="nightly" if number % 5_000 == 0 else None,
        reason="error" if state == "failed" else None,
        error_kind=kind if state == "failed" else None,
        progress=None,
        checkpoint=None,
        tags=json.dumps(rng.sample(TAGS, 2)) if number % 20 == 0 else None,
        meta=None,
        version=4 if done else 1,
    )
    tries = [Attempt(job_id, 1, ended, _error(kind))] if state == "failed" else []
    lines = [LogLine(job_id, began, f"line {n} of order {number}") for n in range(5)] if number % 50 == 0 else []
    return WholeJob(row, tries, lines)


def _error(kind: str) -> str:
    frames = "".join(f'  File "/srv/shop/part{n}.py", line {n}, in step{n}\n    call({n})\n' for n in range(8))
    told = {"attempt": 1, "kind": "error", "type": kind, "message": "no such order", "traceback": frames}
    return error_text(told)


def fill(url: str, count: int) -> float:
    """Store that many jobs, with queues and schedules as code would declare; seconds it took."""
    began, rng = time.monotonic(), random.Random(7)
    with closing(open_backend(url)) as store:
        store.migrate()
        now = store.facts().now
        for first in range(0, count, CHUNK):
            store.put([whole_job(number, count, now, rng) for number in range(first, min(first + CHUNK, count))])
    with Jobcard(url) as jobs:
        for number in range(QUEUES):
            jobs.queues.create(f"queue-{number:02}", concurrency=4, global_concurrency=50 if number % 2 else None)
        for number in range(10):
            jobs.schedule("nightly" if number == 0 else f"every-{number}", f"{number} 3 * * *", "shop.job_01")
        for number in range(100):
            entry = jobs.parts.audit.begin(who="anna", role="operator", action="Retry a job", on=f"{number}")
            jobs.parts.audit.end(entry, "done", "retried")
    return time.monotonic() - began


# ------------------------------------------------------------------ pages


def pages(jobs: Jobcard) -> dict[str, str]:
    """What is asked for, by what it is called in the table."""
    [failed] = jobs.list(state="failed", limit=1)
    with jobs.parts.connection as store:
        now = store.facts().now
    [deep] = jobs.list(before=to_datetime(now - 6 * DAY), limit=1)
    [middle] = jobs.list(before=to_datetime(now - 6 * DAY), state="failed", limit=1)
    hour, day, week = (quote(_iso(now - span)) for span in (HOUR, DAY, 7 * DAY))
    batch = UUID(bytes=BATCH)
    found = {
        "overview": "/",
        **{f"overview {span}": f"/?span={span}" for span in ("12h", "12d")},
        **{f"part {part}": f"/overview/{part}" for part in OVERVIEW},
        **{f"part chart {span}": f"/overview/chart?span={span}" for span in ("12h", "12d")},
        "queues": "/queues",
        "queue": "/queues/queue-03",
        "schedules": "/schedules",
        "schedule": "/schedules/nightly",
        "engines": "/engines",
        "audit": "/audit",
        "job, failed": f"/jobs/{failed.id}",
        "job, part": f"/jobs/{failed.id}/now",
        "metrics": "/metrics",
        "healthz": "/healthz",
        "bulk, retry failed": "/jobs/bulk?verb=retry",
        "bulk, failed of a queue": "/jobs/bulk?verb=retry&queue=queue-03",
        "bulk, cancel of a name": "/jobs/bulk?verb=cancel&name=shop.job_07",
        "bulk, delete by tag": "/jobs/bulk?verb=delete&tag=vip",
    }
    queries = {
        "jobs": "",
        "jobs, 200": "limit=200",
        "jobs, deep": f"cursor={deep.id.hex}",
        "jobs, back from deep": f"cursor={deep.id.hex}&back={failed.id.hex}",
        **{f"state {state}": f"state={state}" for state in ("waiting", "running", "completed", "failed", "canceled")},
        "state failed, deep": f"state=failed&cursor={middle.id.hex}",
        "states failed, waiting": "state=failed&state=waiting",
        "queue": "queue=queue-03",
        "queue, none such": "queue=nowhere",
        "name": "name=shop.job_07",
        "name, none such": "name=nothing",
        "tag": "tag=vip",
        "tag, none such": "tag=nothing",
        "error kind": "error_kind=KeyError",
        "error kind, none such": "error_kind=Nothing",
        "schedule": "schedule=nightly",
        "batch": f"batch={batch}",
        "batch, none such": f"batch={UUID(int=7)}",
        "id": f"id={failed.id}",
        "after an hour ago": f"after={hour}",
        "after a day ago": f"after={day}",
        "after a week ago": f"after={week}",
        "before a day ago": f"before={day}",
        "before a week ago": f"before={week}",
        "a day a week ago": f"after={quote(_iso(now - 7 * DAY))}&before={quote(_iso(now - 6 * DAY))}",
        "search in name": "search=job_07",
        "search, none such": "search=nothing",
        "search part of id": f"search={str(failed.id)[-12:]}",
        "args": "args=somebody.7%40example.org",
        "args, recent": "args=somebody",
        "failed of a queue": "state=failed&queue=queue-03",
        "failed of a kind": "state=failed&error_kind=KeyError",
        "failed of a name today": f"state=failed&name=shop.job_07&after={day}",
        "waiting of a queue": "state=waiting&queue=queue-03",
        "completed of a queue": "state=completed&queue=queue-03",
        "completed, tag, queue": "state=completed&queue=queue-03&tag=vip",
        "completed, week, name": f"state=completed&after={week}&name=shop.job_07",
        "queue and name": "queue=queue-03&name=shop.job_07",
        "queue, deep": f"queue=queue-03&cursor={deep.id.hex}",
        "all at once": f"state=failed&queue=queue-03&name=shop.job_07&tag=vip&after={week}&args=somebody",
    }
    found |= {f"/jobs {name}": f"/jobs?{query}" for name, query in queries.items()}
    found["/jobs/rows"] = "/jobs/rows"
    found |= {f"/jobs/count {name}": f"/jobs/count?{queries[name]}" for name in ("queue", "name", "tag", "error kind")}
    api = ("overview", "queues", "queues/queue-03", "schedules", "schedules/nightly", "engines", "audit", "jobs")
    found |= {f"api {path}": f"/api/v1/{path}" for path in (*api, f"jobs/{failed.id}", "jobs/bulk", "openapi.json")}
    return found | {
        f"api jobs {name}": f"/api/v1/jobs?{queries[name]}" for name in ("queue", "name", "failed of a kind")
    }


def _iso(instant: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(instant // SECOND))


async def ask(app: Any, address: str) -> tuple[int, int, float]:
    """Ask an ASGI application, as a browser on this machine; status, bytes and seconds."""
    parts, status, size = urlsplit(address), 0, 0
    done = False
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": parts.path,
        "raw_path": parts.path.encode(),
        "query_string": parts.query.encode(),
        "root_path": "",
        "headers": [(b"host", b"127.0.0.1:8678")],
        "client": ("127.0.0.1", 40_000),
        "server": ("127.0.0.1", 8678),
    }

    async def receive() -> dict[str, Any]:
        nonlocal done
        if done:
            await asyncio.Event().wait()
        done = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        nonlocal status, size
        if message["type"] == "http.response.start":
            status = message["status"]
        else:
            size += len(message.get("body", b""))

    began = time.perf_counter()
    await app(scope, receive, send)
    return status, size, time.perf_counter() - began


def measure(url: str, rounds: int, only: str) -> dict[str, Any]:
    """Every page by turns, so many times; what each took, in milliseconds."""
    with Jobcard(url) as jobs:
        app = jobs.dashboard(open=True)
        wanted = {name: address for name, address in pages(jobs).items() if re.search(only, name)}
        took: dict[str, list[float]] = {name: [] for name in wanted}
        sizes: dict[str, int] = {}
        refused: dict[str, int] = {}
        first: dict[str, float] = {}

        async def go() -> None:
            for turn in range(rounds + 1):
                for name, address in wanted.items():
                    status, sizes[name], seconds = await ask(app, address)
                    if status != 200:
                        refused[name] = status
                    if turn:
                        took[name].append(1_000 * seconds)
                    else:
                        first[name] = round(1_000 * seconds, 1)

        asyncio.run(go())
        app.close()
    return {
        name: {
            **_figures(each),
            "first": first[name],
            "kib": round(sizes[name] / 1024),
            **({"status": refused[name]} if name in refused else {}),
        }
        for name, each in took.items()
    }


def _figures(took: list[float]) -> dict[str, float]:
    ordered = sorted(took)
    p50, p95 = (ordered[math.ceil(share * len(ordered)) - 1] for share in (0.5, 0.95))
    return {"least": round(ordered[0], 1), "p50": round(p50, 1), "p95": round(p95, 1), "max": round(ordered[-1], 1)}


# ------------------------------------------------------------------ tabs


class Tab:
    """One browser tab that looks at the overview or at the jobs, and asks as often as its scripts would."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.asked = 0

    async def look(self, path: str, every: float) -> None:
        """Ask for one part again and again, over a connection that stays."""
        await asyncio.sleep(random.uniform(0, every))
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nHX-Request: true\r\n\r\n".encode()
        while True:
            due = time.monotonic() + every
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            if b" 200 " not in head[:20]:
                raise RuntimeError(head[:200].decode())
            found = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
            assert found is not None
            await reader.readexactly(int(found[1]))
            self.asked += 1
            await asyncio.sleep(max(0.0, due - time.monotonic()))


async def open_tabs(port: int, count: int) -> None:
    """So many tabs until this process is ended; half of them show the overview, half the jobs as well."""
    tabs = [Tab(port) for _ in range(count)]

    async def tell() -> None:
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        print(sum(tab.asked for tab in tabs), flush=True)
        os._exit(0)

    looks = [tab.look(f"/overview/{part}", every) for tab in tabs for part, every in OVERVIEW.items()]
    looks += [tab.look("/jobs/rows", ROWS_EVERY) for tab in tabs]
    await asyncio.gather(tell(), *looks)


@contextmanager
def dashboard(url: str, tabs: int, told: dict[str, list[float]]) -> Iterator[None]:
    """A dashboard of its own process, at which so many tabs look from another; what both used goes into `told`."""
    served = subprocess.Popen(
        [sys.executable, "-m", "jobcard", "dashboard", "--url", url, "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert served.stderr is not None
    line = next(line for line in served.stderr if line.startswith("ready"))
    found = re.search(r":(\d+)", line)
    assert found is not None, line
    looking = subprocess.Popen(
        [sys.executable, __file__, "--tabs", str(tabs), "--look-at", found[1]],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    time.sleep(3)  # until each part was asked for once
    began, used = time.monotonic(), _cpu(served.pid)
    try:
        yield
        seconds = time.monotonic() - began
        told["dashboard_cpu"].append(round((_cpu(served.pid) - used) / seconds, 3))
        asked, _ = looking.communicate("")
        told["asked_a_second"].append(round(int(asked) / (seconds + 3), 1))
    finally:
        looking.kill()
        looking.wait()
        served.send_signal(signal.SIGTERM)
        served.wait()


def _cpu(pid: int) -> float:
    """Seconds of processor that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def in_a_process(url: str, count: int) -> float:
    """One drain in a process of its own, as an application would be."""
    command = [sys.executable, __file__, "--url", url, "--drain", str(count), "--drain-only"]
    ran = subprocess.run(command, env={**os.environ, VARIABLE: url}, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise SystemExit(ran.stderr)
    return float(ran.stdout.splitlines()[-1])


def beside_tabs(url: str, tabs: int, count: int, rounds: int) -> dict[str, Any]:
    """Drain by turns with tabs open and without."""
    rates: dict[str, list[float]] = {"tabs": [], "alone": []}
    told: dict[str, list[float]] = {"dashboard_cpu": [], "asked_a_second": []}
    for number in range(rounds):
        for name in ("tabs", "alone") if number % 2 == 0 else ("alone", "tabs"):
            if name == "alone":
                time.sleep(3)
                rates[name].append(round(in_a_process(url, count), 1))
            else:
                with dashboard(url, tabs, told):
                    rates[name].append(round(in_a_process(url, count), 1))
    ratios = [beside / alone for beside, alone in zip(rates["tabs"], rates["alone"], strict=True)]
    return {
        "rates": rates,
        "ratio_of_medians": round(statistics.median(rates["tabs"]) / statistics.median(rates["alone"]), 3),
        "median_of_ratios": round(statistics.median(ratios), 3),
        **{name: statistics.median(values) for name, values in told.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url")
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--only", default="", help="pages whose names hold this regular expression")
    parser.add_argument("--as-it-is", action="store_true", help="the jobs are those that are there")
    parser.add_argument("--fill-only", action="store_true", help="store the jobs at the URL itself and leave them")
    parser.add_argument("--tabs", type=int, default=0, help="drain beside so many open tabs instead")
    parser.add_argument("--drain", type=int, default=30_000, help="jobs of each drain")
    parser.add_argument("--drain-only", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--look-at", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.look_at:
        asyncio.run(open_tabs(options.look_at, options.tabs))
    if options.drain_only:
        print(drain(options.url, options.drain))
        return
    if options.fill_only:
        print(json.dumps({"fill_s": round(fill(options.url, options.jobs), 1)}))
        return
    with ExitStack() as stack:
        told: dict[str, Any] = {"jobs": options.jobs}
        if options.as_it_is:
            url = options.url
        else:
            url = stack.enter_context(own_store(options.url))
            told["fill_s"] = round(fill(url, options.jobs), 1)
        if options.tabs:
            told |= {"tabs": options.tabs, **beside_tabs(url, options.tabs, options.drain, options.rounds)}
        else:
            found = measure(url, options.rounds, options.only)
            print(f"{'ms':32}    least      p50      p95      max    first   KiB")
            for name, of in sorted(found.items(), key=lambda each: -each[1]["p95"]):
                figures = "".join(f" {of[each]:8.1f}" for each in ("least", "p50", "p95", "max", "first"))
                print(f"{name:32}{figures} {of['kib']:5}  {of.get('status', '')}")
            told["pages"] = found
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
