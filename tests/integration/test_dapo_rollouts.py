"""DAPO over the real search graph: what the graph's own model sampled is what the trainer trains on."""

from __future__ import annotations

import copy
import threading
from collections import defaultdict
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
from masksearch_agent.trainers.loss import importance_weights  # noqa: E402
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
    optimizer=OptimizerSettings(learning_rate=1e-3, schedule="constant", warmup_ratio=0),
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
    in_float32 = copy.deepcopy(policy.model)
    rounded = []

    def spied(model: Any, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        scores = score_completions(model, batch)
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            exact, _ = score_completions(in_float32, batch)
        rounded.append((scores[0].detach() - exact).abs()[batch["tool_mask"].bool()].mean().item())
        return scores

    monkeypatch.setattr("masksearch_agent.trainers.dapo.score_completions", spied)
    trainer = make_trainer(
        policy, runner, tmp_path, SETTINGS.model_copy(update={"bf16": True, "max_steps": 1})
    )
    trainer.train()
    [logged] = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(rounded) == 2
    assert all(1e-4 < difference < 0.05 for difference in rounded)
    # The sampler rounds as the trainer does; what is left is that of batches of another shape.
    assert logged["sampling/sampling_logp_difference/mean"] < 0.002
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


def test_a_rollout_under_way_goes_on_with_new_weights_and_trains_by_its_turns_own(
    tiny_tokenizer: Any,
) -> None:
    versions = {f"tiny@{seed}": make_test_model(tiny_tokenizer, seed=seed).double() for seed in (0, 1)}
    policy = LocalChatModel(
        model=copy.deepcopy(versions["tiny@0"]),
        tokenizer=tiny_tokenizer,
        model_version="tiny@0",
        is_reproducible=False,  # Callers in lockstep are waited for; here one of them waits for the weights.
    )
    submit = policy._engine.submit

    def exchange() -> None:
        with policy.exchange():
            policy.model.load_state_dict(versions["tiny@1"].state_dict())
            policy.model_version = "tiny@1"

    def submit_after(prompt_ids: Any, *given: Any) -> Any:
        """Exchange the weights before the first second turn."""
        is_second = policy.tokenizer.decode(prompt_ids).count("assistant\n") > 1
        if is_second and policy.model_version == "tiny@0":
            thread = threading.Thread(target=exchange)
            thread.start()
            thread.join(60)
        return submit(prompt_ids, *given)

    policy._engine.submit = submit_after  # type: ignore[method-assign]
    agent = MaskSearchAgent(policy, Search(OverlapBackend(make_passages(*LINES))), LIMITS, COMPACT_PROMPTS)
    reward = RewardMix(RewardSettings(), reward_of_variety)
    [group] = RolloutRunner(agent, reward, Sampling(temperature=1.0), 4).run(TASKS[:1], seed=0)
    policy.close()
    for rollout in group.rollouts:
        of_turns = [turn.model_version for turn in rollout.trajectory.turns]
        assert of_turns[0] == "tiny@0"
        assert set(of_turns[1:]) == {"tiny@1"}
        sampled = [token for turn in rollout.trajectory.turns for token in turn.sampled_ids]
        [row] = rollout.rows
        trained = [token for token, trains in zip(row.input_ids, row.trainable, strict=True) if trains]
        assert trained == sampled
        batch = collate_rows([row], [1.0], tiny_tokenizer.pad_token_id)
        # What a trainer of the new weights does, against each token scored by the weights of its own turn.
        new, old = (score_completions(versions[f"tiny@{n}"], batch)[0].detach() for n in (1, 0))
        mask = batch["tool_mask"]
        weights = importance_weights(new, batch["sampling_per_token_logps"], mask, 1e9)[mask.bool()]
        first = len(rollout.trajectory.turns[0].sampled_ids)
        expected = torch.exp(new - old)[mask.bool()]
        assert (expected[:first] - 1).abs().max() > 0.1, "the two versions differ"
        torch.testing.assert_close(weights[:first], expected[:first], rtol=1e-5, atol=1e-5, check_dtype=False)
        torch.testing.assert_close(
            weights[first:], torch.ones_like(weights[first:]), rtol=1e-5, atol=1e-5, check_dtype=False
        )


def test_rollouts_ahead_begin_with_the_weights_before_and_say_so(
    policy: LocalChatModel, runner: RolloutRunner, tmp_path: Path
) -> None:
    """While a step trains, the next one's rollouts are sampled from a copy, which is renewed once the step is done."""
    trained = copy.deepcopy(policy.model)
    settings = SETTINGS.model_copy(update={"max_staleness": 1, "max_steps": 3})
    config = DAPOConfig.from_settings(settings, tmp_path)
    versions: list[set[str]] = []
    runs = 0
    is_sampled = defaultdict[int, threading.Event](threading.Event)
    run = runner.run

    class LateWeights(CopiedWeights):
        """Come when something of the batch ahead was sampled, however fast the trainer is."""

        def refresh(self, trainer: Any, step: int) -> None:
            assert step == 0 or is_sampled[step + 1].wait(60)
            super().refresh(trainer, step)

    trainer = DAPOTrainer(trained, config, TASKS, runner, policy.tokenizer, weight_sync=LateWeights(policy))

    def watch(model: Any, args: Any, kwargs: dict[str, Any]) -> None:
        if "past_key_values" in kwargs:
            is_sampled[runs].set()

    policy.model.register_forward_pre_hook(watch, with_kwargs=True)

    def noted(*given: Any) -> Any:
        nonlocal runs
        runs += 1
        groups = run(*given)
        turns = [t for group in groups for r in group.rollouts for t in r.trajectory.turns]
        versions.append({str(turn.model_version) for turn in turns})
        return groups

    runner.run = noted  # type: ignore[method-assign]
    trainer.train()
    assert versions[0] == {"tiny@0"}
    assert {"tiny@0"} <= versions[1] <= {"tiny@0", "tiny@1"}
    assert {"tiny@1"} <= versions[2] <= {"tiny@1", "tiny@2"}
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    differences = [entry["sampling/sampling_logp_difference/max"] for entry in history]
    assert differences[0] < 1e-4
    assert all(difference > 1e-3 for difference in differences[1:]), "one step of weights lies between them"
    # The copy has the weights that the last step began with.
    pairs = list(zip(trained.parameters(), policy.model.parameters(), strict=True))
    assert any(not torch.equal(one, other) for one, other in pairs)
