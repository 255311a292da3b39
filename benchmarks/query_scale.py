"""What masking and generation ask of an index, and what a BM25 query takes as the corpus grows.

    python benchmarks/query_scale.py corpus.json 1 10

Indexes the corpus once and ten times over, each copy with a word of its own, masks its first 300 passages, and
generates with the hindsight teacher. Times are those of the processor, without what the search remembers. Copies of a
task's source are withheld, so the queries of a task are those of the corpus as it is.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from masksearch_agent.config.recipe import Recipe
from masksearch_agent.config.retrieval import RetrievalSettings
from masksearch_agent.corpus.readers import read_passages
from masksearch_agent.records import Passage, ScoredPassage
from masksearch_agent.retrieval.index import build_index, open_index
from masksearch_agent.retrieval.search import Search
from masksearch_agent.stages.plan import prompts_of
from masksearch_agent.stages.tasks import build_tasks, read_task_files
from masksearch_agent.stages.trajectories import generate_trajectories

PASSAGES = 300


class Watched:
    """A backend that counts and times its queries."""

    def __init__(self, directory: Path) -> None:
        self._backend = open_index(directory)
        self.queries = 0
        self.cpu_s = 0.0

    def search(self, queries: Sequence[str], limit: int) -> list[list[ScoredPassage]]:
        started_s = time.thread_time()
        found = self._backend.search(queries, limit)
        self.cpu_s += time.thread_time() - started_s
        self.queries += len(queries)
        return found


def copies(corpus: Path, count: int) -> Iterator[Passage]:
    for number in range(count):
        for passage in read_passages(corpus):
            text = f"{passage.text} edition{number}"
            yield dataclasses.replace(passage, id=f"{number}-{passage.id}", text=text)


def measure(corpus: Path, count: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name:
        folder, recipe = Path(name), Recipe()
        built = build_index(copies(corpus, count), folder / "index", RetrievalSettings(mode="bm25"))
        masking, generating = Watched(folder / "index"), Watched(folder / "index")
        tasks = folder / "tasks.jsonl"
        kept = build_tasks(corpus, Search(masking, cache_size=0), recipe.ramp, tasks, limit=PASSAGES)["kept"]
        search = Search(generating, cache_size=0)
        generate_trajectories(
            read_task_files([tasks]), search, recipe.generator, recipe.agent, prompts_of(recipe),
            folder / "traces.sqlite", "ramp",
        )  # fmt: skip
    return {
        "passages": built.passages,
        "queries_per_masked_passage": masking.queries / PASSAGES,
        "queries_per_trajectory": generating.queries / kept,
        "ms_per_query_masking": 1000 * masking.cpu_s / masking.queries,
        "ms_per_query_generating": 1000 * generating.cpu_s / generating.queries,
    }


if __name__ == "__main__":
    for copy_count in sys.argv[2:]:
        print(json.dumps(measure(Path(sys.argv[1]), int(copy_count))))
