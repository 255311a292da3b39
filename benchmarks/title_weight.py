"""How often the words of a title are to count in lexical search: gold passages among the first three, by weight.

    python benchmarks/title_weight.py ../shared/data/{hotpotqa/train_600.json,2wikimultihopqa/train_500.json}

The passages of all questions of a file are indexed together, once for each weight, and each question is searched for as
it is asked. Questions of a training file are meant: the weight is chosen by what comes out.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import mean
from unittest import mock

from reporting import finish_rows, make_parser

from masksearch_agent.config.retrieval import RetrievalSettings
from masksearch_agent.corpus.readers import read_passages
from masksearch_agent.evaluation.sources import read_tasks
from masksearch_agent.retrieval.index import build_index, open_index

LIMIT = 3


def recall(file: Path, weight: int, mode: str) -> float:
    """Return the mean share of a question's gold passages that are found where titles have this weight."""
    tasks = [task for task in read_tasks(file) if task.gold_passage_ids]
    with (
        tempfile.TemporaryDirectory() as scratch,
        mock.patch("masksearch_agent.retrieval.modes.bm25._TITLE_WEIGHT", weight),
    ):
        folder = Path(scratch) / "index"
        build_index(read_passages(file), folder, RetrievalSettings(mode=mode))
        ranked = open_index(folder, mode).search([task.question for task in tasks], LIMIT)
    return mean(
        len({hit.passage.id for hit in hits} & set(task.gold_passage_ids)) / len(set(task.gold_passage_ids))
        for task, hits in zip(tasks, ranked, strict=True)
    )


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument(
        "files", type=Path, nargs="+", help="HotpotQA, 2Wiki or MuSiQue files with their passages."
    )
    parser.add_argument("--weights", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--mode", default="bm25", help="`hybrid` embeds the passages anew for each weight.")
    arguments = parser.parse_args()
    rows = [
        {
            "weight": weight,
            **{file.parent.name: recall(file, weight, arguments.mode) for file in arguments.files},
        }
        for weight in arguments.weights
    ]
    finish_rows(arguments, rows, f"recall@{LIMIT} of gold passages")


if __name__ == "__main__":
    main()
