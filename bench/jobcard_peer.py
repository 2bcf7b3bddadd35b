"""Jobcard as a peer of the benchmark harness: the same job, clock and definitions as every other peer.

jobcard_peer.py setup | enqueue N | bulk N | worker | lat K SECONDS      (see compare.py)
"""

from peerlib import SQLITE_DIR, E, Producer, main, mark

from jobcard import Jobcard

URL = E("BENCH_JOBCARD_URL") or f"sqlite:///{SQLITE_DIR}/peer-jobcard.db"
jobs = Jobcard(URL, max_concurrent_jobs=int(E("BENCH_CONC", "10")))


@jobs.job(name="noop")
def noop(n: int) -> None:
    mark(n)


def producer() -> Producer:
    def bulk(numbers: list[int]) -> None:
        jobs.enqueue_many([noop.call(n) for n in numbers])

    return Producer(noop.enqueue, bulk, jobs.close)


if __name__ == "__main__":
    main(producer, jobs.run, jobs.migrate)
