"""Settings of the exam that a run on documents of one's own holds back."""

from __future__ import annotations

from pydantic import Field

from masksearch_agent.config.base import Settings

__all__ = ("ExamSettings",)


class ExamSettings(Settings):
    """Questions made from documents that no training task is made from. There are two exams, from different documents:
    one decides which stage is served, the other is reported."""

    documents: float = Field(default=0.1, ge=0, le=0.5)
    """Share of the documents that is held back for both exams; they stay in the search index. 0 holds no exam."""
    questions: int = Field(default=200, ge=1)
    """Questions of the exam that is reported, at most. At 200 the 95% interval of a recall is about ±0.06 wide."""
    validation_questions: int = Field(default=100, ge=1)
    """Questions of the exam that decides, at most."""
