"""The exam of a training run: what its weights can do now, on a few tasks that are not trained on.

Each task is run through the agent's own graph, greedily. And right answers are read to the model, after the passages
that the task's own words find: how likely it finds them says how well it still reads, sooner than a score of whole runs
does, and also where it does not get as far as an answer. That context is the same each time, without a thought in it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.utils import gather_object

from masksearch_agent.agent.opening import opening_messages, opening_text
from masksearch_agent.agent.protocol import (
    AnswerStep,
    SearchStep,
    clean_text,
    render_information,
    render_step,
)
from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.concurrency import gather_bounded, run_many
from masksearch_agent.errors import TrainingError
from masksearch_agent.failures import reason_of, stops_run
from masksearch_agent.generator.roles import render_answer
from masksearch_agent.models.chat_format import ChatFormat
from masksearch_agent.records import MASK, Message, Passage, Sampling, SearchTask, TrainingRow
from masksearch_agent.retrieval.leak_guard import LeakGuard
from masksearch_agent.retrieval.search import cut_to_words, interleave
from masksearch_agent.rewards.mix import count_sampled_tokens
from masksearch_agent.text.matching import answer_exact, answer_recall, contains_phrase
from masksearch_agent.traces.messages import to_messages
from masksearch_agent.traces.rows import POLICY_ROLE, make_rows
from masksearch_agent.trainers.alarms import ANSWER_LOGPROB, EXAM_FAILED, EXAM_SCORE
from masksearch_agent.trainers.batches import collate_rows
from masksearch_agent.trainers.logprobs import score_completions
from masksearch_agent.trainers.ranks import Ranks
from masksearch_agent.trainers.rollouts import open_rollouts
from masksearch_agent.trainers.weight_sync import WeightSync

__all__ = ("Exam", "reading_row")

logger = logging.getLogger(__name__)

_AT_ONCE = 16
"""Runs at once: what an exam needs of memory, while the trainer holds its own."""
_ROWS_PER_PASS = 4
_SCORED_ROWS = 16
"""Runs whose entropy, and right answers whose likelihood is taken: means over tokens, which few rows give well. Reading
all of them again would take as long as half of the runs."""
_OPENED_ANSWER = "<think></think><answer>"


@dataclass(frozen=True, slots=True)
class _Run:
    """What a run of one task came to; small enough to be told to every rank."""

    numbers: dict[str, float]
    steps: int
    malformed: int
    rows: tuple[TrainingRow, ...]


class Exam:
    """Measures weights on tasks.

    Args:
        agent: Its recording model samples from the weights that are trained, and its search is what tasks are answered
            from.
        tasks: Of the exam, the same each time.
        weight_sync: Brings the weights to what samples; None where the trainer and the agent share them.

    Raises:
        TrainingError: There are no tasks.
    """

    def __init__(
        self, agent: MaskSearchAgent, tasks: Sequence[SearchTask], weight_sync: WeightSync | None = None
    ) -> None:
        if not tasks:
            raise TrainingError("the exam has no tasks; pass a file with some, or set no `monitor`")
        self.agent = agent
        self.tasks = tuple(tasks)
        self.weight_sync = weight_sync
        self._references: list[TrainingRow] | None = None

    def __call__(self, trainer: Any) -> dict[str, float]:
        """Return the metrics of a trainer's weights; every rank has to call it.

        Returns:
            `exam/recall`, `exam/em`: means over the tasks. `exam/failed`: tasks that could not be run, which count as
            wrong there and are in no other mean. `exam/well_formed`: share of steps that keep to the protocol; missing
            where every run ended before its first step.
            `exam/sampled_tokens`, `exam/answer_tokens`: means a run, of all steps and of the answer.
            `exam/entropy`: mean of the sampled tokens' distributions, in nats. `exam/answer_logprob`: mean over the
            right answers of their mean log-probability a token, in nats; missing where no answer fits the context.

        Raises:
            TrainingError: Not one task could be run.
        """
        accelerator = trainer.accelerator
        ranks = Ranks(accelerator.process_index, accelerator.num_processes, gather_object)
        if self.weight_sync is not None:
            self.weight_sync.refresh(trainer, trainer.state.global_step)
            if (ahead := getattr(trainer, "ahead", None)) is not None:
                ahead.rest()  # Beside rollouts an exam would be sampled in another order each time.
        if self._references is None:
            limit = getattr(trainer.model.config, "max_position_embeddings", None)
            self._references = run_many(self._read_references(limit))
        # Each rank runs its share. All score all rows: where weights are sharded, a pass is everybody's.
        runs = ranks.gather(self._run_tasks(self.tasks[ranks.index :: ranks.count]))
        if not runs:
            raise TrainingError("not one task of the exam could be run; the log says why, task by task")
        tokenizer = trainer.processing_class
        _, entropies = _score(
            trainer.model, [row for run in runs for row in run.rows][:_SCORED_ROWS], tokenizer
        )
        answers, _ = _score(trainer.model, self._references, tokenizer)
        metrics = {name: _mean([run.numbers[name] for run in runs]) for name in runs[0].numbers}
        for name in (EXAM_SCORE, "exam/em"):
            metrics[name] *= len(runs) / len(self.tasks)
        metrics[EXAM_FAILED] = float(len(self.tasks) - len(runs))
        if steps := sum(run.steps for run in runs):
            metrics["exam/well_formed"] = 1 - sum(run.malformed for run in runs) / steps
        if entropies:
            tokens = sum(count for _, count in entropies)
            metrics["exam/entropy"] = sum(total for total, _ in entropies) / tokens
        if answers:
            metrics[ANSWER_LOGPROB] = _mean([total / count for total, count in answers])
        return metrics

    def _run_tasks(self, tasks: Sequence[SearchTask]) -> list[_Run]:
        # Who runs which task is fixed, as reproducible sampling asks.
        shares = [tasks[first::_AT_ONCE] for first in range(min(_AT_ONCE, len(tasks)))]
        with open_rollouts(self.agent, len(shares)) as contexts:
            pairs = list(zip(shares, contexts, strict=True))
            found = run_many(gather_bounded(self._run_share, pairs, _AT_ONCE))
        return [run for share in found for run in share]

    async def _run_share(self, given: tuple[Sequence[SearchTask], AbstractContextManager[Any]]) -> list[_Run]:
        tasks, context = given
        with context:
            runs = [await self._run_task(task) for task in tasks]
        return [run for run in runs if run is not None]

    async def _run_task(self, task: SearchTask) -> _Run | None:
        """Run one task; None where that failed."""
        try:
            trajectory = await self.agent.run_task(task, Sampling(temperature=0.0))
        except Exception as failure:
            if stops_run(failure):
                raise
            logger.warning("task %s of the exam failed and counts as wrong: %s", task.id, reason_of(failure))
            return None
        return _Run(
            {
                EXAM_SCORE: answer_recall(task, trajectory.answer),
                "exam/em": answer_exact(task, trajectory.answer),
                "exam/sampled_tokens": count_sampled_tokens(trajectory),
                "exam/answer_tokens": len(self._format.encode_reply(trajectory.answer)) - 1,
            },
            sum(turn.role == POLICY_ROLE for turn in trajectory.turns),
            trajectory.format_errors,
            tuple(make_rows(trajectory)),
        )

    async def _read_references(self, limit: int | None) -> list[TrainingRow]:
        """Return right answers after the passages that hold them or, where none do, after what was found."""
        if not self._format.is_prefix_preserving:
            return []
        rows, held = [], []
        shown = self.agent.settings.passages_per_search
        for task in filter(_query_of, self.tasks):
            try:
                found = await self.agent.search.asearch([_query_of(task)], shown, LeakGuard.for_task(task))
            except Exception as failure:
                if stops_run(failure):
                    raise
                logger.warning("no passages to read for task %s of the exam: %s", task.id, reason_of(failure))
                continue
            limit_words = self.agent.settings.max_passage_words
            passages = [cut_to_words(hit.passage, limit_words) for hit in interleave(found, shown)]
            row = reading_row(task, passages, self.agent, self._format)
            if limit is None or len(row.input_ids) <= limit:
                rows.append(row)
                held += [row] if _is_held(task, passages) else []
        return (held or rows)[:_SCORED_ROWS]

    @property
    def _format(self) -> ChatFormat:
        chat_format: ChatFormat = self.agent.model.chat_format  # type: ignore[attr-defined]
        return chat_format


def reading_row(
    task: SearchTask, passages: Sequence[Passage], agent: MaskSearchAgent, encoder: ChatFormat
) -> TrainingRow:
    """Return a row that asks for a task, shows passages and gives the right answer, which alone is trainable."""
    searches_first = agent.settings.search_first
    opening = to_messages(opening_messages(task.question, task.kind, agent.prompts, searches_first))
    shown = [Message("user", render_information(passages))]
    answer = render_answer(task, [slot[0] for slot in task.answers], agent.settings.answer_form)
    lines = [line for line in map(clean_text, answer.split("\n")) if line]
    reply = encoder.encode_reply(render_step(AnswerStep("", "\n".join(lines))))
    if searches_first:
        asked = opening_text(opening[-1].content, passages)
        opened_with = [*opening[:-1], Message("user", asked)]
        prompt = encoder.encode_context(opened_with, is_first=True, is_closed=False)
    else:
        prompt = [
            *encoder.encode_context(opening, is_first=True, is_closed=False),
            *encoder.encode_reply(render_step(SearchStep("", (_query_of(task),)))),
            *encoder.encode_context(shown, is_first=False, is_closed=True),
        ]
    opened = encoder.encode_reply(_OPENED_ANSWER)[:-1]
    # A tokenizer may write the end of the tag and the beginning of the answer as one token.
    same = [one == other for one, other in zip(opened, reply, strict=False)]
    start = len(prompt) + (same.index(False) if False in same else len(same))
    ids = (*prompt, *reply)
    # Without the end of the turn, which no run samples: it ends with the tag.
    trainable = tuple(start <= position < len(ids) - 1 for position in range(len(ids)))
    return TrainingRow(ids, trainable, (0.0,) * len(ids), task.id)


def _query_of(task: SearchTask) -> str:
    return clean_text(task.question.replace(MASK, " "))


def _is_held(task: SearchTask, passages: Sequence[Passage]) -> bool:
    texts = [f"{passage.title}: {passage.text}" for passage in passages]
    return all(any(contains_phrase(text, alias) for text in texts for alias in slot) for slot in task.answers)


def _score(model: Any, rows: Sequence[TrainingRow], tokenizer: Any) -> tuple[list[Any], list[Any]]:
    """Return the sums of log-probabilities and of entropies over each row's trainable tokens, with their counts."""
    sums: tuple[list[Any], list[Any]] = ([], [])
    was_training = model.training
    model.eval()
    ordered = sorted(rows, key=lambda row: len(row.input_ids))
    with torch.no_grad():
        for start in range(0, len(ordered), _ROWS_PER_PASS):
            chosen = ordered[start : start + _ROWS_PER_PASS]
            batch = collate_rows(chosen, [0.0] * len(chosen), tokenizer.pad_token_id)
            batch = {name: tensor.to(model.device) for name, tensor in batch.items()}
            for kept, scores in zip(sums, score_completions(model, batch), strict=True):
                totals = scores.float().sum(dim=1).tolist()
                kept += zip(totals, [row.trainable_count for row in chosen], strict=True)
    model.train(was_training)
    return sums


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
