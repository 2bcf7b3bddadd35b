"""Jobcard beside other job queues, alternating in one run; prints medians and ratios.

    python bench/compare.py --harness DIR [--peers plainjob] [--metrics enqueue,bulk,drain,latency] [--rounds 3]

A peer runs beside Jobcard on the store that the peer is for: pgqueuer on PostgreSQL, bullmq on Redis. The machine is
noisy: only ratios of one run mean anything. The harness is a folder with `bench.py`, its peers set up and its servers
running.
"""

import argparse
import json
import os
import statistics
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
OURS = "jobcard"
COMPLETED_SQL = "select count(*) from jobcard_jobs where state = 'completed'"
# By the harness's name of a store: how it counts what is stored as completed, and how many jobs are a run.
COMPLETED: dict[str, tuple[Any, int]] = {
    "sqlite": (COMPLETED_SQL, 60_000),
    "pg": (COMPLETED_SQL, 60_000),
    "my": (COMPLETED_SQL, 20_000),
    "mongo": (("count", "jobcard.jobs", {"state": "completed"}), 20_000),
    "redis": (("zcard", "{jobcard}:completed"), 60_000),
}


def load_harness(folder: Path) -> Any:
    sys.path.insert(0, str(folder))
    import bench  # the harness's own

    for store, (completed, jobs) in COMPLETED.items():
        place = "sqlite:peer-jobcard.db" if store == "sqlite" else store
        bench.peer(f"{OURS}-{store}", "-", "-", place, completed, jobs, 20_000 if store == "sqlite" else 6_000)
    return bench


def store_url(harness: Any, run: Any) -> str:
    """Where Jobcard keeps its jobs in a run: the database that the harness empties before."""
    if run.store == "pg":
        return str(run.env["BENCH_PG_DSN"])
    if run.store == "my":
        return f"mariadb://bench:bench@127.0.0.1:{harness.MY_PORT}/{run.db}"
    if run.store == "mongo":
        return f"mongodb://127.0.0.1:{harness.MONGO_PORT}/{run.db}?directConnection=true"
    if run.store == "redis":
        return str(harness.REDIS_URL)
    return f"sqlite:///{harness.SQLITE_DIR}/peer-jobcard.db"


def run_of(harness: Any, name: str, folder: Path) -> Any:
    run = harness.Run(name)
    if name.startswith(OURS):
        run.cmd, run.cwd = [sys.executable, str(HERE / "jobcard_peer.py")], str(HERE)
        run.env |= {"PYTHONPATH": str(folder / "peers"), "BENCH_JOBCARD_URL": store_url(harness, run)}
    return run


def measure(run: Any, metric: str) -> dict[str, float]:
    jobs, ones = run.p["n"], run.p["enq_n"]
    if metric == "enqueue":
        return {"enqueue": run.enqueue(ones // 4)["rate"]}
    if metric == "bulk":
        return {"bulk": run.bulk(ones * 2)["rate"] or 0.0}
    if metric == "drain":
        found = run.drain(jobs)
        if "error" in found:
            print(found, file=sys.stderr)
        return {"drain": found.get("rate_recorded") or 0.0, "drain_errors": float("error" in found)}
    found = run.latency(200, 10)
    return {"p50_ms": found["p50_ms"], "p99_ms": found["p99_ms"]}


def compare(harness: Any, folder: Path, peer: str, metrics: list[str], rounds: int) -> dict[str, Any]:
    """One peer and Jobcard on its store, by turns."""
    ours = f"{OURS}-{harness.Run(peer).store}"
    found: dict[str, dict[str, list[float]]] = {ours: {}, peer: {}}
    for number in range(rounds):
        for metric in metrics:
            # Who goes first changes, so that neither has the better half of a machine that warms up.
            for name in (ours, peer) if number % 2 == 0 else (peer, ours):
                for key, value in measure(run_of(harness, name, folder), metric).items():
                    found[name].setdefault(key, []).append(value)
    medians = {name: {key: statistics.median(values) for key, values in of.items()} for name, of in found.items()}
    ratio = {key: round(medians[ours][key] / value, 2) for key, value in medians[peer].items() if value}
    return {"rounds": rounds, "load1": round(os.getloadavg()[0], 2), "medians": medians, "ratio": ratio}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--harness", type=Path, required=True)
    parser.add_argument("--peers", default="plainjob")
    parser.add_argument("--metrics", default="enqueue,bulk,drain,latency")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    folder = options.harness.resolve()
    harness = load_harness(folder)
    Path(harness.WORK, "log").mkdir(parents=True, exist_ok=True)
    for peer in options.peers.split(","):
        print(json.dumps(compare(harness, folder, peer, options.metrics.split(","), options.rounds)), flush=True)


if __name__ == "__main__":
    main()
