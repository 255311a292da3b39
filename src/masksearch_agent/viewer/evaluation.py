"""The page of an evaluation: scores, differences, scores by hops and searches, failures to read, every question."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from masksearch_agent.viewer.breakdowns import draw_breakdown
from masksearch_agent.viewer.elements import section
from masksearch_agent.viewer.markup import Markup, join, tag
from masksearch_agent.viewer.page import fill_page
from masksearch_agent.viewer.questions import QuestionTable
from masksearch_agent.viewer.scores import comparisons_section, scores_section
from masksearch_agent.viewer.tables import label
from masksearch_agent.viewer.trajectories import draw_sample

__all__ = ("render_evaluation",)

_IN_HEADLINE = 3


def render_evaluation(report: Mapping[str, Any], questions: QuestionTable) -> str:
    """Return the page of an evaluation.

    Args:
        report: `title`; `evals`, the summaries by agent and dataset; `comparisons` and `breakdowns`; `failures`,
            trajectories to read; `producers`, the model version by agent; `notes`, sentences about what is left out.
            Every block may be absent.
        questions: Every question with its trajectory.
    """
    title = str(report.get("title") or "Evaluation")
    body = join(
        (
            tag("header", tag("h1", title), tag("p", _headline(report), class_="result"), _facts(report)),
            scores_section(report),
            comparisons_section(report),
            _breakdowns_section(report),
            _failures_section(report),
            questions.draw(),
        )
    )
    data = {"hover-data": [], "questions": questions.data()}
    return fill_page(title, body, data, ("report.js", "questions.js"))


def _headline(report: Mapping[str, Any]) -> str:
    """Return the recall of every agent that answered all datasets; of many agents, of the first and the last."""
    evals = report.get("evals") or {}
    datasets = list(dict.fromkeys(name for cells in evals.values() for name in cells))
    recalls = {
        label(agent): sum(cell["recall"] for cell in cells.values()) / len(datasets)
        for agent, cells in evals.items()
        if len(cells) == len(datasets)
    }
    if not recalls:
        return f"{len(datasets)} datasets were evaluated." if datasets else "Nothing was evaluated."
    if len(recalls) > _IN_HEADLINE:
        recalls = dict([next(iter(recalls.items())), next(reversed(recalls.items()))])
    where = (
        f"Recall on {label(datasets[0])}"
        if len(datasets) == 1
        else f"Mean recall over {len(datasets)} datasets"
    )
    told = [f"{recall:.2f} {agent}" for agent, recall in recalls.items()]
    text = f"{where}: {', '.join(told)}." if len(told) > 1 else f"{where} is {told[0].split()[0]}."
    # U+2011 keeps `2-hop` and `RAG-PE` on one line, which a browser would break at a plain hyphen.
    return text.replace("-", "\u2011")


def _facts(report: Mapping[str, Any]) -> Markup:
    producers = (f"{label(agent)}: {name}" for agent, name in (report.get("producers") or {}).items())
    return join(
        tag("p", text, class_="facts")
        for text in (" · ".join(producers), *(report.get("notes") or ()))
        if text
    )


def _breakdowns_section(report: Mapping[str, Any]) -> Markup:
    figures = [draw_breakdown(breakdown) for breakdown in report.get("breakdowns") or ()]
    note = "Mean recall with its 95% interval; n is the number of questions behind a dot."
    return section(
        "Recall by hops and searches",
        join((tag("div", *figures, class_="charts"), tag("p", note))) if figures else Markup(),
    )


def _failures_section(report: Mapping[str, Any]) -> Markup:
    failures = report.get("failures") or ()
    note = "Lowest scores first; of equal ones, those that had found most of what was needed, then the fewest hops."
    return section(
        "Worst failures",
        tag("p", note, class_="facts") if failures else Markup(),
        *(draw_sample(sample, index == 0) for index, sample in enumerate(failures)),
    )
