"""2WikiMultihopQA (Ho et al., arXiv 2011.01060): HotpotQA's format with triples, and aliases in a file beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from masksearch_agent.benchmarks import Benchmark, PlacedRow, Row
from masksearch_agent.benchmarks.hotpotqa import read_task
from masksearch_agent.errors import EvaluationError
from masksearch_agent.records import Hop, SearchTask

__all__ = ("BENCHMARK",)

_ALIASES_FILE = "id_aliases.json"


def _task(row: Row) -> SearchTask:
    """Return a row's question, with its `[subject, relation, object]` triples as hops."""
    evidences = row.get("evidences", ())
    triples = json.loads(evidences) if isinstance(evidences, str) else evidences
    hops = (
        Hop(f"the {relation} of {subject}", f"{subject} {relation}", str(value))
        for subject, relation, value in triples
    )
    return read_task(row, tuple(hops))


def _with_aliases(rows: Iterator[PlacedRow], source: Path | str) -> Iterator[PlacedRow]:
    """Add what `id_aliases.json` beside the file says (`2wikimultihop_evaluate_v1.1.py`)."""
    path = Path(source).with_name(_ALIASES_FILE)
    if str(source).startswith("hf:") or not path.is_file():
        return rows
    try:
        with path.open(encoding="utf-8-sig") as file:
            known = [json.loads(line) for line in file if line.strip()]
        aliases = {entry["Q_id"]: [*entry["aliases"], *entry["demonyms"]] for entry in known}
    except (KeyError, TypeError, ValueError) as failure:
        raise EvaluationError(
            f"{path}: expected JSON lines with Q_id, aliases and demonyms ({failure})"
        ) from failure
    return ((where, {**row, "answer_aliases": aliases.get(row.get("answer_id"), [])}) for where, row in rows)


BENCHMARK = Benchmark(
    keys=("question", "supporting_facts", "context", "evidences"), task=_task, prepare=_with_aliases
)
