"""A web application with slow reports: `python reports.py`, then

    curl -i -X POST 'http://127.0.0.1:8000/reports?region=north'      202, and where to look
    curl http://127.0.0.1:8000/reports/ID                             how it is, and the report when it is there

Any WSGI server can run `application`; start the engine beside it with `jobcard start reports:jobs`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs
from wsgiref.simple_server import make_server

from jobcard import Jobcard, JobClass, JobNotFoundError

jobs = Jobcard("sqlite:///reports.db")

StartResponse = Callable[[str, list[tuple[str, str]]], Any]


@jobs.job(timeout=120, keep=3600)
class Report(JobClass):
    """The sales of a region."""

    def __init__(self, region: str) -> None:
        self.region = region

    def run(self, months: int) -> dict[str, int]:
        return {f"{self.region}-{month:02}": sum(range(month * 1000)) for month in range(1, months + 1)}


def application(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    """The web application; a request waits for no report."""
    path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
    headers = [("Content-Type", "application/json")]
    if method == "POST" and path == "/reports":
        region = parse_qs(environ["QUERY_STRING"]).get("region", ["all"])[0]
        handle = Report.with_(region).enqueue(months=12)
        headers.append(("Location", f"/reports/{handle.id}"))
        start_response("202 Accepted", headers)
        return [json.dumps({"id": str(handle.id)}).encode()]
    try:
        job = jobs.get(path.removeprefix("/reports/"))
    except JobNotFoundError:
        start_response("404 Not Found", headers)
        return [b"{}"]
    start_response("200 OK", headers)
    return [json.dumps({"state": job.state, "report": job.result, "reason": job.reason}).encode()]


if __name__ == "__main__":
    with jobs.running(), make_server("127.0.0.1", int(os.environ.get("PORT", "8000")), application) as server:
        print(f"http://127.0.0.1:{server.server_port}/reports", flush=True)
        server.serve_forever()
