"""The questions that a run on documents of your own is evaluated on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from masksearch_agent.errors import CorpusError, EvaluationError

__all__ = ("QuestionFile", "check_files")


@dataclass(frozen=True, slots=True)
class QuestionFile:
    """Questions to evaluate on."""

    name: str
    path: Path
    has_passages: bool = False
    """Whether the passages that the file ships are searched; otherwise the corpus is."""


def check_files(corpus: Path, questions: Sequence[QuestionFile]) -> None:
    """Refuse what is not there, before anything is done."""
    if not corpus.exists():
        raise CorpusError(f"there is no corpus at {corpus}; pass a file or folder of documents")
    for file in questions:
        if not file.path.is_file():
            raise EvaluationError(f"there are no questions at {file.path}; pass NAME=FILE of a benchmark")
    if len({file.name for file in questions}) < len(questions):
        raise EvaluationError("two question files have one name; give each its own, as NAME=FILE")
