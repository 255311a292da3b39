"""The table of the comparison on real text: `real_text.md` for people, `real_text.json` for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from masksearch_agent.config.evaluation import EvaluationSettings
from masksearch_agent.config.recipe import Recipe
from masksearch_agent.environment import package_versions
from masksearch_agent.errors import ConfigError
from masksearch_agent.evaluation.comparison import compare
from masksearch_agent.evaluation.results import QuestionResult, read_results
from masksearch_agent.files import replace_text
from masksearch_agent.reports.records import read_report
from masksearch_agent.runs.exam import EXAM, RIVAL
from masksearch_agent.stages.evaluation import Evaluation
from masksearch_agent.stages.graph import StageGraph

__all__ = ("compare_claims", "compare_rows", "write_real_text")

_POOLED: Mapping[str, tuple[str, ...]] = {
    "pooled": ("hotpotqa", "musique", "2wikimultihopqa"),
    "open_corpus": ("open_hotpotqa", "open_musique", "open_2wikimultihopqa"),
}
"""Sets that are several datasets together."""
_ALONE = ("hotpotqa", "musique", "2wikimultihopqa", "naturalquestions", EXAM)
_DOCUMENTS = "documents_"
_AGENTS = {
    RIVAL: "3-shot RAG, the same untrained model",
    "untrained": "the untrained model in the search graph, few-shot",
    "A": "A: masks and questions made by rule, no human question",
    "B": "B: A, then training questions, mixed with A's tasks",
    "C": "C: training questions alone, as many steps as B's second stage",
    "C+": "C+: training questions alone, as many steps as A and B together",
    "D": "D: B, then DAPO",
    "E": "E: A, then HotpotQA's training questions alone",
    "H": "H: masks and questions made by rule from documents of another kind, one agent for each",
}
_CLAIMS = (
    ("B", "C", "masks first"),
    ("B", "C+", "masks first, at as many steps in all"),
    ("D", "B", "DAPO"),
)
"""Agents that differ in one thing, and what it is."""
Results = dict[str, dict[str, list[QuestionResult]]]
"""By agent and set."""


def write_real_text(
    graph: StageGraph,
    done: Sequence[Evaluation],
    recipe: Recipe,
    directory: Path,
    documents: Sequence[Path] = (),
) -> None:
    """Write both files from the evaluations that are done, and from the run folders of `documents`."""
    results: Results = {}
    for evaluation in done:
        of_agent = results.setdefault(evaluation.name.rpartition("/")[2], {})
        of_agent |= {name: read_results(graph.where(file)) for name, file in evaluation.results.items()}
    for number, folder in enumerate(documents, start=1):
        for agent, found in _of_documents(folder).items():
            results.setdefault(agent, {})[f"{_DOCUMENTS}{number}"] = found
    rows = compare_rows(results, recipe.evaluation)
    claims = compare_claims(results, recipe.evaluation)
    took = graph.took(done)
    about = {
        "recipe": recipe.name,
        "seed": recipe.seed,
        "base_model": recipe.base_model,
        "seconds": {stage.name: round(stage.seconds) for stage in took},
        "peak_memory_gb": round(max((stage.peak_memory_gb for stage in took), default=0.0), 2),
        "versions": package_versions(),
        "documents": {
            f"{_DOCUMENTS}{number}": folder.name for number, folder in enumerate(documents, start=1)
        },
    }
    text = json.dumps({**about, "rows": rows, "claims": claims}, indent=2, ensure_ascii=False)
    replace_text(directory / "real_text.json", text + "\n")
    replace_text(directory / "real_text.md", _page(rows, claims, about))


def _of_documents(folder: Path) -> dict[str, list[QuestionResult]]:
    """Return what three-shot RAG and the agent that a run serves answered in its exam."""
    exam = read_report(folder).exam
    if exam is None:
        raise ConfigError(f"the run in {folder} had no exam; run it again with exam.documents above 0")
    agents = {RIVAL: RIVAL, "H": exam.served}
    return {
        agent: read_results(folder / "evals" / asked / f"{EXAM}.jsonl") for agent, asked in agents.items()
    }


def compare_rows(results: Results, settings: EvaluationSettings) -> list[dict[str, Any]]:
    """Return a row for each agent and set: its scores, and how far it is from three-shot RAG on the same questions."""
    sets = {agent: _sets_of(found) for agent, found in results.items()}
    rows = []
    for agent, of_agent in sets.items():
        for name, found in of_agent.items():
            recall, em = (compare(sets[RIVAL][name], found, metric, settings) for metric in ("recall", "em"))
            rows.append(
                {
                    "agent": agent,
                    "set": name,
                    "n": recall.n,
                    "recall": round(recall.after, 4),
                    "em": round(em.after, 4),
                    "rag_recall": round(recall.before, 4),
                    "rag_em": round(em.before, 4),
                    "recall_over_rag": round(recall.after / recall.before, 3) if recall.before else None,
                    "diff_ci95": [round(recall.gain.low, 4), round(recall.gain.high, 4)],
                    "em_diff_ci95": [round(em.gain.low, 4), round(em.gain.high, 4)],
                }
            )
    return rows


def compare_claims(results: Results, settings: EvaluationSettings) -> list[dict[str, Any]]:
    """Return how far agents are from those that they differ from in one thing, on the sets that both were asked."""
    sets = {agent: _sets_of(found) for agent, found in results.items()}
    claims = []
    for agent, other, what in _CLAIMS:
        asked = sets.get(agent, {})
        for name in (name for name in asked if name in sets.get(other, {})):
            recall = compare(sets[other][name], asked[name], "recall", settings)
            gain = {
                "diff": round(recall.gain.mean, 4),
                "diff_ci95": [round(recall.gain.low, 4), round(recall.gain.high, 4)],
            }
            claims.append({"agent": agent, "over": other, "what": what, "set": name, "n": recall.n, **gain})
    return claims


def _sets_of(found: Mapping[str, list[QuestionResult]]) -> dict[str, list[QuestionResult]]:
    pooled = {
        name: [result for part in parts for result in found[part]]
        for name, parts in _POOLED.items()
        if all(part in found for part in parts)
    }
    documents = [name for name in found if name.startswith(_DOCUMENTS)]
    return {**pooled, **{name: found[name] for name in (*_ALONE, *documents) if name in found}}


def _page(
    rows: Sequence[Mapping[str, Any]], claims: Sequence[Mapping[str, Any]], about: Mapping[str, Any]
) -> str:
    agents = list(dict.fromkeys(row["agent"] for row in rows))
    sets = list(dict.fromkeys(row["set"] for row in rows))
    by_key = {(row["agent"], row["set"]): row for row in rows}
    lines = [
        f"# Real text: {about['recipe']}, seed {about['seed']}, {about['base_model']}",
        "",
        "Recall / exact match; in brackets the 95% interval of the paired difference in recall to three-shot RAG "
        "with the same untrained model, over the same index.",
        "",
        "| agent | " + " | ".join(f"{name} (n = {by_key[RIVAL, name]['n']})" for name in sets) + " |",
        "| --- |" + " --- |" * len(sets),
    ]
    for agent in agents:
        cells = [_cell(by_key.get((agent, name))) for name in sets]
        lines.append(f"| {_AGENTS.get(agent, agent)} | " + " | ".join(cells) + " |")
    if claims:
        lines += ["", "| in recall, paired by question | set | difference (95%) |", "| --- | --- | --- |"]
    for claim in claims:
        low, high = claim["diff_ci95"]
        lines.append(
            f"| {claim['agent']} less {claim['over']}: {claim['what']} | {claim['set']} (n = {claim['n']}) "
            f"| {claim['diff']:+.3f} ({low:+.3f} to {high:+.3f}) |"
        )
    documents = "".join(f" `{name}` is {corpus}." for name, corpus in about["documents"].items())
    minutes = {name: seconds / 60 for name, seconds in about["seconds"].items()}
    lines += [
        "",
        *(
            [f"The last sets are exams from documents that no task was made from.{documents}", ""]
            if documents
            else []
        ),
        f"Peak memory {about['peak_memory_gb']} GB. Minutes of each stage: "
        + ", ".join(f"{name} {value:.1f}" for name, value in minutes.items())
        + ".",
        "",
    ]
    return "\n".join(lines)


def _cell(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return "–"
    scores = f"{row['recall']:.3f} / {row['em']:.3f}"
    low, high = row["diff_ci95"]
    return scores if row["agent"] == RIVAL else f"{scores} ({low:+.3f} to {high:+.3f})"
