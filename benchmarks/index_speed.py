"""How long it takes to index a corpus for BM25 and dense search, MiniLM included.

    python benchmarks/index_speed.py ../shared/data/2wikimultihopqa/corpus.json

The claim is at most 60 s for the 6,119 Wikipedia passages of that file on two cores. It is `masksearch index`: reading,
storing, BM25, embedding and Chroma, in a new folder.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from reporting import finish_rows, make_parser

from masksearch_agent.config.retrieval import RetrievalSettings
from masksearch_agent.corpus.readers import read_passages
from masksearch_agent.retrieval.index import build_index


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument(
        "--out", type=Path, help="Keep the hybrid index in this folder, which must not exist yet."
    )
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for mode in ("bm25", "hybrid"):
            folder = arguments.out if arguments.out and mode == "hybrid" else Path(scratch) / mode
            wall, cpu = time.perf_counter(), time.process_time()
            built = build_index(read_passages(arguments.corpus), folder, RetrievalSettings(mode=mode))
            wall_s, cpu_s = time.perf_counter() - wall, time.process_time() - cpu
            rows.append(
                {
                    "index": mode,
                    "passages": built.passages,
                    "wall s": wall_s,
                    "CPU s": cpu_s,
                    "passages/s": built.passages / wall_s,
                }
            )
    finish_rows(arguments, rows)


if __name__ == "__main__":
    main()
