"""What the exam on held-out documents says, in plain words: the same on the page, in Markdown and on the terminal."""

from __future__ import annotations

import dataclasses

from masksearch_agent.reports.records import ExamReport, RunReport, Score
from masksearch_agent.reports.wording import difference, label

__all__ = ("evidence", "exam_table", "verdict")

_CATEGORIES = {"exam": "all questions", "ramp": "masks", "cloze": "masks asked as questions"}
"""What readers call the exam and the categories of its questions."""


def verdict(exam: ExamReport) -> str:
    """Return in a sentence or two whether training helped, against what one would use instead of it."""
    served, rival = exam.score(exam.served), exam.score(exam.rival)
    over = exam.difference(exam.served, exam.rival)
    if served is None or rival is None or over is None:
        return "The exam on your documents was not taken."
    is_start, name = exam.served == exam.start, _named(exam, exam.served)
    beside = (
        f"recall {served.summary.recall:.2f} of {name} beside {rival.summary.recall:.2f} of three-shot RAG with the "
        f"same model, a difference of {difference(over.gain, 2)}"
    )
    if over.gain.high < 0:
        return f"Three-shot RAG wins on your documents: use that instead. The exam: {beside}."
    if is_start:
        lead = f"Training did not help on your documents: no stage did better than {name}, so that is served."
        return f"{lead} {_begin(beside)}."
    if over.gain.low <= 0:
        lead = (
            "Training did not help" if over.gain.mean <= 0 else "Training may have helped, which is not sure,"
        )
        return f"{lead} on your documents: {beside}."
    return f"Training helped on your documents: {beside}."


def evidence(exam: ExamReport) -> str:
    """Return what is served and why, and what the exam was made from."""
    start, served = exam.validation[0], next(s for s in exam.validation if s.agent == exam.served)
    decided = f"on {served.summary.n} other questions, where its recall is {served.summary.recall:.2f}"
    if exam.served != exam.start:
        decided += f" and that of {_named(exam, exam.start)} {start.summary.recall:.2f}"
    asked = exam.score(exam.served)
    parts = [
        f"{_begin(_named(exam, exam.served))} is what is served: it was chosen {decided}.",
        f"The exam has {asked.summary.n} questions from {exam.held_out}." if asked else "",
    ]
    gain = exam.difference(exam.served, exam.start)
    if gain is not None:
        parts.insert(1, f"On the exam it is {difference(gain.gain, 2)} over {_named(exam, exam.start)}.")
    return " ".join(filter(None, parts))


def exam_table(exam: ExamReport) -> RunReport:
    """Return the scores of the exam as those of a run, with the categories of its questions as datasets."""
    return RunReport("", scores=tuple(_readable(found) for found in exam.scores))


def _readable(found: Score) -> Score:
    return dataclasses.replace(found, dataset=_CATEGORIES.get(found.dataset, found.dataset))


def _named(exam: ExamReport, agent: str) -> str:
    return "the untrained agent" if agent == exam.start else label(agent)


def _begin(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
