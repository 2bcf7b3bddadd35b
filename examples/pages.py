"""Fetch pages, many at a time: `python pages.py [--patience SECONDS] URL…`

Each page is a coroutine, and all of them share one process. What is not there when the patience is over is canceled,
and how far it was is told. Only http:// is spoken, so that the standard library will do.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from urllib.parse import urlsplit

from jobcard import (
    Backoff,
    Fail,
    Jobcard,
    JobContext,
    JobFailedError,
    JobHandle,
    Queue,
    ResultTimeoutError,
    TransitionError,
)

AT_ONCE = 200  # both count: jobs at once in an engine, and those of a queue

jobs = Jobcard(
    "sqlite:///pages.db", max_concurrent_jobs=AT_ONCE, queues=[Queue("pages", concurrency=AT_ONCE)], cancel_grace=2
)


@jobs.job(queue="pages", timeout=60, max_attempts=3, backoff=Backoff.exponential(base=0.2))
async def fetch(ctx: JobContext, url: str) -> int:
    """The size of a page."""
    place = urlsplit(url)
    if place.scheme != "http" or not place.hostname:
        raise Fail("only http:// is spoken here")
    reader, writer = await asyncio.open_connection(place.hostname, place.port or 80)
    try:
        path = (place.path or "/") + (f"?{place.query}" if place.query else "")
        writer.write(f"GET {path} HTTP/1.0\r\nHost: {place.netloc}\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = int(head.partition("content-length:")[2].split("\r\n")[0] or 0)
        size = 0
        while chunk := await reader.read(16 << 10):
            size += len(chunk)
            if length:
                ctx.progress(min(1.0, size / length), f"{size} of {length} bytes")
        return size
    except asyncio.CancelledError:
        ctx.log(f"hung up: {ctx.cancel_reason}")
        raise
    finally:
        writer.close()


async def line_for(url: str, handle: JobHandle[int], patience: float) -> str:
    """What to tell of a page, when it is there or the patience is over."""
    try:
        with contextlib.suppress(ResultTimeoutError):
            return f"{url} {await handle.result_async(timeout=patience)} bytes"
        with contextlib.suppress(TransitionError):  # it has ended after all
            await asyncio.to_thread(handle.cancel)
        return f"{url} {await handle.result_async(timeout=30)} bytes"
    except JobFailedError as error:
        job = await asyncio.to_thread(handle.refresh)
        how_far = f", {job.progress.text}" if job.progress else ""
        return f"{url} {error.state}: {error.errors[-1]['message'] if error.errors else error.reason}{how_far}"


async def main(urls: list[str], patience: float) -> None:
    """Print a line for each page, in order."""
    handles = await jobs.enqueue_many_async(fetch.call(url) for url in urls)
    for line in await asyncio.gather(*(line_for(*each, patience) for each in zip(urls, handles, strict=True))):
        print(line)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Fetch pages, many at a time.")
    parser.add_argument("urls", nargs="+", metavar="URL")
    parser.add_argument("--patience", type=float, default=10.0, metavar="SECONDS")
    given = parser.parse_args()
    with jobs.running():
        asyncio.run(main(given.urls, given.patience))
