"""How many trajectories a second one driver can take from its workers: what bounds `generate --engine ray`.

    masksearch generate runs/ramp.jsonl --index runs/index --out runs/traces.sqlite
    python benchmarks/driver_speed.py runs/ramp.jsonl runs/traces.sqlite 20000

Workers are replaced by one that returns stored trajectories under new ids at once, so what is timed is the driver:
reading tasks, cutting shards, writing to the store. Not in it: what Ray takes to move a shard, about a megabyte.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from itertools import cycle, islice
from pathlib import Path

from masksearch_agent.cluster.runs import generate_trajectories
from masksearch_agent.cluster.shards import Job, Json, Shard
from masksearch_agent.config.recipe import Recipe
from masksearch_agent.traces.store import PackedTrajectory, TraceStore, pack_trajectory


class InstantPool:
    """Has every result ready."""

    worker_count = 1

    def __init__(self, ready: Iterable[PackedTrajectory]) -> None:
        self._ready = cycle(list(ready))

    def do(self, job: Job, shards: Iterable[Shard]) -> Iterator[tuple[Shard, Json]]:
        for shard in shards:
            outcomes = [next(self._ready)._replace(id=task["id"], task_id=task["id"]) for task in shard.items]
            yield shard, {"outcomes": outcomes, "cost": {}}


def measure(tasks: Path, traces: Path, count: int) -> dict[str, float]:
    """Return the rates of a run of `count` tasks."""
    with TraceStore(traces) as store:
        pool = InstantPool(map(pack_trajectory, store.trajectories(limit=1000)))
    rows = [json.loads(line) for line in tasks.read_text(encoding="utf-8").splitlines()]
    with tempfile.TemporaryDirectory() as folder:
        copies, out = Path(folder, "tasks.jsonl"), Path(folder, "traces.sqlite")
        with copies.open("w", encoding="utf-8") as file:
            for number, row in enumerate(islice(cycle(rows), count)):
                file.write(json.dumps(row | {"id": f"{number:016x}"}) + "\n")
        started_s, started_cpu_s = time.perf_counter(), time.process_time()
        generate_trajectories(pool, [copies], "index", Recipe(), out, "s")
        seconds, cpu_seconds = time.perf_counter() - started_s, time.process_time() - started_cpu_s
        with TraceStore(out) as store:
            assert store.count() == count
        size_bytes = out.stat().st_size
    return {
        "trajectories_per_s": count / seconds,
        "trajectories_per_cpu_s": count / cpu_seconds,
        "bytes_per_trajectory": size_bytes / count,
    }


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])), indent=2))
