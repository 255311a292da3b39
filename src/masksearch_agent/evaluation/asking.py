"""Evaluation on files: which agent is asked which questions, in this process or by workers of a cluster."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.config.evaluation import EvaluationSettings
from masksearch_agent.config.recipe import Recipe
from masksearch_agent.config.retrieval import RetrievalSettings
from masksearch_agent.corpus.readers import read_passages
from masksearch_agent.errors import EvaluationError
from masksearch_agent.evaluation.answering import AnyAgent, Mode, RemoteAgent
from masksearch_agent.evaluation.baselines import BASELINES, Baseline, baseline_of
from masksearch_agent.evaluation.results import QuestionResult, ResultLabel
from masksearch_agent.evaluation.runner import evaluate, summarise, summarise_categories
from masksearch_agent.evaluation.sources import open_questions, source_name
from masksearch_agent.judging.judge import ModelJudge
from masksearch_agent.retrieval.adapters import open_search
from masksearch_agent.retrieval.index import build_index, open_index
from masksearch_agent.retrieval.search import Search

__all__ = (
    *("AgentChoice", "QuestionFiles", "ask_file", "evaluate_files", "open_agent", "over_own_corpus"),
    "score_files",
)


@dataclass(frozen=True, slots=True)
class AgentChoice:
    """Which agent answers, and how."""

    agent: str | Path
    """A bundle, or the URL of a LangGraph server that serves one."""
    index: str | Path | None = None
    """What to search instead of the bundle's own index."""
    mode: Mode = "agentic"
    baseline: Baseline | None = None
    """Evaluate this baseline instead of the agent."""
    base_model: str | None = None
    """What the agent was trained from, where its bundle's own word for it is out of date."""
    base_url: str | None = None
    """Server to sample from instead of the bundle's own weights."""

    @property
    def label(self) -> str:
        """What tables call it."""
        return self.baseline or self.mode

    @property
    def is_deployed(self) -> bool:
        """Whether the agent runs on a server of its own."""
        return str(self.agent).startswith(("http://", "https://"))


@dataclass(frozen=True, slots=True)
class QuestionFiles:
    """What is asked, and what is done with the answers."""

    files: Sequence[Path]
    """Question files, or datasets of the hub (`sources.open_questions`)."""
    out: Path | None = None
    """Folder for per-question results, which make the run resumable; None keeps no results."""
    limit: int | None = None
    """Questions of each file at most."""
    judge: ModelJudge | None = None
    """Says of each answer whether it is right."""
    retry_failed: bool = False
    """Ask again what failed in results that are there."""


def evaluate_files(
    choice: AgentChoice, questions: QuestionFiles, recipe: Recipe, on_result: Callable[[], None] | None = None
) -> dict[str, Any]:
    """Evaluate an agent on question files in this process.

    Returns:
        The scores by file, each with those of its categories where there are several.

    Raises:
        EvaluationError: Two files have one name, or a deployed agent is asked for what only a bundle can do.
    """
    agent, mode = open_agent(choice, recipe)
    try:
        return score_files(agent, mode, choice.label, questions, recipe, on_result)
    finally:
        if isinstance(agent, MaskSearchAgent):
            agent.close()


def score_files(
    agent: AnyAgent,
    mode: Mode,
    label: str,
    questions: QuestionFiles,
    recipe: Recipe,
    on_result: Callable[[], None] | None = None,
) -> dict[str, Any]:
    """Evaluate an open agent on question files; see `evaluate_files`. `label` is what tables call it."""
    settings = recipe.evaluation.model_copy(
        update={"limit": questions.limit} if questions.limit is not None else {}
    )
    names = [source_name(file) for file in questions.files]
    if len(set(names)) < len(names):
        raise EvaluationError(
            f"two question files have one name ({', '.join(names)}); evaluate them one by one"
        )
    scores = {}
    for name, file in zip(names, questions.files, strict=True):
        out = questions.out / f"{name}-{label}.jsonl" if questions.out is not None else None
        step = (lambda _: on_result()) if on_result is not None else None
        results = ask_file(
            agent, file, settings, mode, out, ResultLabel(name, label), questions.judge, step,
            questions.retry_failed,
        )  # fmt: skip
        scores[name] = dataclasses.asdict(summarise(results, settings))
        categories = summarise_categories(results, settings)
        if len(categories) > 1:
            scores[name]["categories"] = {
                category: {"n": part.n, "recall": part.recall, "em": part.em, "judge": part.judge}
                for category, part in categories.items()
            }
    return scores


def ask_file(
    agent: AnyAgent,
    source: Path | str,
    settings: EvaluationSettings,
    mode: Mode,
    out: Path | None,
    label: ResultLabel,
    judge: ModelJudge | None = None,
    on_result: Callable[[QuestionResult], None] | None = None,
    retry_failed: bool = False,
) -> list[QuestionResult]:
    """Ask an agent the questions of one source, and score them by the metric of their benchmark too; see `evaluate`."""
    questions = open_questions(source)
    tasks = list(islice(questions.tasks, settings.limit))
    own = questions.benchmark.metric
    return evaluate(agent, tasks, settings, mode, out, on_result, judge, label, own, retry_failed)


def over_own_corpus(agent: MaskSearchAgent, source: Path) -> MaskSearchAgent:
    """Return an agent over a BM25 index of what a benchmark ships: `corpus.json(l)` beside the file, or its passages.

    Raises:
        CorpusError: The benchmark ships no passages.
    """
    beside = [source.with_name(name) for name in ("corpus.json", "corpus.jsonl")]
    corpus = next((file for file in beside if file.is_file()), source)
    with tempfile.TemporaryDirectory() as folder:
        build_index(read_passages(corpus), Path(folder), RetrievalSettings(mode="bm25"))
        search = Search(open_index(Path(folder))).for_run()
    return agent.replace(search=search)


def open_agent(choice: AgentChoice, recipe: Recipe) -> tuple[MaskSearchAgent | RemoteAgent, Mode]:
    """Return the agent to evaluate, or the baseline in its place, with the limits that the recipe sets; and the mode.

    Raises:
        AgentError: The agent cannot have these limits.
        EvaluationError: A deployed agent is asked for what only a bundle can do.
    """
    restored = _restore(choice, recipe)
    if choice.baseline is None:
        return restored, choice.mode
    if isinstance(restored, RemoteAgent):
        raise EvaluationError("a baseline needs an agent bundle; a deployed agent hides its model")
    return baseline_of(restored, choice.base_model), BASELINES[choice.baseline]


def _restore(choice: AgentChoice, recipe: Recipe) -> MaskSearchAgent | RemoteAgent:
    limits = recipe.agent.model_dump(exclude_unset=True)
    if not choice.is_deployed:
        search = open_search(choice.index, recipe.retrieval) if choice.index is not None else None
        agent = MaskSearchAgent.from_pretrained(choice.agent, search=search, base_url=choice.base_url)
        return agent.with_limits(**limits) if limits else agent
    if limits:
        raise EvaluationError(
            f"a deployed agent has the limits it was deployed with; leave out agent.{', agent.'.join(limits)}"
        )
    if choice.base_url is not None:
        raise EvaluationError("a deployed agent samples where it was deployed to; leave out --base-url")
    if choice.index is not None:
        raise EvaluationError("a deployed agent searches what it was deployed with; leave out --index")
    return RemoteAgent(str(choice.agent))
