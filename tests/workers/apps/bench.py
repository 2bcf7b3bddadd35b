import asyncio
from jobcard import Jobcard
jobs = Jobcard()
@jobs.job
def noop() -> None: ...
@jobs.job
async def anoop() -> None: ...
@jobs.job
async def naps() -> None:
    await asyncio.sleep(0.01)
