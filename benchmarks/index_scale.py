"""What a BM25 index costs as it grows: time, size, memory, queries, and adding to it.

    python benchmarks/index_scale.py --passages 100000 1000000 5000000

Passages are of 60 words, drawn by Zipf's law from 200,000; a query is ten words of one passage, as a question shares
its words with the passage that answers it. Each step runs in a process of its own, whose memory is what Linux says of
it (`/proc/self/status`): the peak while building, and after all queries while serving, mapped files included, and
without them (`own`). Times of queries are wall times and, since other work disturbs those, processor times. 5 million
passages take 3 GB of disk and a quarter of an hour of an idle core.

The claim is, at 5 million: at most 2 GB building, 1 GB serving, 20 ms a query (median); adding 1,000 passages to a
million takes at most 5 seconds.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from reporting import finish_rows, make_parser

from masksearch_agent.config.retrieval import RetrievalSettings
from masksearch_agent.records import Passage
from masksearch_agent.retrieval.index import build_index, open_index

VOCABULARY = 200_000
WORDS = 60
QUERY_WORDS = 10
ADDED = 1000
LIMIT = 5


def make_words(number: int, seed: int) -> list[str]:
    # A power of the vocabulary's size that is drawn evenly is a rank by Zipf's law.
    draw = random.Random(seed * 10**9 + number).random
    return [f"w{int(VOCABULARY ** draw())}" for _ in range(WORDS)]


def make_passages(first: int, count: int, seed: int) -> Iterator[Passage]:
    for number in range(first, first + count):
        yield Passage(f"p{number}", f"Article {number}", " ".join(make_words(number, seed)))


def memory() -> dict[str, int]:
    """Return the resident memory of this process in MB: its peak, and now, with mapped files and without."""
    status = Path("/proc/self/status").read_text()
    fields = {"peak MB": "VmHWM", "MB": "VmRSS", "own MB": "RssAnon"}
    sizes = {name: re.search(rf"{field}:\s+(\d+) kB", status) for name, field in fields.items()}
    return {name: round(int(found[1]) * 1024 / 1e6) for name, found in sizes.items() if found}


def size_of(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6


def build(index: Path, count: int, seed: int) -> dict[str, Any]:
    wall, cpu = time.perf_counter(), time.process_time()
    build_index(make_passages(0, count, seed), index, RetrievalSettings(mode="bm25"))
    used = memory()
    return {
        "build s": time.perf_counter() - wall,
        "build CPU s": time.process_time() - cpu,
        "index MB": size_of(index),
        "build peak MB": used["peak MB"],
    }


def serve(index: Path, count: int, seed: int, queries: int = 1000) -> dict[str, Any]:
    backend = open_index(index)
    draw = random.Random(seed)
    wall, cpu = [], []
    for _ in range(queries):
        query = " ".join(draw.sample(make_words(draw.randrange(count), seed), QUERY_WORDS))
        started = time.perf_counter(), time.thread_time()
        backend.search([query], LIMIT)
        wall.append(1000 * (time.perf_counter() - started[0]))
        cpu.append(1000 * (time.thread_time() - started[1]))
    wall.sort()
    cpu.sort()
    used = memory()
    return {
        "p50 ms": wall[queries // 2],
        "p99 ms": wall[queries * 99 // 100],
        "p50 CPU ms": cpu[queries // 2],
        "p99 CPU ms": cpu[queries * 99 // 100],
        "serving MB": used["MB"],
        "serving own MB": used["own MB"],
    }


def add(index: Path, count: int, seed: int) -> dict[str, Any]:
    from masksearch_agent.retrieval.index import update_index

    added = list(make_passages(count, ADDED, seed))
    wall, cpu = time.perf_counter(), time.process_time()
    update_index(index, added)
    result = {"add s": time.perf_counter() - wall, "add CPU s": time.process_time() - cpu}
    wall = time.perf_counter()
    update_index(index, removed=[passage.id for passage in added])
    return result | {"remove s": time.perf_counter() - wall, "update peak MB": memory()["peak MB"]}


STEPS: dict[str, Callable[[Path, int, int], dict[str, Any]]] = {"build": build, "serve": serve, "add": add}


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--passages", type=int, nargs="+", default=[100_000])
    parser.add_argument("--steps", nargs="+", choices=list(STEPS), default=list(STEPS))
    parser.add_argument("--out", type=Path, help="Keep the indexes in this folder.")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for count in arguments.passages:
            index = (arguments.out or Path(scratch)) / str(count)
            row: dict[str, Any] = {"passages": count}
            for step in arguments.steps:
                call = [sys.executable, __file__, "--step", step, str(index), str(count), str(arguments.seed)]
                done = subprocess.run(call, stdout=subprocess.PIPE, text=True, env=os.environ, check=True)
                row |= json.loads(done.stdout)
                print(row, file=sys.stderr, flush=True)
            rows.append(row)
    finish_rows(arguments, rows)


if __name__ == "__main__":
    if "--step" in sys.argv:
        step, folder, number, seed = sys.argv[sys.argv.index("--step") + 1 :]
        print(json.dumps(STEPS[step](Path(folder), int(number), int(seed))))
    else:
        main()
