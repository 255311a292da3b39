"""DAPO over the real search graph: what the graph's own model sampled is what the trainer trains on."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from fakes.overlap_backend import OverlapBackend  # noqa: E402
from fakes.passages import make_passages  # noqa: E402
from fakes.tiny_models import LINES, make_test_model  # noqa: E402

from masksearch_agent.agent.prompts import COMPACT_PROMPTS  # noqa: E402
from masksearch_agent.agent.runnable import MaskSearchAgent  # noqa: E402
from masksearch_agent.config.agent import AgentSettings  # noqa: E402
from masksearch_agent.config.rewards import RewardSettings  # noqa: E402
from masksearch_agent.config.trainers import DAPOSettings, OptimizerSettings  # noqa: E402
from masksearch_agent.errors import SamplerDriftError  # noqa: E402
from masksearch_agent.models.local import LocalChatModel  # noqa: E402
from masksearch_agent.records import Sampling, SearchTask, Trajectory  # noqa: E402
from masksearch_agent.retrieval.search import Search  # noqa: E402
from masksearch_agent.rewards.mix import RewardMix, count_sampled_tokens  # noqa: E402
from masksearch_agent.trainers.batches import collate_rows  # noqa: E402
from masksearch_agent.trainers.dapo import DAPOConfig, DAPOTrainer  # noqa: E402
from masksearch_agent.trainers.logprobs import score_completions  # noqa: E402
from masksearch_agent.trainers.rollouts import RolloutRunner  # noqa: E402
from masksearch_agent.trainers.weight_sync import CopiedWeights  # noqa: E402

TASKS = [
    SearchTask(f"q{number}", "qa", f"Who is the {what} of Port Aldin?", (("Harrow Ltd",),))
    for number, what in enumerate(("founder", "author", "mayor"))
]
LIMITS = AgentSettings(max_searches=2, passages_per_search=1, max_repairs=2, max_step_tokens=10)
SETTINGS = DAPOSettings(
    prompts_per_step=2,
    group_size=4,
    row_batch_size=4,
    max_steps=2,
    save_steps=2,
    seed=1,
    optimizer=OptimizerSettings(learning_rate=1e-3, schedule="constant"),
)


def reward_of_variety(task: SearchTask, trajectory: Trajectory) -> float:
    """Reward different tokens: an untrained model never earns the real reward."""
    sampled = [token for turn in trajectory.turns for token in turn.sampled_ids]
    return len(set(sampled)) / (1 + count_sampled_tokens(trajectory))


@pytest.fixture
def policy(tiny_tokenizer: Any) -> Iterator[LocalChatModel]:
    model = LocalChatModel(
        model=make_test_model(tiny_tokenizer), tokenizer=tiny_tokenizer, model_version="tiny"
    )
    yield model
    model.close()


@pytest.fixture
def runner(policy: LocalChatModel) -> RolloutRunner:
    torch.manual_seed(0)
    agent = MaskSearchAgent(policy, Search(OverlapBackend(make_passages(*LINES))), LIMITS, COMPACT_PROMPTS)
    reward = RewardMix(RewardSettings(), reward_of_variety)
    return RolloutRunner(agent, reward, Sampling(temperature=1.0), SETTINGS.group_size)


def make_trainer(
    policy: LocalChatModel, runner: RolloutRunner, directory: Path, settings: DAPOSettings = SETTINGS
) -> DAPOTrainer:
    config = DAPOConfig.from_settings(settings, directory)
    return DAPOTrainer(policy.model, config, TASKS, runner, policy.tokenizer)


def test_the_recorded_probabilities_are_those_that_the_trainer_computes(
    policy: LocalChatModel, runner: RolloutRunner
) -> None:
    rows = [row for group in runner.run(TASKS, seed=0) for r in group.rollouts for row in r.rows]
    assert len({len(row.input_ids) for row in rows}) > 1
    assert any(not all(row.trainable[row.prompt_length :]) for row in rows)
    batch = collate_rows(rows, [1.0] * len(rows), policy.tokenizer.pad_token_id)
    policy.model.train()
    with torch.no_grad():
        computed, _ = score_completions(policy.model, batch)
    trained = batch["tool_mask"].bool()
    ratios = torch.exp(computed - batch["sampling_per_token_logps"])[trained]
    assert trained.sum() == sum(row.trainable_count for row in rows)
    assert (ratios - 1).abs().max() < 1e-4


def test_two_steps_through_the_graph_change_the_weights_and_leave_a_checkpoint(
    policy: LocalChatModel, runner: RolloutRunner, tmp_path: Path
) -> None:
    before = {name: parameter.clone() for name, parameter in policy.model.named_parameters()}
    trainer = make_trainer(policy, runner, tmp_path)
    trainer.train()
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert [entry["dapo/groups_useful"] for entry in history] == [2, 2]
    assert [entry["rollouts/failed"] for entry in history] == [0, 0]
    assert all(entry["grad_norm"] > 0 for entry in history)
    # The sampler is the trainer: nothing to correct.
    assert max(entry["sampling/sampling_logp_difference/max"] for entry in history) < 1e-4
    assert all(not torch.equal(p, before[name]) for name, p in policy.model.named_parameters())
    assert (tmp_path / "checkpoint-2").is_dir()
    assert policy.model_version == "tiny@1"


def test_rollouts_of_a_changed_model_are_sampled_from_its_new_weights(
    policy: LocalChatModel, runner: RolloutRunner
) -> None:
    [before, *_] = runner.run(TASKS[:1], seed=0)
    with torch.no_grad():
        policy.model.get_input_embeddings().weight.mul_(-1.0)
    torch.manual_seed(0)
    [after, *_] = runner.run(TASKS[:1], seed=0)
    assert [r.rows[0].input_ids for r in before.rollouts] != [r.rows[0].input_ids for r in after.rollouts]


def test_training_under_autocast_differs_from_the_sampler_by_rounding_only(
    policy: LocalChatModel, runner: RolloutRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Processors without arithmetic for it are slow at it, and no less exact.
    monkeypatch.setattr("masksearch_agent.trainers.optimization.computes_bfloat16", lambda: True)
    trainer = make_trainer(
        policy, runner, tmp_path, SETTINGS.model_copy(update={"bf16": True, "max_steps": 1})
    )
    trainer.train()
    [logged] = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert 1e-4 < logged["sampling/sampling_logp_difference/mean"] < 0.05
    assert logged["sampling/importance_sampling_ratio/mean"] == pytest.approx(1, abs=0.05)
    assert {parameter.dtype for parameter in policy.model.parameters()} == {torch.float32}


def test_a_policy_that_is_not_the_one_that_samples_stops_the_run(
    policy: LocalChatModel, runner: RolloutRunner, tmp_path: Path
) -> None:
    other = make_test_model(policy.tokenizer, seed=7)
    settings = SETTINGS.model_copy(update={"max_sampler_drift": 0.2})
    config = DAPOConfig.from_settings(settings, tmp_path)
    trainer = DAPOTrainer(other, config, TASKS, runner, policy.tokenizer)
    with pytest.raises(SamplerDriftError, match=r"step 0: .*the sampler \(tiny@0\)"):
        trainer.train()


def test_rollouts_ahead_are_of_the_weights_before_and_say_so(
    policy: LocalChatModel, runner: RolloutRunner, tmp_path: Path
) -> None:
    """While a step trains, the next one's rollouts are sampled from a copy, which is renewed between batches only."""
    trained = copy.deepcopy(policy.model)
    settings = SETTINGS.model_copy(update={"max_staleness": 1, "max_steps": 3})
    config = DAPOConfig.from_settings(settings, tmp_path)
    trainer = DAPOTrainer(trained, config, TASKS, runner, policy.tokenizer, weight_sync=CopiedWeights(policy))
    versions: list[set[str]] = []
    run = runner.run

    def noted(*given: Any) -> Any:
        groups = run(*given)
        turns = [t for group in groups for r in group.rollouts for t in r.trajectory.turns]
        versions.append({str(turn.model_version) for turn in turns})
        return groups

    runner.run = noted  # type: ignore[method-assign]
    trainer.train()
    assert versions == [{"tiny@0"}, {"tiny@0"}, {"tiny@1"}]
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    differences = [entry["sampling/sampling_logp_difference/max"] for entry in history]
    assert differences[0] < 1e-4
    assert all(difference > 1e-3 for difference in differences[1:]), "one step of weights lies between them"
    # The copy has the weights that the last step began with.
    pairs = list(zip(trained.parameters(), policy.model.parameters(), strict=True))
    assert any(not torch.equal(one, other) for one, other in pairs)
