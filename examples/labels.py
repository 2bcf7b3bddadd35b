"""A web application that starts its own engine: `PORT=8000 python labels.py`, as often as you like, on several ports.

    curl -i -X POST 'http://127.0.0.1:8000/labels?parcels=40'     202, and where to look
    curl http://127.0.0.1:8000/labels/ID                          state, progress, and the result when it is there
    curl -X DELETE http://127.0.0.1:8000/labels/ID                cancels it

Each process calls `jobs.start()` as it comes up, as the processes of gunicorn or uvicorn would. One of them starts the
engine, the others stand by. Plain asyncio, in place of the framework that you have.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

from jobcard import Jobcard, JobContext, JobNotFoundError, TransitionError

jobs = Jobcard("sqlite:///labels.db", stop_timeout=10)


@jobs.job(timeout=120, keep=3600)
def print_labels(ctx: JobContext, parcels: int) -> list[str]:
    """One label a parcel; a try that was interrupted goes on where it was."""
    labels: list[str] = ctx.checkpoint or []
    while len(labels) < parcels:
        time.sleep(0.05)  # the printer
        labels.append(f"parcel {len(labels) + 1}")
        ctx.save_checkpoint(labels)
        ctx.progress(len(labels) / parcels, labels[-1])
    return labels


async def answer(method: str, target: str) -> tuple[str, dict[str, Any]]:
    """Status and body of a response; nobody waits for a label."""
    url = urlsplit(target)
    if method == "POST" and url.path == "/labels":
        parcels = int(parse_qs(url.query).get("parcels", ["1"])[0])
        handle = await print_labels.enqueue_async(parcels)
        return "202 Accepted", {"place": f"/labels/{handle.id}"}
    job_id = url.path.removeprefix("/labels/")
    try:
        # What has no `_async` of its own goes to a thread: it waits for the store.
        job = await asyncio.to_thread(jobs.cancel if method == "DELETE" else jobs.get, job_id)
    except JobNotFoundError:
        return "404 Not Found", {}
    except TransitionError as error:
        return "409 Conflict", {"error": str(error)}
    return "200 OK", {
        "state": job.state,
        "progress": job.progress.value if job.progress else 0,
        "labels": job.result,
        "reason": job.reason,
    }


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One request."""
    try:
        method, target, _version = (await reader.readline()).decode("latin-1").split()
        while (await reader.readline()).strip():
            pass
        try:
            status, body = await answer(method, target)
        except ValueError as error:  # among them what jobcard says of wrong arguments
            status, body = "400 Bad Request", {"error": str(error)}
        text = json.dumps(body).encode()
        head = f"HTTP/1.0 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n"
        writer.write(head.encode() + text)
        await writer.drain()
    finally:
        writer.close()


async def main() -> None:
    """Serve until SIGTERM or Ctrl-C."""
    over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    await asyncio.to_thread(jobs.start)  # returns when an engine is ready, ours or another process's
    server = await asyncio.start_server(serve, "127.0.0.1", int(os.environ.get("PORT", "8000")))
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/labels", flush=True)
    await over.wait()
    server.close()
    await asyncio.to_thread(jobs.stop)


if __name__ == "__main__":
    asyncio.run(main())
