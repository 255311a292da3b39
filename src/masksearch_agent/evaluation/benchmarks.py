"""Benchmarks in their published formats, read as search tasks.

A format is recognised by the keys of a file's first row. Where a benchmark ships its passages (HotpotQA,
MuSiQue), the gold passages get the ids that `corpus.readers` gives them, so retrieval is measured on the
same file.

Invariant: reading is lossless for scoring: every accepted answer is kept, and a row that cannot be scored is
an error that names it, never skipped in silence. MuSiQue's unanswerable rows are the one documented
exception.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from masksearch_agent.corpus.rows import passages_from_row
from masksearch_agent.errors import EvaluationError, MaskSearchError
from masksearch_agent.records import Hop, SearchTask, load_record

__all__ = ("BENCHMARKS", "flatten_answer", "read_tasks")

_Row = dict[str, Any]
_EARLIER_ANSWER = re.compile(r"#(\d+)")


def read_tasks(path: Path, benchmark: str | None = None) -> Iterator[SearchTask]:
    """Stream the tasks of a benchmark file.

    Args:
        path: A JSON list or JSON lines: our own `SearchTask` records, HotpotQA, MuSiQue, FanoutQA (dev) or
            FlashRAG rows.
        benchmark: Name of the format, one of `BENCHMARKS`; recognised by its content where None.

    Returns:
        The tasks. Those of a public benchmark are of the test split.

    Raises:
        EvaluationError: At once where the file is missing, empty or of no known format; while iterating
            where a row is malformed.
    """
    if benchmark is not None and benchmark not in BENCHMARKS:
        raise EvaluationError(f"unknown benchmark {benchmark!r}; expected one of {', '.join(BENCHMARKS)}")
    rows = _read_rows(path)
    first = next(rows, None)
    if first is None:
        raise EvaluationError(f"{path} holds no questions")
    convert = BENCHMARKS[benchmark or _recognise(first[1], path)]
    return _convert_rows(chain([first], rows), convert)


def flatten_answer(answer: object) -> str:
    """Return FanoutQA's structured answer as one string.

    A list joins its items with `; `; a dictionary becomes `key: value` pairs, because naming the keys is
    half of the answer (the official score counts them too); truth values become yes and no.
    """
    if isinstance(answer, dict):
        return "; ".join(f"{key}: {flatten_answer(value)}" for key, value in answer.items())
    if isinstance(answer, list):
        return "; ".join(flatten_answer(item) for item in answer)
    if isinstance(answer, bool):
        return "yes" if answer else "no"
    return str(answer).strip()


def _from_record(row: _Row) -> SearchTask:
    return load_record(SearchTask, row, EvaluationError)


def _from_hotpotqa(row: _Row) -> SearchTask:
    supporting = {title for title, _ in row["supporting_facts"]}
    gold = passages_from_row({"context": [entry for entry in row["context"] if entry[0] in supporting]})
    return _question(
        row["_id"],
        row["question"],
        (row["answer"],),
        category=row["type"],
        gold_passage_ids=tuple(passage.id for passage in gold),
    )


def _from_musique(row: _Row) -> SearchTask | None:
    if not row.get("answerable", True):
        return None
    gold = passages_from_row({"paragraphs": [entry for entry in row["paragraphs"] if entry["is_supporting"]]})
    return _question(
        row["id"],
        row["question"],
        (row["answer"], *row["answer_aliases"]),
        category=row["id"].split("__")[0],
        gold_passage_ids=tuple(dict.fromkeys(passage.id for passage in gold)),
        hops=_musique_hops(row["question_decomposition"]),
    )


def _musique_hops(steps: list[_Row]) -> tuple[Hop, ...]:
    """Put the answers of earlier steps where a step refers to them as `#1`, `#2`, …"""
    answers = [str(step["answer"]) for step in steps]
    hops = []
    for step in steps:
        need = _EARLIER_ANSWER.sub(lambda reference: answers[int(reference[1]) - 1], step["question"])
        hops.append(Hop(need, need.replace(" >> ", " "), str(step["answer"])))
    return tuple(hops)


def _from_fanoutqa(row: _Row) -> SearchTask:
    hops = tuple(
        Hop(step["question"], step["question"], flatten_answer(step["answer"]))
        for step in row["decomposition"]
    )
    return _question(
        row["id"], row["question"], (flatten_answer(row["answer"]),), category="fanout", hops=hops
    )


def _from_flashrag(row: _Row) -> SearchTask:
    golden = row["golden_answers"]
    if not isinstance(golden, list):
        raise EvaluationError(f"golden_answers is a {type(golden).__name__}; expected a list")
    category = (row.get("metadata") or {}).get("type", "")
    return _question(row["id"], row["question"], tuple(golden), category=str(category))


BENCHMARKS: Mapping[str, Callable[[_Row], SearchTask | None]] = {
    "masksearch": _from_record,
    "hotpotqa": _from_hotpotqa,
    "musique": _from_musique,
    "fanoutqa": _from_fanoutqa,
    "flashrag": _from_flashrag,
}
"""Formats by name, each with what makes a task of a row (None for a row that is not to be scored)."""

_KEYS: Mapping[str, frozenset[str]] = {
    "masksearch": frozenset({"kind", "question", "answers"}),
    "hotpotqa": frozenset({"_id", "question", "supporting_facts", "context"}),
    "musique": frozenset({"question", "paragraphs", "question_decomposition"}),
    "fanoutqa": frozenset({"question", "decomposition", "answer"}),
    "flashrag": frozenset({"question", "golden_answers"}),
}


def _question(
    task_id: object,
    question: str,
    answers: tuple[str, ...],
    *,
    category: str,
    gold_passage_ids: tuple[str, ...] = (),
    hops: tuple[Hop, ...] = (),
) -> SearchTask:
    accepted = tuple(dict.fromkeys(answer.strip() for answer in answers if answer.strip()))
    if not accepted:
        raise EvaluationError("the row accepts no answer")
    return SearchTask(
        id=str(task_id),
        kind="qa",
        question=question.strip(),
        answers=(accepted,),
        category=category,
        hops=hops,
        gold_passage_ids=gold_passage_ids,
        split="test",
    )


def _recognise(row: object, path: Path) -> str:
    keys = set(row) if isinstance(row, dict) else set()
    for name, expected in _KEYS.items():
        if expected <= keys:
            return name
    raise EvaluationError(
        f"{path}: a first row with the keys {sorted(keys)} fits no benchmark; expected those of one of "
        + "; ".join(f"{name} ({', '.join(sorted(expected))})" for name, expected in _KEYS.items())
    )


def _convert_rows(
    rows: Iterator[tuple[str, Any]], convert: Callable[[_Row], SearchTask | None]
) -> Iterator[SearchTask]:
    for where, row in rows:
        try:
            task = convert(row)
        except KeyError as failure:
            raise EvaluationError(f"{where}: the row has no {failure}") from failure
        except (AttributeError, IndexError, TypeError, ValueError, MaskSearchError) as failure:
            raise EvaluationError(f"{where}: not a row of this benchmark ({failure})") from failure
        if task is not None:
            yield task


def _read_rows(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield each row with where it stands, from a JSON list or from JSON lines."""
    if not path.is_file():
        raise EvaluationError(f"no benchmark file at {path}")
    with path.open(encoding="utf-8") as file:
        try:
            if file.read(1) == "[":
                file.seek(0)
                for number, row in enumerate(json.load(file), start=1):
                    yield f"{path}, row {number}", row
                return
            file.seek(0)
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield f"{path}, line {number}", json.loads(line)
        except ValueError as failure:
            raise EvaluationError(f"{path}: not UTF-8 JSON or JSON lines ({failure})") from failure
