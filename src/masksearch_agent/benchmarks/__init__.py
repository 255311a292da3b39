"""Public question sets in their published formats, one module each: a row as a question, and as passages.

A module defines `BENCHMARK`; `masksearch index` and `masksearch eval` both read through it, so the gold passages of a
question have the ids that the same file's passages have in an index. A format is recognised by the keys of its rows.
Where a benchmark ships its passages (HotpotQA, MuSiQue, Natural Questions) retrieval is measured by their ids; where it
only names the pages (HotpotQA fullwiki, FanoutQA), by their titles.

Invariant: reading is lossless for scoring: every accepted answer is kept, and a row that cannot be scored is an error,
never skipped in silence. MuSiQue's unanswerable rows and FreshQA's development rows are the documented exceptions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from masksearch_agent.errors import CorpusError, EvaluationError
from masksearch_agent.plugins import BENCHMARKS
from masksearch_agent.records import SearchTask, content_id
from masksearch_agent.text.values import as_text

__all__ = (
    *(
        "Benchmark",
        "PlacedRow",
        "Row",
        "answer_items",
        "as_list",
        "expect",
        "fact_titles",
        "flatten_answer",
        "make_question",
    ),
    *("passages_of", "published_answers", "recognise", "remark", "unpacked"),
)

Row = dict[str, Any]
PlacedRow = tuple[str, Any]
"""Where a row stands, for messages, and the row."""

_ExpectedT = TypeVar("_ExpectedT")


def _as_they_are(rows: Iterator[PlacedRow], source: Path | str) -> Iterator[PlacedRow]:
    return rows


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A format of questions."""

    keys: tuple[str, ...]
    """What a row has; of several formats that fit, the one with the most keys is taken."""
    task: Callable[[Row], SearchTask | None]
    """A row's question; None for a row that is not to be scored."""
    one_of: tuple[str, ...] = ()
    """Further keys, of which a row has at least one."""
    passages: Callable[[Row], Iterable[tuple[str, str]]] | None = None
    """Title and text of each passage of a row; None where the benchmark ships none."""
    passage_keys: tuple[str, ...] = ()
    """What a row with passages has, be it a question or not; `keys` where empty."""
    prepare: Callable[[Iterator[PlacedRow], Path | str], Iterator[PlacedRow]] = _as_they_are
    """What is done with the rows of a source first, such as adding what a file beside it says."""
    metric: Callable[[SearchTask, str], float | None] | None = None
    """A score of its own for an answer, reported as `loose`; where None, lists have FanoutQA's loose accuracy."""

    def fits(self, row: Mapping[str, Any]) -> bool:
        """Return whether a row is a question of this format."""
        return _has(row, self.keys) and (not self.one_of or any(key in row for key in self.one_of))


def recognise(row: object, source: Path | str) -> Benchmark:
    """Return the format that a row has.

    Raises:
        EvaluationError: The row fits no benchmark.
    """
    found = row if isinstance(row, dict) else {}
    fitting: list[Benchmark] = [benchmark for benchmark in BENCHMARKS.plugins() if benchmark.fits(found)]
    if fitting:
        return max(fitting, key=lambda benchmark: len(benchmark.keys))
    known: dict[str, Benchmark] = dict(zip(BENCHMARKS.names(), BENCHMARKS.plugins(), strict=True))
    expected = (
        f"{name} ({', '.join([*each.keys, *([' or '.join(each.one_of)] if each.one_of else [])])})"
        for name, each in known.items()
    )
    raise EvaluationError(
        f"{source}: a first row with the keys {sorted(map(str, found))} fits no benchmark; expected those of one of "
        + "; ".join(expected)
    )


def passages_of(row: Row) -> list[tuple[str, str]] | None:
    """Return title and text of the passages that a benchmark's row ships; None for a row of no benchmark.

    Raises:
        CorpusError: The row is malformed.
    """
    fitting: list[Benchmark] = [
        each for each in BENCHMARKS.plugins() if each.passages and _has(row, each.passage_keys or each.keys)
    ]
    if not fitting:
        return None
    chosen = max(fitting, key=lambda each: len(each.passage_keys or each.keys))
    try:
        shipped = chosen.passages(row) if chosen.passages else ()
        return [(as_text(title), as_text(text)) for title, text in shipped]
    except KeyError as failure:
        raise CorpusError(f"the row has no {failure}") from failure
    except (AttributeError, IndexError, TypeError, ValueError) as failure:
        raise CorpusError(f"not a row of its format ({failure})") from failure


def make_question(
    task_id: object,
    question: object,
    answers: Iterable[object],
    *,
    category: str = "",
    gold_passages: Iterable[tuple[str, str]] = (),
    **fields: Any,
) -> SearchTask:
    """Return a question of the test split.

    Args:
        task_id: Distinct within the benchmark; where it is blank or null, it is made from the question.
        question: The question.
        answers: Every accepted answer; blank ones, nulls and repetitions are left out, numbers and dates read as text.
        category: What the benchmark calls its kind.
        gold_passages: Title and text of the passages that support the answer.
        fields: Further fields of `SearchTask`: `hops`, `evidence`, `gold_titles`, `answer_items`.

    Raises:
        EvaluationError: The row has no question, or accepts no answer.
    """
    asked = as_text(question).strip()
    if not asked:
        raise EvaluationError("the row has no question")
    accepted = tuple(dict.fromkeys(filter(None, map(flatten_answer, answers))))
    if not accepted:
        raise EvaluationError("the row accepts no answer")
    cleaned = ((as_text(title), as_text(text)) for title, text in gold_passages)
    gold = dict.fromkeys(content_id(title, text) for title, text in cleaned if text.strip())
    return SearchTask(
        id=as_text(task_id).strip() or content_id(asked),
        kind="qa",
        question=asked,
        answers=(accepted,),
        category=category,
        gold_passage_ids=tuple(gold),
        split="test",
        **fields,
    )


def expect(value: object, expected: type[_ExpectedT], what: str) -> _ExpectedT:
    """Return a value of a row.

    Raises:
        CorpusError: It is of another type.
    """
    if not isinstance(value, expected):
        raise CorpusError(f"{what} is a {type(value).__name__}; expected a {expected.__name__}")
    return value


def flatten_answer(answer: object) -> str:
    """Return a structured answer, such as FanoutQA's, as one string.

    A list joins its items with `; `; a dictionary becomes `key: value` pairs, because naming the keys is
    half of the answer (the official score counts them too); truth values become yes and no.
    """
    if isinstance(answer, dict):
        return "; ".join(f"{key}: {flatten_answer(value)}" for key, value in answer.items())
    if isinstance(answer, list):
        return "; ".join(filter(None, map(flatten_answer, answer)))
    if isinstance(answer, bool):
        return "yes" if answer else "no"
    return as_text(answer).strip()


def published_answers(answer: object) -> list[object] | None:
    """Return the accepted answers of a dictionary that holds several, or of a list of such; None for any other answer.

    Known are TriviaQA's `{value, aliases}`, its keys in lower case or as published, and SQuAD's `{text, answer_start}`.
    """
    if isinstance(answer, list):
        found = [published_answers(each) for each in answer]
        return list(chain.from_iterable(filter(None, found))) if found and None not in found else None
    if not isinstance(answer, dict):
        return None
    said = {str(key).lower(): value for key, value in answer.items()}
    if "value" in said and ("aliases" in said or len(said) == 1):
        return [said["value"], *as_list(said.get("aliases"))]
    if "text" in said and "answer_start" in said:
        return as_list(said["text"])
    return None


def as_list(value: object) -> list[object]:
    """Return a list as it is, null as an empty one, and anything else as one of a single item."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def unpacked(value: object) -> Row:
    """Return a dictionary, as it is or as JSON text; an empty one for anything else, which says nothing by its keys."""
    if isinstance(value, str):
        with suppress(ValueError, RecursionError):
            value = json.loads(value)
    return value if isinstance(value, dict) else {}


def remark(value: object) -> str:
    """Return what metadata says in one place as text; nothing for a list or a dictionary, which costs no row."""
    return "" if isinstance(value, dict | list) else as_text(value)


def fact_titles(metadata: Row) -> tuple[str, ...]:
    """Return the titles of the `supporting_facts` in a row's metadata, each once: HotpotQA's columns or pairs."""
    facts = metadata.get("supporting_facts")
    pairs = [as_list(fact)[:1] for fact in facts] if isinstance(facts, list) else []
    titles = chain.from_iterable(pairs) if pairs else as_list(unpacked(facts).get("title"))
    return tuple(dict.fromkeys(filter(None, map(remark, titles))))


def answer_items(answer: object) -> tuple[str, ...]:
    """Return what a structured answer holds, keys included, item by item; nothing for an answer in one piece."""
    if isinstance(answer, dict):
        parts: Iterable[object] = chain.from_iterable(answer.items())
    elif isinstance(answer, list):
        parts = answer
    else:
        return ()
    return tuple(item for part in parts for item in (answer_items(part) or (flatten_answer(part),)) if item)


def _has(row: Mapping[str, Any], keys: Iterable[str]) -> bool:
    return all(key in row for key in keys)
