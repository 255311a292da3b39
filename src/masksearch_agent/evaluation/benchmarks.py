"""Benchmarks in their published formats, read as search tasks.

A format is recognised by the keys of its first row. Where a benchmark ships its passages (HotpotQA, 2WikiMultihopQA,
MuSiQue), the gold passages get the ids that `corpus.readers` gives them, so retrieval is measured on the same file;
where it only names the pages (HotpotQA fullwiki, FanoutQA), retrieval is measured by their titles.

Invariant: reading is lossless for scoring: every accepted answer is kept, and a row that cannot be scored is
an error that names it, never skipped in silence. MuSiQue's unanswerable rows and FreshQA's development rows (its
examples for prompts) are the two documented exceptions.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime
from itertools import chain
from pathlib import Path
from typing import Any

from masksearch_agent.corpus.rows import passages_from_row
from masksearch_agent.errors import EvaluationError, MaskSearchError
from masksearch_agent.evaluation.sources import HUB_PREFIX, read_rows
from masksearch_agent.jsonl import load_record
from masksearch_agent.records import FALSE_PREMISE, Hop, SearchTask, content_id

__all__ = ("BENCHMARKS", "answer_items", "flatten_answer", "read_tasks")

logger = logging.getLogger(__name__)

_Row = dict[str, Any]
_EARLIER_ANSWER = re.compile(r"#(\d+)")
_REVIEW_DATES = ("%m/%d/%Y", "%m/%d/%y", "%Y-%m-%d", "%B %d, %Y", "%b %d, %Y")


def read_tasks(source: Path | str, benchmark: str | None = None) -> Iterator[SearchTask]:
    """Stream the tasks of a benchmark.

    Args:
        source: A file, or `hf:owner/name[@config][:split]` for a dataset of the hub (`sources.read_rows`). Formats:
            our own `SearchTask` records, HotpotQA (distractor and fullwiki), 2WikiMultihopQA (with the aliases of an
            `id_aliases.json` beside the file), MuSiQue, FanoutQA (dev), FreshQA (CSV), Bamboogle, FlashRAG rows, and
            plain rows: a `question` with its `answer` (a list is one answer of several items) or its `answers` (each
            of them is accepted).
        benchmark: Name of the format, one of `BENCHMARKS`; recognised by its content where None.

    Returns:
        The tasks. Those of a public benchmark are of the test split.

    Raises:
        EvaluationError: At once where the source is missing, empty or of no known format; while iterating
            where a row is malformed.
        MissingExtraError: A dataset of the hub is asked for, and `datasets` is not installed.
    """
    if benchmark is not None and benchmark not in BENCHMARKS:
        raise EvaluationError(f"unknown benchmark {benchmark!r}; expected one of {', '.join(BENCHMARKS)}")
    rows = read_rows(source)
    first = next(rows, None)
    if first is None:
        raise EvaluationError(f"{source} holds no questions")
    name = benchmark or _recognise(first[1], source)
    rows = chain([first], rows)
    if name == "2wikimultihopqa":
        rows = _with_aliases(rows, source)
    if name == "freshqa":
        rows = _warn_of_stale_answers(rows, source)
    return _convert_rows(rows, BENCHMARKS[name])


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


def answer_items(answer: object) -> tuple[str, ...]:
    """Return what a structured answer holds, keys included, item by item; nothing for an answer in one piece."""
    if isinstance(answer, dict):
        parts: Iterable[object] = chain.from_iterable(answer.items())
    elif isinstance(answer, list):
        parts = answer
    else:
        return ()
    return tuple(item for part in parts for item in (answer_items(part) or (flatten_answer(part),)) if item)


def _from_record(row: _Row) -> SearchTask:
    return load_record(SearchTask, row, EvaluationError)


def _from_hotpotqa(row: _Row) -> SearchTask:
    # The hub stores both as columns: {"title": [...], "sent_id": [...]}.
    facts = _pairs(row["supporting_facts"], "title", "sent_id")
    context = _pairs(row["context"], "title", "sentences")
    titles = tuple(dict.fromkeys(title for title, _ in facts))
    gold = passages_from_row({"context": [entry for entry in context if entry[0] in titles]})
    # In the fullwiki setting the context is what a retriever found, without some of the gold pages.
    is_complete = {title for title, _ in context} >= set(titles)
    return _question(
        row["_id"] if "_id" in row else row["id"],
        row["question"],
        (row["answer"], *row.get("answer_aliases", ())),
        category=row["type"],
        gold_passage_ids=tuple(passage.id for passage in gold) if is_complete else (),
        gold_titles=() if is_complete else titles,
        hops=_triple_hops(row.get("evidences", ())),
    )


def _triple_hops(evidences: Any) -> tuple[Hop, ...]:
    """Return the hops of 2WikiMultihopQA's `[subject, relation, object]` triples."""
    return tuple(
        Hop(f"the {relation} of {subject}", f"{subject} {relation}", str(value))
        for subject, relation, value in (json.loads(evidences) if isinstance(evidences, str) else evidences)
    )


def _pairs(value: Any, first: str, second: str) -> list[list[Any]]:
    if isinstance(value, str):
        value = json.loads(value)
    if isinstance(value, dict):
        return [list(pair) for pair in zip(value[first], value[second], strict=True)]
    return [list(pair) for pair in value]


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
    steps = row["decomposition"]
    hops = tuple(Hop(step["question"], step["question"], flatten_answer(step["answer"])) for step in steps)
    answer = row["answer"]
    return _question(
        row["id"],
        row["question"],
        (flatten_answer(answer),),
        category="fanout",
        hops=hops,
        gold_titles=tuple(dict.fromkeys(_evidence_titles(steps))),
        answer_items=answer_items(answer) or (flatten_answer(answer),),
    )


def _evidence_titles(steps: list[_Row]) -> Iterator[str]:
    for step in steps:
        if step.get("evidence"):
            yield step["evidence"]["title"]
        yield from _evidence_titles(step.get("decomposition") or [])


def _from_flashrag(row: _Row) -> SearchTask:
    golden = row["golden_answers"]
    if not isinstance(golden, list):
        raise EvaluationError(f"golden_answers is a {type(golden).__name__}; expected a list")
    metadata = row.get("metadata") or {}
    facts = metadata.get("supporting_facts") or {}
    titles = facts.get("title", ()) if isinstance(facts, dict) else ()
    return _question(
        row["id"],
        row["question"],
        tuple(golden),
        category=str(metadata.get("type") or ""),
        gold_titles=tuple(dict.fromkeys(titles)),
    )


def _from_bamboogle(row: _Row) -> SearchTask:
    question = row["Question"]
    return _question(content_id(question), question, (str(row["Answer"]),), category="bamboogle")


def _from_freshqa(row: _Row) -> SearchTask | None:
    if row.get("split", "TEST").strip().upper() == "DEV":
        return None
    is_false = str(row["false_premise"]).strip().upper() == "TRUE"
    answers = tuple(str(row.get(f"answer_{number}") or "") for number in range(10))
    category = FALSE_PREMISE if is_false else row["fact_type"].strip()
    return _question(row["id"], row["question"], answers, category=category)


def _from_plain(row: _Row) -> SearchTask:
    question = row["question"]
    task_id = row.get("id") or content_id(question)
    category = str(row.get("category") or "")
    if "answers" not in row:
        answer = row["answer"]
        return _question(
            task_id,
            question,
            (flatten_answer(answer),) if answer is not None else (),
            category=category,
            answer_items=answer_items(answer),
        )
    if not isinstance(row["answers"], list):
        raise EvaluationError(f"answers is a {type(row['answers']).__name__}; expected a list")
    return _question(task_id, question, tuple(map(flatten_answer, row["answers"])), category=category)


BENCHMARKS: Mapping[str, Callable[[_Row], SearchTask | None]] = {
    "masksearch": _from_record,
    "2wikimultihopqa": _from_hotpotqa,
    "hotpotqa": _from_hotpotqa,
    "musique": _from_musique,
    "fanoutqa": _from_fanoutqa,
    "flashrag": _from_flashrag,
    "freshqa": _from_freshqa,
    "bamboogle": _from_bamboogle,
    "plain": _from_plain,
}
"""Formats by name, each with what makes a task of a row (None for a row that is not to be scored)."""

_KEYS: tuple[tuple[str, frozenset[str]], ...] = (
    ("masksearch", frozenset({"kind", "question", "answers"})),
    ("2wikimultihopqa", frozenset({"question", "supporting_facts", "context", "evidences"})),
    ("hotpotqa", frozenset({"question", "supporting_facts", "context"})),
    ("musique", frozenset({"question", "paragraphs", "question_decomposition"})),
    ("fanoutqa", frozenset({"question", "decomposition", "answer"})),
    ("flashrag", frozenset({"question", "golden_answers"})),
    ("freshqa", frozenset({"question", "false_premise", "fact_type", "answer_0"})),
    ("bamboogle", frozenset({"Question", "Answer"})),
    ("plain", frozenset({"question", "answers"})),
    ("plain", frozenset({"question", "answer"})),
)
"""What a first row of each format has; the first that fits is taken."""


def _question(
    task_id: object,
    question: str,
    answers: tuple[str, ...],
    *,
    category: str,
    gold_passage_ids: tuple[str, ...] = (),
    hops: tuple[Hop, ...] = (),
    gold_titles: tuple[str, ...] = (),
    answer_items: tuple[str, ...] = (),
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
        gold_titles=gold_titles,
        answer_items=answer_items,
    )


def _recognise(row: object, source: Path | str) -> str:
    keys = set(row) if isinstance(row, dict) else set()
    for name, expected in _KEYS:
        if expected <= keys:
            return name
    raise EvaluationError(
        f"{source}: a first row with the keys {sorted(keys)} fits no benchmark; expected those of one of "
        + "; ".join(f"{name} ({', '.join(sorted(expected))})" for name, expected in _KEYS)
    )


def _with_aliases(rows: Iterator[tuple[str, Any]], source: Path | str) -> Iterator[tuple[str, Any]]:
    """Add what `id_aliases.json` beside a 2WikiMultihopQA file says (`2wikimultihop_evaluate_v1.1.py`)."""
    path = Path(source).with_name("id_aliases.json")
    if str(source).startswith(HUB_PREFIX) or not path.is_file():
        return rows
    aliases = {row["Q_id"]: [*row["aliases"], *row["demonyms"]] for _, row in read_rows(path)}
    return ((where, {**row, "answer_aliases": aliases.get(row.get("answer_id"), [])}) for where, row in rows)


def _warn_of_stale_answers(rows: Iterator[tuple[str, Any]], source: Path | str) -> Iterator[tuple[str, Any]]:
    """Pass FreshQA's rows on and warn of answers that were to be reviewed by now: the world has moved on."""
    due = 0
    for where, row in rows:
        review = _review_date(str(row.get("next_review") or ""))
        due += review is not None and review < date.today()
        yield where, row
    if due:
        logger.warning(
            "%s: %d answers were due for review before today and may be outdated; download the latest FreshQA table",
            source,
            due,
        )


def _review_date(text: str) -> date | None:
    for form in _REVIEW_DATES:
        try:
            return datetime.strptime(text.strip(), form).date()
        except ValueError:
            continue
    return None  # "weekly", "occasionally": no day is named.


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
