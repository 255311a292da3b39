"""The baseline `rag-3shot`: what a practitioner runs with an untrained model instead of an agent.

A base model follows no protocol, but it goes on with a pattern: it reads three solved examples, the passages that one
search finds, and the question, as plain text without a chat template, and the first line that it adds is the answer:
the first one with something in it, since such a model may begin with a line break.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from masksearch_agent.agent.protocol import PROTOCOL_VERSION
from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.concurrency import gather_bounded
from masksearch_agent.errors import EvaluationError
from masksearch_agent.models.recording import RecordingChatModel
from masksearch_agent.records import MASK, Passage, Sampling, SearchTask, Trajectory, Turn, Usage, content_id
from masksearch_agent.retrieval.leak_guard import LeakGuard
from masksearch_agent.retrieval.search import cut_to_words, interleave

__all__ = ("ThreeShotAnswerer", "complete_prompt")

_ROLE = "baseline"
"""Of its turns: they are no steps of the policy, so nothing trains on them."""
_SAMPLING = Sampling(temperature=0.0, max_tokens=14)
_PASSAGE_WORDS = 120
"""Words of a passage that are shown."""
_OTHER_MASK = "…"
"""What stands for the masks of a passage that are not asked for."""
_MASKS_AT_ONCE = 8

_EXAMPLES = (
    (
        "The Eiffel Tower is a wrought-iron lattice tower in Paris, France, built from 1887 to 1889.",
        "In which city is the Eiffel Tower?",
        "Paris",
    ),
    (
        "Water boils at 100 degrees Celsius at sea level and freezes at 0 degrees.",
        "At what temperature does water freeze?",
        "0 degrees",
    ),
    (
        "Ann Brook wrote the novel The Mill in 1921. Tom Hale wrote The Ferry in 1934.",
        "Was The Mill written before The Ferry?",
        "yes",
    ),
)
"""Passage, question and answer, as anybody would write them down. What the examples are matters at this size: with
three invented ones of the same kinds SmolLM2-135M had a recall of 0.16 instead of 0.22 on fifty HotpotQA questions."""


class ThreeShotAnswerer:
    """Retrieves once with the question, shows the passages behind three solved examples, and takes the next line.

    Args:
        agent: Its model, its search and its `passages_per_search` are used, and nothing else of it.

    Raises:
        EvaluationError: The model cannot go on with a plain text.
    """

    def __init__(self, agent: MaskSearchAgent) -> None:
        if not isinstance(agent.model, RecordingChatModel):
            raise EvaluationError(
                f"the baseline rag-3shot goes on with a plain text, which {type(agent.model).__name__} cannot; use a "
                f"local model or one that vLLM serves, or the baseline rag-pe, which asks in messages"
            )
        self.model_version = agent.model_version
        self._model = agent.model
        self._search = agent.search
        self._limit = agent.settings.passages_per_search

    async def answer_task(self, task: SearchTask, seed: int) -> tuple[Trajectory, Usage]:
        """Answer one task, greedily whatever the seed; see `Answerer`.

        Each mask of a passage is asked for by itself, and all answers are given as numbered lines.
        """
        started_s = time.perf_counter()
        found = await self._search.asearch([task.question], self._limit, LeakGuard.for_task(task))
        passages = tuple(hit.passage for hit in interleave(found, self._limit))

        async def ask(question: str) -> Turn:
            return await self._model.acomplete(complete_prompt(question, passages), _SAMPLING, _ROLE)

        turns = await gather_bounded(ask, _questions_of(task), _MASKS_AT_ONCE)
        lines = [turn.text.strip().split("\n")[0].strip() for turn in turns]
        numbered = "\n".join(f"{number}. {line}" for number, line in enumerate(lines, start=1))
        trajectory = Trajectory(
            id=content_id(task.id, self.model_version, seed, PROTOCOL_VERSION, "rag-3shot"),
            task_id=task.id,
            turns=tuple(turns),
            answer=numbered if task.kind == "ramp" else lines[0],
            stop_reason="answered",
            retrieved=(passages,) if passages else (),
            producer=self.model_version,
            seed=seed,
            protocol_version=PROTOCOL_VERSION,
        )
        return trajectory, Usage(
            model_calls=len(turns),
            prompt_tokens=sum(len(turn.context_ids) for turn in turns),
            sampled_tokens=sum(len(turn.sampled_ids) for turn in turns),
            seconds=time.perf_counter() - started_s,
        )


def complete_prompt(question: str, passages: Sequence[Passage]) -> str:
    """Return the text that the model goes on with: three examples, the passages, the question and `Answer:`."""
    solved = [f"Passage: {text}\nQuestion: {asked}\nAnswer: {answer}" for text, asked, answer in _EXAMPLES]
    shown = [f"Passage: {_cut(passage)}" for passage in passages]
    return "\n\n".join([*solved, "\n".join([*shown, f"Question: {_one_line(question)}\nAnswer:"])])


def _cut(passage: Passage) -> str:
    title = f"{_one_line(passage.title)}: " if passage.title.strip() else ""
    return title + _one_line(cut_to_words(passage, _PASSAGE_WORDS).text)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _questions_of(task: SearchTask) -> list[str]:
    """Return what is asked: the question, or for a masked passage one for each mask, in order."""
    if task.kind == "qa":
        return [task.question]
    parts = task.question.split(MASK)
    return [
        f"What stands for {MASK} in: {_OTHER_MASK.join(parts[:place])}{MASK}{_OTHER_MASK.join(parts[place:])}"
        for place in range(1, len(parts))
    ]
