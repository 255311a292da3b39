"""Memory of indexing and masking many passages: how high it rises, and how much of that each passage costs.

Writes synthetic passages as JSON lines (about 60 words, Zipf-like vocabulary, every fact told in two passages), reads
them as a corpus, builds a BM25 index, masks every passage, and looks the masks of the first thousand up in the index.
Prints one JSON object with seconds and the peak resident memory after each step.

The claim is at most 1.5 GB for a million passages (about half an hour on one idle core, 2 GB of disk):

    python benchmarks/million_passages.py --passages 1000000

Two smaller runs show the slope:

    python benchmarks/million_passages.py --passages 20000
    python benchmarks/million_passages.py --passages 60000
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from masksearch_agent.config.ramp import RampSettings
from masksearch_agent.config.retrieval import RetrievalSettings
from masksearch_agent.corpus.readers import read_passages
from masksearch_agent.jsonl import write_jsonl
from masksearch_agent.ramp.spans import Span
from masksearch_agent.ramp.tasks import RampReport, build_ramp_tasks
from masksearch_agent.records import Passage
from masksearch_agent.retrieval.index import build_index, open_index
from masksearch_agent.retrieval.search import Search

VOCABULARY = 200_000
FILLER_WORDS = 48
LOOKED_UP = 1000


def make_rows(count: int) -> Iterator[dict[str, str]]:
    """Yield rows of title and text; passages 2k and 2k + 1 tell the same facts of the same works."""
    for number in range(count):
        works = random.Random(number // 2)
        name, year, town = (works.randrange(10**6), works.randrange(1000, 2000), works.randrange(10**5))
        filler = random.Random(-number - 1)
        # Squared twice, a uniform draw falls on few words often and on many seldom.
        words = (f"w{int(VOCABULARY * filler.random() ** 4)}" for _ in range(FILLER_WORDS))
        facts = f"The Works{name} company was founded in {year} in Town{town}."
        yield {
            "title": f"Article {number}",
            "text": f"Article {number % 7} of many: {facts} {' '.join(words)}.",
        }


def with_spans(passages: Iterable[Passage]) -> Iterator[tuple[Passage, tuple[Span, ...]]]:
    """Yield each passage with its year and its town, which stand where they are known to stand."""
    for passage in passages:
        start = passage.text.index("founded in ") + len("founded in ")
        stop = passage.text.index(".", start)
        town = passage.text.index("Town", start)
        yield (
            passage,
            (
                Span(start, start + 4, passage.text[start : start + 4], "DATE"),
                Span(town, stop, passage.text[town:stop], "PLACE"),
            ),
        )


def first(items: Iterable[Any], count: int) -> Iterator[Any]:
    for _, item in zip(range(count), items, strict=False):
        yield item


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--passages", type=int, default=20_000)
    parser.add_argument("--out", type=Path, help="Keep the files in this folder.")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.out or Path(scratch)
        corpus, index = folder / "corpus.jsonl", folder / "index"
        result: dict[str, Any] = {"passages": arguments.passages}
        settings = RampSettings()

        def measure(step: str, since: float) -> None:
            # Kilobytes on Linux, bytes on macOS.
            unit = 1 if sys.platform == "darwin" else 1024
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
            result[step] = {"seconds": round(time.perf_counter() - since, 1), "peak_mb": round(peak / 1e6)}

        start = time.perf_counter()
        write_jsonl(corpus, make_rows(arguments.passages))
        measure("written", start)

        start = time.perf_counter()
        result["indexed_passages"] = build_index(
            read_passages(corpus), index, RetrievalSettings(mode="bm25")
        ).passages
        measure("indexed", start)

        start = time.perf_counter()
        report = RampReport()
        result["tasks"] = write_jsonl(
            folder / "tasks.jsonl",
            build_ramp_tasks(with_spans(read_passages(corpus)), None, settings, report=report),
        )
        result["dropped"] = dict(report.drops)
        measure("masked", start)

        start = time.perf_counter()
        search = Search(open_index(index))
        looked_up = first(with_spans(read_passages(corpus)), LOOKED_UP)
        result["answerable_of_first"] = sum(1 for _ in build_ramp_tasks(looked_up, search, settings))
        measure("looked_up", start)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
