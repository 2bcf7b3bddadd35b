"""A shop's jobs, and a day of it, which does not know its store. `python orders.py` plays the day."""

from __future__ import annotations

import asyncio
import time

from jobcard import Backoff, Jobcard, JobContext, JobFailedError, Queue, Retry

jobs = Jobcard(queues=[Queue("mail", priority=5), Queue("default")], stop_timeout=10)


@jobs.job(max_attempts=3, backoff=Backoff.fixed(0.05))
def charge(ctx: JobContext, order: int) -> str:
    if ctx.attempt == 1:
        raise ConnectionError("the bank hangs up")
    if ctx.attempt == 2:
        raise Retry("the bank is busy", delay=0.05)
    return f"order {order} paid at try {ctx.attempt}"


@jobs.job(max_attempts=2, backoff=Backoff.fixed(0.05))
def refuse(order: int) -> None:
    raise ValueError(f"no such order: {order}")


@jobs.job
async def fetch(pause: float) -> str:
    await asyncio.sleep(pause)
    return "fetched"


@jobs.job(queue="mail")
def mail(to: str, text: str = "") -> dict[str, str]:
    return {"to": to, "text": text}


@jobs.job
def pack(ctx: JobContext, items: list[str]) -> int:
    done = ctx.checkpoint or 0
    for place, item in enumerate(items[done:], done + 1):
        ctx.log(f"packed {item}")
        ctx.progress(place / len(items), item)
        ctx.save_checkpoint(place)
    ctx.then(mail.call("customer", text=f"{len(items)} things are on their way"))
    return len(items)


@jobs.job(timeout=0.5, max_attempts=1)
def hang() -> None:
    while True:
        pass


@jobs.job
def wait_for_ever() -> None:
    time.sleep(600)


def reason_of(handle: object) -> str:
    try:
        handle.result(timeout=30)  # type: ignore[attr-defined]
    except JobFailedError as error:
        return error.reason or ""
    return "completed"


async def gather() -> list[str]:
    handles = [await fetch.enqueue_async(0.05) for _ in range(8)]
    return [await handle for handle in handles]


def day() -> None:
    """Everything a shop does, printed as it comes out."""
    print(charge.enqueue(7).result(timeout=30))
    print(reason_of(refuse.enqueue(8)))
    print(set(asyncio.run(gather())))
    packed = pack.enqueue(["pen", "ink", "paper"])
    print(packed.result(timeout=30))
    job = packed.refresh()
    print(job.progress.value if job.progress else None, job.checkpoint, [text for _, text in job.log])
    while not (letters := list(jobs.iterate(name="orders.mail"))):
        time.sleep(0.01)  # on MongoDB what follows is seen a moment after the success
    [letter] = letters
    print(letter.parent_id == packed.id, jobs.handle(letter.id).result(timeout=30))
    print(reason_of(hang.enqueue()))
    running = wait_for_ever.enqueue()
    while running.refresh().state != "running":
        time.sleep(0.01)
    running.cancel()
    print(reason_of(running))
    late = mail.options(delay=3600).enqueue("tomorrow")
    print(late.refresh().hold, late.cancel().state)
    began = time.monotonic()
    print(mail.options(delay=0.5).enqueue("soon").result(timeout=30), time.monotonic() - began >= 0.5)
    many = jobs.enqueue_many([mail.call(str(number)) for number in range(500)])
    print(sum(int(handle.result(timeout=60)["to"]) for handle in many))
    counts = jobs.count()
    print({state.value: counts[state] for state in counts if counts[state]})


if __name__ == "__main__":
    with jobs.running():
        day()
