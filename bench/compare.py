"""Jobcard beside other job queues, alternating in one run; prints medians and ratios.

    python bench/compare.py --harness DIR [--peers plainjob] [--metrics enqueue,bulk,drain,latency] [--rounds 3]

The machine is noisy: only ratios of one run mean anything. The harness is a folder with `bench.py`, its peers set up.
"""

import argparse
import json
import os
import statistics
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
STORED = "select count(*) from jobcard_jobs where state = 'completed'"


def load_harness(folder: Path) -> Any:
    sys.path.insert(0, str(folder))
    import bench  # the harness's own

    bench.peer("jobcard", "-", "-", "sqlite:peer-jobcard.db", STORED, 60000, 20000)
    return bench


def run_of(harness: Any, name: str, folder: Path) -> Any:
    run = harness.Run(name)
    if name == "jobcard":
        run.cmd, run.cwd = [sys.executable, str(HERE / "jobcard_peer.py")], str(HERE)
        run.env["PYTHONPATH"] = str(folder / "peers")
    return run


def measure(run: Any, metric: str) -> dict[str, float]:
    jobs, ones = run.p["n"], run.p["enq_n"]
    if metric == "enqueue":
        return {"enqueue": run.enqueue(ones // 4)["rate"]}
    if metric == "bulk":
        return {"bulk": run.bulk(ones * 2)["rate"] or 0.0}
    if metric == "drain":
        found = run.drain(jobs)
        return {"drain": found.get("rate_recorded") or 0.0, "drain_errors": float("error" in found)}
    found = run.latency(200, 10)
    return {"p50_ms": found["p50_ms"], "p99_ms": found["p99_ms"]}


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
    names = ["jobcard", *options.peers.split(",")]
    found: dict[str, dict[str, list[float]]] = {name: {} for name in names}
    for _ in range(options.rounds):
        for metric in options.metrics.split(","):
            for name in names:
                for key, value in measure(run_of(harness, name, folder), metric).items():
                    found[name].setdefault(key, []).append(value)
    medians = {name: {key: statistics.median(values) for key, values in of.items()} for name, of in found.items()}
    ratios = {
        name: {key: round(medians["jobcard"][key] / value, 2) for key, value in of.items() if value}
        for name, of in medians.items()
        if name != "jobcard"
    }
    print(json.dumps({"rounds": options.rounds, "load1": os.getloadavg()[0], "medians": medians, "jobcard_to": ratios}))


if __name__ == "__main__":
    main()
