"""What the benchmarks for a GPU share: a model of random weights, and rollouts of forced lengths through the graph.

A model of random weights says nothing that the graph could read. So each step is sampled by the real engine, to the
number of tokens that it is to have, and then the graph is told what a trained agent would have said, in as many tokens.
What was sampled is not what the next prompt holds, so the engine reads those tokens again: some hundred a step more
than in a real rollout, which reads what it was shown and nothing else.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import PrivateAttr
from reporting import machine, make_parser

from masksearch_agent.agent.prompts import COMPACT_PROMPTS
from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.config.agent import AgentSettings
from masksearch_agent.lab.tiny import START_TOKEN, tiny_base_path
from masksearch_agent.models.engine import BatchingEngine
from masksearch_agent.models.local import LocalChatModel, load_tokenizer
from masksearch_agent.models.recording import Completion
from masksearch_agent.records import Sampling, SearchTask, Trajectory
from masksearch_agent.retrieval.search import Search
from masksearch_agent.trainers.rollouts import Group, RolloutRunner

MEMORY_BYTES_PER_S = 4.3e12
"""Of an H200, measured by a copy from device to device."""
PEAK_FLOPS = 790e12
"""Of an H200 in bfloat16, measured on a product of random matrices of 8192 x 8192."""
SEARCHES = 2
"""Of each rollout, so it takes three turns."""
NO_TOKEN = -1
_SHAPE = {"vocab_size": 151936, "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28,
          "num_attention_heads": 12, "num_key_value_heads": 2, "rope_theta": 1e6}  # fmt: skip
"""Qwen2.5-1.5B's."""
_SMALL_SHAPE = {"vocab_size": 2048, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
                "num_attention_heads": 2, "num_key_value_heads": 1}  # fmt: skip


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    shape: dict[str, Any]
    at_once: tuple[int, ...]
    """Rollouts at once."""
    step_tokens: int
    groups: int
    """Groups of eight in a step of DAPO."""
    entities: int
    """Of the closed world that is searched."""


FULL = Size(_SHAPE, (64, 256), 100, 64, 300)
SMALL = Size(_SMALL_SHAPE, (8,), 12, 2, 40)


def gpu_parser(description: str | None) -> argparse.ArgumentParser:
    parser = make_parser(description)
    parser.add_argument("--device", default="cuda", help="cpu shows that everything runs.")
    parser.add_argument("--small", action="store_true", help="A model of two layers and few rollouts.")
    return parser


class Results:
    """What was measured so far; written after each measurement, because the next one may run out of time."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.path: Path | None = arguments.json
        settings = {name: str(value) for name, value in vars(arguments).items() if name != "json"}
        self.found: dict[str, Any] = {"arguments": settings, "machine": machine(), "rows": []}

    def add(self, what: str, **measured: Any) -> None:
        row = {"what": what, **measured}
        self.found["rows"].append(row)
        print(json.dumps(row), flush=True)
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(json.dumps(self.found, indent=2) + "\n", encoding="utf-8")


def make_model(size: Size, device: str, dtype: torch.dtype) -> Any:
    """Return an untrained Qwen2 on the device."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(tie_word_embeddings=True, max_position_embeddings=32768, dtype=dtype, **size.shape)
    with torch.device(device):
        return Qwen2ForCausalLM(config).to(dtype).eval()


class ForcedChatModel(LocalChatModel):
    """Samples each step to its length with the engine, and says what a trained agent would."""

    step_tokens: int
    queries: tuple[str, ...]

    _replies: dict[tuple[int, bool], tuple[int, ...]] = PrivateAttr(default_factory=dict)

    def model_post_init(self, context: Any) -> None:
        super().model_post_init(context)
        # No token ends a step before its time.
        self._engine = BatchingEngine(
            self.model, self.tokenizer, NO_TOKEN, self.max_batch_size, kept_bytes=self.kept_bytes
        )

    def _submit(
        self, prompt_ids: list[int], sampling: Sampling, answers: Any = None, hear: Any = None
    ) -> Future[Completion]:
        # System prompt, question and first reply open a turn each; a search adds its results and the next reply.
        turn = (prompt_ids.count(self.tokenizer.convert_tokens_to_ids(START_TOKEN)) - 3) // 2
        reply = self._reply(
            random.Random(f"{sampling.seed} {turn}").randrange(len(self.queries)), turn < SEARCHES
        )
        said: Future[Completion] = Future()

        def say(sampled: Future[Completion]) -> None:
            if (failure := sampled.exception()) is not None:
                said.set_exception(failure)
            else:
                said.set_result(replace(sampled.result(), ids=reply, finish_reason="stop"))

        free = replace(sampling, max_tokens=len(reply), stop=())
        super()._submit(prompt_ids, free).add_done_callback(say)
        return said

    def _reply(self, query: int, searches: bool) -> tuple[int, ...]:
        """Return a step of `step_tokens` tokens, unless its query is longer."""
        if (query, searches) not in self._replies:
            action = f"<search> {self.queries[query]}</search>" if searches else "<answer> a</answer>"
            bare = self.chat_format.encode_reply(f"<think></think>{action}")
            filler = self.chat_format.encode_reply("<think> a a</think>")
            one = filler[2:3]
            opening = bare[:1]
            padding = one * max(0, self.step_tokens - len(bare))
            self._replies[query, searches] = (*opening, *padding, *bare[1:])
        return self._replies[query, searches]


class ChanceReward:
    """Stands in for `RewardMix`: no two rollouts of a group are rewarded alike, whatever they say."""

    async def score(self, task: SearchTask, trajectory: Trajectory) -> Any:
        from masksearch_agent.rewards.mix import Reward

        value = random.Random(f"{task.id} {trajectory.seed}").random()
        return Reward(1.0, value, 0.0, value)


class FixedRunner(RolloutRunner):
    """Returns rollouts that were sampled before, so that two trainers train on the same and wait for none."""

    def __init__(self, agent: MaskSearchAgent, groups: Sequence[Group], group_size: int) -> None:
        super().__init__(agent, ChanceReward(), Sampling(temperature=1.0), group_size)  # type: ignore[arg-type]
        self.groups = groups

    def run(self, tasks: Sequence[SearchTask], seed: int, places: Sequence[int] | None = None) -> list[Group]:
        return [replace(self.groups[place % len(self.groups)], task=task) for place, task in enumerate(tasks)]


@contextmanager
def forced_agent(
    model: Any, size: Size, search: Search, tasks: Sequence[SearchTask]
) -> Iterator[MaskSearchAgent]:
    """Make an agent whose every rollout searches twice and answers."""
    tokenizer = load_tokenizer(tiny_base_path())
    queries = tuple(" ".join(task.question.replace("[mask]", " ").split()[:8]) for task in tasks[:64])
    settings = AgentSettings(
        max_searches=SEARCHES,
        passages_per_search=3,
        max_step_tokens=4 * size.step_tokens + 64,
        answer_form="bare_fills",
    )
    policy = ForcedChatModel(
        model=model, tokenizer=tokenizer, step_tokens=size.step_tokens, queries=queries,
        max_batch_size=max(size.at_once), kept_bytes=8 << 30, model_version="random",
    )  # fmt: skip
    try:
        yield MaskSearchAgent(policy, search, settings, COMPACT_PROMPTS)
    finally:
        policy.close()


def peak_bytes(device: str) -> int | None:
    """Return the most memory of the GPU that was taken since it was asked last; None on a CPU."""
    if device != "cuda":
        return None
    taken = torch.cuda.max_memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    return taken
