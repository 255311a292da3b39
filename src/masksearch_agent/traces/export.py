"""Conversations of a trace store as a dataset folder that `datasets` and `trl sft` load as it is.

Its columns are `messages`, `tools`, `task_id` and `trajectory_id`; the folder is that of `dataset_folder`.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from masksearch_agent.dataset_folder import ExportFormat, markdown_table, write_card, write_splits
from masksearch_agent.errors import TraceError
from masksearch_agent.jsonl import dump_record
from masksearch_agent.records import Message, Trajectory, Usage
from masksearch_agent.traces.recorder import conversation_of, path_to
from masksearch_agent.traces.rows import POLICY_ROLE
from masksearch_agent.traces.store import TraceStore

__all__ = ("ExportFormat", "export_dataset")

logger = logging.getLogger(__name__)

_COLUMNS = {
    "messages": [{"role": str, "content": str}],
    "tools": [str],
    "task_id": str,
    "trajectory_id": str,
}

_CARD = """# Search trajectories

{rows} conversations of a search agent, written by
[masksearch-agent](https://arxiv.org/abs/2505.20285) (stage: {stage}; {verdict}). Each assistant message is one step:
`<think>…</think>` and then `<search>…</search>` or `<answer>…</answer>`; search results are user messages.

| column | what it holds |
| --- | --- |
| `messages` | the conversation, as `role` and `content` |
| `tools` | empty: the steps are text, not tool calls |
| `task_id`, `trajectory_id` | where it came from; equal ids are equal tasks and trajectories |

```python
from datasets import load_dataset

rows = load_dataset("{name}", split="train")
```

```bash
trl sft --dataset_name {name} --model_name_or_path MODEL --output_dir OUT
```

Add `--use_cpu` where there is no GPU, and `--assistant_only_loss` to train on the agent's own steps alone, which needs
a chat template that marks them with `{{% generation %}}`.

## What is in it

{tables}

Passages are quoted from the searched collection; its licence applies to them.
"""


@dataclass
class _Statistics:
    searches: Counter[int] = field(default_factory=Counter)
    producers: Counter[str] = field(default_factory=Counter)
    protocols: Counter[int] = field(default_factory=Counter)
    usage: Usage = field(default_factory=Usage)

    def count(self, trajectory: Trajectory) -> None:
        self.searches[len(trajectory.queries)] += 1
        self.producers[trajectory.producer] += 1
        self.protocols[trajectory.protocol_version] += 1
        if trajectory.usage is not None:
            self.usage += trajectory.usage


def export_dataset(
    store: TraceStore,
    folder: Path,
    file_format: ExportFormat = "parquet",
    stage: str | None = None,
    accepted: bool | None = True,
) -> dict[str, Any]:
    """Write the conversations of a store as a dataset with its card; return what was written.

    What an earlier export wrote there, in either format, is replaced. `stage` and `accepted` are the filters of
    `TraceStore`.

    Raises:
        TraceError: There is nothing to write; the folder is then left as it was.
        ConfigError: The folder has a card or data of somebody else.
        MissingExtraError: Parquet was asked for and pyarrow is not installed.
    """
    statistics = _Statistics()
    rows = _rows(store, stage, accepted, statistics)
    first = next(rows, None)
    if first is None:
        raise TraceError(
            f"{store.path} has no {'accepted ' if accepted else ''}conversation"
            f"{'' if stage is None else f' of stage {stage!r}'}; `masksearch traces` lists what it has"
        )
    counts = write_splits(folder, file_format, {"train": chain([first], rows)}, _COLUMNS)
    verdict = {True: "accepted by the judge", False: "rejected by the judge", None: "accepted and rejected"}
    body = _CARD.format(
        rows=counts["train"],
        stage=stage or "all",
        verdict=verdict[accepted],
        name=folder.as_posix(),
        tables=_tables(statistics, store.reasons(stage)),
    )
    write_card(folder, "Search trajectories", file_format, counts, ("search-agent", "sft"), body)
    return {"dataset": str(folder), "rows": counts["train"], "format": file_format}


def _rows(
    store: TraceStore, stage: str | None, accepted: bool | None, statistics: _Statistics
) -> Iterator[dict[str, Any]]:
    for trajectory in store.trajectories(stage, accepted):
        messages = _last_conversation(trajectory)
        if not messages:
            logger.info("trajectory %s has no policy turn; left out of the export", trajectory.id)
            continue
        statistics.count(trajectory)
        yield {
            "messages": [dump_record(message) for message in messages],
            # Empty in the `tags` dialect; the column is there because trainers look for it.
            "tools": [],
            "task_id": trajectory.task_id,
            "trajectory_id": trajectory.id,
        }


def _last_conversation(trajectory: Trajectory) -> list[Message]:
    """Return the messages from the root to the last policy turn, its reply included; empty where there is none."""
    last = next((turn for turn in reversed(trajectory.turns) if turn.role == POLICY_ROLE), None)
    if last is None:
        return []
    try:
        return conversation_of(path_to(last, {turn.id: turn for turn in trajectory.turns}))
    except TraceError as failure:
        raise TraceError(f"trajectory {trajectory.id!r}: {failure}") from failure


def _tables(statistics: _Statistics, reasons: Counter[str]) -> str:
    parts = [
        markdown_table("searches", "conversations", sorted(statistics.searches.items())),
        markdown_table("producer", "conversations", statistics.producers.most_common()),
        markdown_table("protocol version", "conversations", sorted(statistics.protocols.items())),
    ]
    if reasons:
        parts.append(markdown_table("rejected because", "trajectories", reasons.most_common(20)))
    usage = statistics.usage
    if usage.model_calls:
        parts.append(
            f"Their roles took {usage.model_calls} calls of chat models: {usage.prompt_tokens} prompt tokens, "
            f"{usage.sampled_tokens} sampled tokens, ${usage.cost_usd:.2f} at the prices that were set."
        )
    return "\n\n".join(parts)
