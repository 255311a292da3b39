"""The questions that a run on documents of your own is evaluated on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from masksearch_agent.errors import ConfigError, CorpusError, EvaluationError
from masksearch_agent.runs.exam import EXAM
from masksearch_agent.stages.evaluation import Asked
from masksearch_agent.stages.plan import RecipeStages
from masksearch_agent.stages.stage import Corpus, Searched, TaskFile

__all__ = ("QuestionFile", "asked_files", "check_files")


@dataclass(frozen=True, slots=True)
class QuestionFile:
    """Questions to evaluate on."""

    name: str
    path: Path
    has_passages: bool = False
    """Whether the passages that the file ships are searched; otherwise the corpus is."""


def check_files(
    corpus: Path,
    questions: Sequence[QuestionFile],
    train_questions: Sequence[Path],
    has_exam: bool,
    directory: Path,
) -> None:
    """Refuse what is not there, before anything is done; without an exam there have to be questions.

    Nor can the run's own folder be in the corpus: what it writes would be documents, and the corpus never the same.
    """
    if not has_exam and not questions:
        raise ConfigError(
            "there is nothing to evaluate on; pass --test or --test-with-passages NAME=FILE, or hold documents back "
            "(`--set exam.documents=0.1`)"
        )
    if not corpus.exists():
        raise CorpusError(f"there is no corpus at {corpus}; pass a file or folder of documents")
    if corpus.is_dir() and directory.resolve().is_relative_to(corpus.resolve()):
        raise ConfigError(
            f"the run folder {directory} is inside the corpus {corpus}, which would change with every stage; pass an "
            f"--out that is not"
        )
    for file in questions:
        if not file.path.is_file():
            raise EvaluationError(f"there are no questions at {file.path}; pass NAME=FILE of a benchmark")
    for path in train_questions:
        if not path.is_file():
            raise EvaluationError(f"there are no questions to train on at {path}; pass a file of a benchmark")
        if path.resolve() in {file.path.resolve() for file in questions}:
            raise EvaluationError(f"{path} is to be trained on and to be evaluated on; leave one of them out")
    if EXAM in {file.name for file in questions}:
        raise EvaluationError(
            f"{EXAM!r} is what the exam on your documents is called; give the file another name"
        )
    if len({file.name for file in questions}) < len(questions):
        raise EvaluationError("two question files have one name; give each its own, as NAME=FILE")


def asked_files(
    questions: Sequence[QuestionFile], make: RecipeStages, searched: Searched
) -> dict[str, Asked]:
    """Return the questions of files by name, each with what it is answered from: `searched`, or its own passages."""
    asked = {}
    for file in questions:
        own = make.index(Corpus(str(file.path)), f"index_{file.name}") if file.has_passages else None
        asked[file.name] = Asked(TaskFile(str(file.path)), make.search(own) if own is not None else searched)
    return asked
