"""RAMP tasks as a dataset folder with its card.

The columns are those of a task file, so the JSON lines of an export are one. The folder is that of `dataset_folder`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from masksearch_agent.dataset_folder import ExportFormat, markdown_table, write_card, write_splits
from masksearch_agent.ramp.inspection import describe_tasks
from masksearch_agent.records import SearchTask

__all__ = ("export_tasks",)

_COLUMNS = {
    **dict.fromkeys(("id", "kind", "question"), str),
    "answers": [[str]],
    "category": str,
    "hops": [dict.fromkeys(("need", "query", "answer", "kind"), str)],
    "gold_passage_ids": [str],
    **dict.fromkeys(("source_passage_id", "source_text", "split"), str),
    "gold_titles": [str],
    "is_open": bool,
    "answer_items": [str],
}

_CARD = """# Masked passages

{rows} tasks of Retrieval-Augmented Mask Prediction ([MaskSearch](https://arxiv.org/abs/2505.20285)), written by
masksearch-agent: passages with facts hidden behind `[mask]`, to be filled in by searching the rest of the collection.

| column | what it holds |
| --- | --- |
| `question` | `title: passage`, with masks; of category `cloze` a question for the masked fact |
| `answers` | for each mask, in the order of the text, what is accepted |
| `hops` | for each mask what is sought in words, a query that does not hold the answer, the answer, and its kind |
| `gold_passage_ids` | passages that a query found the answers in; empty where that was not asked |
| `source_passage_id` | the passage itself, which a search should withhold while a model is trained on the task |
| `source_text` | of category `cloze` the text of that passage |
| `is_open` | whether the passage may be found instead: a question of what the documents themselves tell |
| `id`, `kind`, `category`, `split` | equal ids are equal tasks |

```python
from datasets import load_dataset

tasks = load_dataset("{name}")
```

## What is in it

{tables}

Passages are quoted from the collection; its licence applies to them.
"""


def export_tasks(
    tasks: Sequence[SearchTask], folder: Path, file_format: ExportFormat = "parquet"
) -> dict[str, Any]:
    """Write RAMP tasks, without tasks of other kinds, as a dataset with its card; return what was written.

    What an earlier export wrote there, in either format, is replaced.

    Raises:
        TaskError: There is no RAMP task; the folder is then left as it was.
        ConfigError: The folder has a card or data of somebody else.
        MissingExtraError: Parquet was asked for and pyarrow is not installed.
    """
    distributions = describe_tasks(tasks)
    chosen = [task for task in tasks if task.is_made_from_passage]
    splits: dict[str, list[SearchTask]] = {}
    for task in chosen:
        splits.setdefault(task.split, []).append(task)
    counts = write_splits(folder, file_format, splits, _COLUMNS)
    tables = "\n\n".join(
        markdown_table(name, "masks" if "fact" in name else "tasks", counted.items())
        for name, counted in distributions.items()
    )
    body = _CARD.format(rows=len(chosen), name=folder.as_posix(), tables=tables)
    write_card(folder, "Masked passages", file_format, counts, ("ramp", "search-agent"), body)
    return {"dataset": str(folder), "rows": counts, "format": file_format}
