"""How many gold passages of a question stand in the first five: hybrid search against BM25 and MiniLM alone.

    python benchmarks/retrieval_recall.py ../shared/data/hotpotqa/distractor_50.json ../shared/data/musique/ans_50.jsonl

The passages of all questions of a file, gold and distractors, are indexed together, and each question is searched for
as it is asked. Recall is the share of its gold passages that are found, averaged over questions; n is their
number, with a 95% bootstrap interval. The claim is that hybrid is at least as good as the better of the two.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from reporting import finish_rows, make_parser

from masksearch_agent.config.retrieval import RetrievalSettings
from masksearch_agent.corpus.readers import read_passages
from masksearch_agent.evaluation.intervals import bootstrap_mean
from masksearch_agent.evaluation.sources import read_tasks
from masksearch_agent.retrieval.index import build_index, open_index

LIMIT = 5


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("files", type=Path, nargs="+", help="HotpotQA or MuSiQue files with their passages.")
    arguments = parser.parse_args()
    rows = []
    for file in arguments.files:
        tasks = [task for task in read_tasks(file) if task.gold_passage_ids]
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "index"
            count = build_index(read_passages(file), folder, RetrievalSettings(mode="hybrid")).passages
            for mode in ("bm25", "dense", "hybrid"):
                ranked = open_index(folder, mode).search([task.question for task in tasks], LIMIT)
                recalls = []
                for task, hits in zip(tasks, ranked, strict=True):
                    gold = set(task.gold_passage_ids)
                    recalls.append(len(gold & {hit.passage.id for hit in hits}) / len(gold))
                recall = bootstrap_mean(recalls, seed=arguments.seed)
                rows.append(
                    {
                        "questions": file.parent.name,
                        "n": len(tasks),
                        "passages": count,
                        "search": mode,
                        f"recall@{LIMIT}": recall.mean,
                        "95% from": recall.low,
                        "to": recall.high,
                    }
                )
    finish_rows(arguments, rows)


if __name__ == "__main__":
    main()
