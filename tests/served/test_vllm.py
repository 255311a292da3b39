"""A trained agent over a real vLLM server: exact recording, the local model's answers, and rollouts for DAPO.

`make test-vllm` makes the environment that vLLM needs and runs these tests.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from conformance.recording_model import RecordingModelConformance, Subject  # noqa: E402

from masksearch_agent.agent.bundle import open_bundle_search, read_bundle_info  # noqa: E402
from masksearch_agent.agent.runnable import MaskSearchAgent  # noqa: E402
from masksearch_agent.config.recipe import Recipe  # noqa: E402
from masksearch_agent.config.serving import RolloutEngineSettings  # noqa: E402
from masksearch_agent.config.trainers import DAPOSettings, OptimizerSettings  # noqa: E402
from masksearch_agent.errors import BundleError  # noqa: E402
from masksearch_agent.evaluation.results import QuestionResult  # noqa: E402
from masksearch_agent.evaluation.runner import evaluate  # noqa: E402
from masksearch_agent.models.local import LocalChatModel, load_checkpoint  # noqa: E402
from masksearch_agent.models.recording import RecordingChatModel  # noqa: E402
from masksearch_agent.models.vllm import VLLMChatModel  # noqa: E402
from masksearch_agent.records import Sampling, SearchTask, TrainingRow, Trajectory, Turn  # noqa: E402
from masksearch_agent.rewards.mix import RewardMix, count_sampled_tokens  # noqa: E402
from masksearch_agent.serving.rollout_engine import open_rollout_engine  # noqa: E402
from masksearch_agent.serving.server import ModelServer  # noqa: E402
from masksearch_agent.traces.recorder import CallRecording, Recorder  # noqa: E402
from masksearch_agent.trainers.dapo import DAPOConfig, DAPOTrainer  # noqa: E402
from masksearch_agent.trainers.rollouts import Group, RolloutRunner  # noqa: E402

pytestmark = [pytest.mark.vllm, pytest.mark.slow, pytest.mark.timeout(1500)]


class RecordingTransport(httpx.AsyncHTTPTransport):
    """Notes every prompt that leaves this process."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[tuple[int, ...]] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/completions":
            self.sent.append(tuple(json.loads(request.content)["prompt"]))
        return await super().handle_async_request(request)


@pytest.mark.parametrize("subject", [0.0, 1.0], ids=["greedy", "sampled"], indirect=True)
class TestVLLMChatModel(RecordingModelConformance):
    @pytest.fixture
    def subject(self, request: pytest.FixtureRequest, server: ModelServer, bundle: Path) -> Iterator[Subject]:
        transport = RecordingTransport()
        model = VLLMChatModel.from_pretrained(
            bundle, server.base_url, temperature=request.param, max_tokens=8, transport=transport
        )
        yield Subject(model, transport.sent)
        model.close()


def first_turn(model: RecordingChatModel, question: str, **settings: Any) -> Turn:
    recorder = Recorder()
    model.invoke(question, recording=CallRecording(recorder, "policy", None), **settings)
    return recorder.turns[0]


@pytest.fixture
def both(server: ModelServer, bundle: Path) -> Iterator[tuple[LocalChatModel, VLLMChatModel]]:
    local = LocalChatModel.from_pretrained(bundle, max_tokens=24)
    served = VLLMChatModel.from_pretrained(bundle, server.base_url, max_tokens=24)
    yield local, served
    local.close()
    served.close()


def test_a_stop_string_inside_a_token_ends_a_reply_as_it_does_locally(
    both: tuple[LocalChatModel, VLLMChatModel], held_out: list[SearchTask]
) -> None:
    local, _ = both
    replies = ((task.question, first_turn(local, task.question)) for task in held_out)
    # Up to the second last character of some token in the middle of a reply.
    question, whole, pieces, place = next(
        (question, whole, pieces, n)
        for question, whole in replies
        for pieces in [[local.tokenizer.decode([token]) for token in whole.sampled_ids]]
        for n, piece in enumerate(pieces)
        if n > 1 and len(piece) > 2 and piece.strip().isalpha()
    )
    stop = "".join(pieces[place - 1 : place + 1])[:-1]
    mine, theirs = (first_turn(model, question, stop=[stop]) for model in both)
    assert mine.sampled_ids == whole.sampled_ids[: place + 1]
    assert not mine.text.endswith(stop)
    assert (theirs.sampled_ids, theirs.text, theirs.finish_reason) == (mine.sampled_ids, mine.text, "stop")


def test_a_seed_repeats_a_reply_and_its_probabilities_are_unscaled(
    both: tuple[LocalChatModel, VLLMChatModel], held_out: list[SearchTask]
) -> None:
    local, served = both
    question = held_out[1].question
    turns = [first_turn(served, question, temperature=1.5, seed=seed) for seed in (1, 1, 2, 3)]
    assert turns[0].sampled_ids == turns[1].sampled_ids
    assert len({turn.sampled_ids for turn in turns}) > 1
    for turn in turns:
        ids = torch.tensor([[*turn.context_ids, *turn.sampled_ids]])
        with torch.no_grad():
            logprobs = local.model(ids).logits[0, len(turn.context_ids) - 1 : -1].log_softmax(-1)
        expected = logprobs.gather(1, torch.tensor(turn.sampled_ids)[:, None]).squeeze(1)
        assert (torch.tensor(turn.logprobs) - expected).abs().max() < 1e-3


def answers(bundle: Path, tasks: Sequence[SearchTask], base_url: str | None) -> list[QuestionResult]:
    agent = MaskSearchAgent.from_pretrained(bundle, base_url=base_url)
    results = evaluate(agent, tasks)
    agent.close()
    return results


def test_greedy_answers_are_those_of_the_local_model(
    server: ModelServer, bundle: Path, held_out: list[SearchTask]
) -> None:
    assert len(held_out) == 50
    local, served = answers(bundle, held_out, None), answers(bundle, held_out, server.base_url)
    # Without answers there would be nothing to compare.
    assert sum(bool(result.answer) for result in local) >= 30
    assert sum(result.searches for result in local) >= 50
    equal = sum(one.answer == other.answer for one, other in zip(local, served, strict=True))
    assert equal >= 0.95 * len(held_out)

    pairs = [
        (mine, theirs)
        for one, other in zip(local, served, strict=True)
        if one.trajectory is not None and other.trajectory is not None
        for mine, theirs in zip(one.trajectory.turns, other.trajectory.turns, strict=False)
        if (mine.context_ids, mine.sampled_ids) == (theirs.context_ids, theirs.sampled_ids)
    ]
    assert len(pairs) >= 50
    drift = [
        abs(a - b) for mine, theirs in pairs for a, b in zip(mine.logprobs, theirs.logprobs, strict=True)
    ]
    assert max(drift) < 1e-3
    assert {mine.model_version for mine, _ in pairs} == {theirs.model_version for _, theirs in pairs}


def test_another_bundle_s_server_is_refused(server: ModelServer, bundle: Path, trained: Path) -> None:
    other = next(trained / name for name in ("base", "ramp_sft") if (trained / name).is_dir())
    assert read_bundle_info(other).model_version != read_bundle_info(bundle).model_version
    with pytest.raises(BundleError, match="masksearch serve --agent"):
        MaskSearchAgent.from_pretrained(other, search=lambda query: [], base_url=server.base_url)


def reward_of_variety(task: SearchTask, trajectory: Trajectory) -> float:
    """Reward different tokens, so that every group teaches something."""
    sampled = [token for turn in trajectory.turns for token in turn.sampled_ids]
    return len(set(sampled)) / (1 + count_sampled_tokens(trajectory))


class WatchedRunner(RolloutRunner):
    """Compares what each rollout recorded with the policy as it is at that moment."""

    policy: torch.nn.Module
    versions: list[set[str]]
    drifts: list[float]

    def run(self, tasks: Sequence[SearchTask], seed: int, places: Sequence[int] | None = None) -> list[Group]:
        groups = super().run(tasks, seed, places)
        rollouts = [rollout for group in groups for rollout in group.rollouts]
        self.versions.append({turn.model_version for r in rollouts for turn in r.trajectory.turns})
        self.drifts.append(max(self._drift(row) for r in rollouts for row in r.rows))
        return groups

    def _drift(self, row: TrainingRow) -> float:
        ids = torch.tensor([row.input_ids])
        with torch.no_grad():
            logprobs = self.policy(ids).logits[0, :-1].float().log_softmax(-1)
        computed = logprobs.gather(1, ids[0, 1:, None]).squeeze(1)
        is_trained = torch.tensor(row.trainable[1:])
        return float((computed - torch.tensor(row.logprobs[1:]))[is_trained].abs().max())


def test_dapo_trains_on_rollouts_from_a_server_that_has_each_step_s_weights(
    bundle: Path, recipe: Recipe, train_tasks: list[SearchTask], tmp_path: Path
) -> None:
    settings = DAPOSettings(
        prompts_per_step=2,
        group_size=4,
        row_batch_size=4,
        max_steps=5,
        max_resampling=1,
        optimizer=OptimizerSettings(learning_rate=1e-3, schedule="constant"),
    )
    info = read_bundle_info(bundle)
    model, tokenizer = load_checkpoint(bundle, "float32")
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    engine = RolloutEngineSettings(rollout_engine="vllm")
    with open_rollout_engine(engine, recipe.serving, model, tokenizer, info.model_version, tmp_path) as (
        sampler,
        weight_sync,
    ):
        assert isinstance(sampler, VLLMChatModel)
        agent = MaskSearchAgent(sampler, open_bundle_search(bundle, info), info.agent, info.prompts)
        runner = WatchedRunner(
            agent,
            RewardMix(recipe.rewards, reward_of_variety),
            Sampling(temperature=1.0),
            settings.group_size,
        )
        runner.policy, runner.versions, runner.drifts = model, [], []
        config = DAPOConfig.from_settings(settings, tmp_path / "trainer")
        trainer = DAPOTrainer(model, config, train_tasks, runner, tokenizer, weight_sync=weight_sync)
        trainer.train()
        assert sampler.client.weight_version() == f"{info.model_version}@4"

    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert [entry["step"] for entry in history] == [1, 2, 3, 4, 5]
    assert all(entry["grad_norm"] > 0 for entry in history)
    assert all(entry["rollouts/failed"] == 0 for entry in history)
    assert runner.versions == [{f"{info.model_version}@{step}"} for step in range(5)]
    # Five steps change the probabilities by far more: see the last assertion.
    assert max(runner.drifts) < 1e-3
    moved = [(p - before[name]).abs().max() for name, p in model.named_parameters()]
    assert min(moved) > 1e-4
