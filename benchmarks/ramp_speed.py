"""How long it takes to make RAMP tasks of a corpus: spaCy's spans, quality rules, answerability.

    python benchmarks/index_speed.py ../shared/data/2wikimultihopqa/corpus.json --out runs/wiki
    python benchmarks/ramp_speed.py ../shared/data/2wikimultihopqa/corpus.json --index runs/wiki

The claim is at most 120 s for the 6,119 Wikipedia passages of that file on two cores. It is `masksearch ramp`: every
usable span is looked up in the index, without the passage it stands in, and again as it is masked; any passage with the
answer supports it. `--spans both` parses the passages too. Processor time is that of this process and of the one that
runs spaCy.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from reporting import finish_rows, make_parser

from masksearch_agent.config.recipe import load_recipe
from masksearch_agent.retrieval.index import open_index
from masksearch_agent.retrieval.search import Search
from masksearch_agent.stages.tasks import build_tasks


def processor_seconds() -> float:
    """Return what this process and those that it has waited for have used."""
    return sum(os.times()[:4])


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--index", type=Path, required=True, help="An index of the corpus.")
    parser.add_argument("--mode", choices=["bm25", "dense", "hybrid"], default="hybrid")
    parser.add_argument("--spans", choices=["entities", "corpus", "both"], default="entities")
    parser.add_argument("--limit", type=int, help="Passages read at most.")
    parser.add_argument("--out", type=Path, help="Keep the tasks in this file.")
    arguments = parser.parse_args()
    settings = {"seed": arguments.seed, "spans": arguments.spans, "support_overlap": 0}
    recipe = load_recipe(overrides=[f"ramp.{name}={value}" for name, value in settings.items()])
    with tempfile.TemporaryDirectory() as scratch:
        out = arguments.out or Path(scratch) / "tasks.jsonl"
        wall, cpu = time.perf_counter(), processor_seconds()
        search = Search(open_index(arguments.index, arguments.mode))
        report = build_tasks(arguments.corpus, search, recipe.ramp, out, limit=arguments.limit)
        wall_s, cpu_s = time.perf_counter() - wall, processor_seconds() - cpu
    passages = report["documents"]["passages"]
    rows = [
        {
            "search": arguments.mode,
            "passages": passages,
            "tasks": report["kept"],
            "wall s": wall_s,
            "CPU s": cpu_s,
            "passages/s": passages / wall_s,
        }
    ]
    finish_rows(arguments, rows)


if __name__ == "__main__":
    main()
