from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import json
import math
import random
import textwrap
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
trl = pytest.importorskip("trl")

from fakes.tiny_models import make_test_model  # noqa: E402
from packaging.requirements import Requirement  # noqa: E402
from pydantic import ValidationError  # noqa: E402
from transformers import TrainerCallback  # noqa: E402
from unit.trainers.conftest import TASKS, MakeTrainer, ScriptedRunner, make_group  # noqa: E402

from masksearch_agent.config.trainers import CurriculumLevel, DAPOSettings, OptimizerSettings  # noqa: E402
from masksearch_agent.errors import SamplerDriftError, TrainingError  # noqa: E402
from masksearch_agent.records import SearchTask, TrainingRow  # noqa: E402
from masksearch_agent.trainers import dapo as dapo_module  # noqa: E402
from masksearch_agent.trainers.batches import collate_rows, split_batch, trim_padding  # noqa: E402
from masksearch_agent.trainers.curriculum import Curriculum  # noqa: E402
from masksearch_agent.trainers.dapo import DAPOConfig, dapo_loss  # noqa: E402
from masksearch_agent.trainers.rollouts import Group  # noqa: E402

PAD = 0


def make_row(
    ids: tuple[int, ...],
    trainable: str,
    logprobs: tuple[float, ...] | None = None,
    is_truncated: bool = False,
) -> TrainingRow:
    """Return a row; `trainable` has a `1` for every token that trains."""
    mask = tuple(digit == "1" for digit in trainable)
    if logprobs is None:
        logprobs = tuple(-1.0 if trains else 0.0 for trains in mask)
    return TrainingRow(ids, mask, logprobs, "t", is_truncated)


def random_row(rng: random.Random, vocabulary: int, model: Any = None) -> TrainingRow:
    """Return a ragged row: a prompt, then turns of sampled tokens with inserted tokens between them.

    With a model, the recorded log-probabilities lie around the model's own, on both sides of the clip bounds.
    """
    mask = [False] * rng.randrange(2, 9)
    for turn in range(rng.randrange(1, 4)):
        mask += [False] * (rng.randrange(1, 6) if turn else 0) + [True] * rng.randrange(1, 7)
    ids = tuple(rng.randrange(3, vocabulary) for _ in mask)
    logprobs = [0.0] * len(ids)
    if model is not None:
        with torch.no_grad():
            predicted = torch.log_softmax(model(torch.tensor([ids])).logits[0], dim=-1)
        logprobs = [
            float(predicted[position - 1, ids[position]]) + rng.uniform(-0.6, 0.6) if trains else 0.0
            for position, trains in enumerate(mask)
        ]
    return TrainingRow(ids, tuple(mask), tuple(logprobs), "t")


def useful(task: SearchTask, seed: int) -> Group:
    """Return a group with different rewards, the same for the same task and seed."""
    rng = random.Random(f"{task.id}:{seed}")
    return make_group(task, (0.0, 1.0), [random_row(rng, 300) for _ in range(2)])


def useless(task: SearchTask, seed: int) -> Group:
    """Return a group with equal rewards."""
    rng = random.Random(f"{task.id}:{seed}")
    return make_group(task, (1.0, 1.0), [random_row(rng, 300) for _ in range(2)])


# --- collating -----------------------------------------------------------------------------------------------


def test_rows_are_collated_into_exactly_these_tensors() -> None:
    rows = [
        make_row((11, 12, 13, 14, 15, 16), "001011", (0, 0, -0.5, 0, -0.25, -0.125)),
        make_row((21, 22, 23), "010", (0, -2.0, 0)),
    ]
    batch = collate_rows(rows, [0.75, -0.75], PAD, multiple_of=3)
    assert {name: tensor.tolist() for name, tensor in batch.items()} == {
        "prompt_ids": [[11, 12], [0, 21], [0, 0]],
        "prompt_mask": [[1, 1], [0, 1], [0, 1]],
        "completion_ids": [[13, 14, 15, 16], [22, 23, 0, 0], [0, 0, 0, 0]],
        "completion_mask": [[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]],
        "tool_mask": [[1, 0, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0]],
        "sampling_per_token_logps": [[-0.5, 0.0, -0.25, -0.125], [-2.0, 0.0, 0.0, 0.0], [0.0] * 4],
        "advantages": [0.75, -0.75, 0.0],
    }
    integers = {"prompt_ids", "prompt_mask", "completion_ids", "completion_mask", "tool_mask"}
    assert {name for name, tensor in batch.items() if tensor.dtype == torch.int64} == integers
    assert {name for name, tensor in batch.items() if tensor.dtype == torch.float32} == set(batch) - integers


def test_no_rows_at_all_still_make_a_batch() -> None:
    batch = collate_rows([], [], PAD, multiple_of=4)
    assert {tuple(tensor.shape) for tensor in batch.values()} == {(4, 1), (4,)}
    assert batch["tool_mask"].sum() == 0


def test_rows_are_filled_up_to_those_of_the_largest_rank() -> None:
    batch = collate_rows([make_row((1, 2), "01")], [1.0], PAD, multiple_of=2, at_least=3)
    assert batch["tool_mask"].tolist() == [[1], [0], [0], [0]]


def test_a_row_without_recorded_probabilities_is_refused() -> None:
    row = TrainingRow((1, 2), (False, True), None, "t-7")
    with pytest.raises(TrainingError, match="trajectory 't-7' has no log-probabilities"):
        collate_rows([row], [1.0], PAD)


# --- the loss ------------------------------------------------------------------------------------------------

CLIP_MAX = 1.3
"""Of the importance weights: low enough that some tokens of `random_row` are truncated."""


def token_logprobs(model: Any, row: TrainingRow) -> torch.Tensor:
    """Return `(T,)` log-probabilities of a row's tokens, 0 for the first."""
    predicted = torch.log_softmax(model(torch.tensor([row.input_ids])).logits[0, :-1], dim=-1)
    chosen = predicted.gather(1, torch.tensor(row.input_ids[1:]).unsqueeze(1)).squeeze(1)
    return torch.cat([torch.zeros(1), chosen])


def all_logprobs(model: Any, rows: list[TrainingRow]) -> list[torch.Tensor]:
    with torch.no_grad():
        return [token_logprobs(model, row) for row in rows]


def reference_loss(
    model: Any, rows: list[TrainingRow], advantages: list[float], old_logprobs: list[torch.Tensor]
) -> torch.Tensor:
    """DAPO, equation 8, token by token: clip from 0.8 to 1.28, truncated weights, mean over all trained tokens."""
    terms = []
    for row, advantage, old in zip(rows, advantages, old_logprobs, strict=True):
        new = token_logprobs(model, row)
        for position, trains in enumerate(row.trainable):
            if trains:
                ratio = torch.exp(new[position] - old[position])
                weight = min(math.exp(old[position].item() - row.logprobs[position]), CLIP_MAX)
                clipped = ratio.clamp(0.8, 1.28)
                terms.append(weight * torch.minimum(ratio * advantage, clipped * advantage))
    return -torch.stack(terms).mean()


def trainer_loss(trainer: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Sum the losses of the micro-batches of one optimizer step, as the training loop does."""
    trainer.current_gradient_accumulation_steps = trainer.args.gradient_accumulation_steps
    parts = trainer.args.steps_per_generation
    per_part = batch["prompt_ids"].shape[0] // parts
    trainer.model.train()
    return sum(
        trainer.compute_loss(
            trainer.model,
            {
                name: tensor if tensor.ndim == 0 else tensor[part * per_part : (part + 1) * per_part]
                for name, tensor in batch.items()
            },
        )
        for part in range(parts)
    )


def assert_same_loss_and_gradient(trainer: Any, loss: torch.Tensor, expected: torch.Tensor) -> None:
    assert abs(loss.item() - expected.item()) < 1e-5
    parameters = list(trainer.model.parameters())
    for found, wanted in zip(
        torch.autograd.grad(loss, parameters), torch.autograd.grad(expected, parameters), strict=True
    ):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


def test_the_trainer_calls_the_pure_loss(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(ScriptedRunner(useful))
    rng = random.Random(1)
    rows = [random_row(rng, 300, trainer.model) for _ in range(4)]
    batch = trainer._batch(list(zip(rows, [1.0, -1.0, 0.5, 2.0], strict=True)))
    whole = trainer_loss(trainer, batch).item()
    assert trainer.step_loss.objective.loss is dapo_loss
    trainer.step_loss.objective = dataclasses.replace(
        trainer.step_loss.objective, loss=lambda *given, **named: 2 * dapo_loss(*given, **named)
    )
    assert trainer_loss(trainer, batch).item() == pytest.approx(2 * whole, rel=1e-6)


@pytest.mark.parametrize("count", [4, 5, 7])
def test_the_loss_of_ragged_rows_is_that_of_a_loop_by_hand(make_trainer: MakeTrainer, count: int) -> None:
    trainer = make_trainer(ScriptedRunner(useful), importance_sampling_clip_max=CLIP_MAX)
    rng = random.Random(count)
    rows = [random_row(rng, 300, trainer.model) for _ in range(count)]
    advantages = [rng.uniform(-1.5, 1.5) for _ in rows]
    loss = trainer_loss(trainer, trainer._batch(list(zip(rows, advantages, strict=True))))
    expected = reference_loss(trainer.model, rows, advantages, all_logprobs(trainer.model, rows))
    assert_same_loss_and_gradient(trainer, loss, expected)


def test_later_updates_are_clipped_against_the_policy_at_the_start_of_the_batch(
    make_trainer: MakeTrainer,
) -> None:
    trainer = make_trainer(
        ScriptedRunner(useful), updates_per_rollout=2, importance_sampling_clip_max=CLIP_MAX
    )
    rng = random.Random(9)
    rows = [random_row(rng, 300, trainer.model) for _ in range(4)]
    advantages = [rng.uniform(-1.5, 1.5) for _ in rows]
    batch = trainer._batch(list(zip(rows, advantages, strict=True)))
    old = all_logprobs(trainer.model, rows)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    new = all_logprobs(trainer.model, rows)
    ratios = torch.cat(
        [torch.exp(n - o)[torch.tensor(row.trainable)] for n, o, row in zip(new, old, rows, strict=True)]
    )
    assert ratios.min() < 0.8
    assert ratios.max() > 1.28
    # Each of the two updates has half of the tokens as its normaliser.
    expected = 2 * reference_loss(trainer.model, rows, advantages, old)
    assert_same_loss_and_gradient(trainer, trainer_loss(trainer, batch), expected)


@pytest.mark.parametrize("name", ["gspo", "cispo", "dr_grpo"])
def test_the_shares_of_micro_batches_add_up_to_each_other_loss(make_trainer: MakeTrainer, name: str) -> None:
    runner = ScriptedRunner(useful)
    runner.agent.settings = SimpleNamespace(max_sampled_tokens=10)
    trainer = make_trainer(runner, loss=name, updates_per_rollout=1, importance_sampling_clip_max=CLIP_MAX)
    rng = random.Random(4)
    rows = [random_row(rng, 300, trainer.model) for _ in range(5)]
    advantages = [rng.uniform(-1.5, 1.5) for _ in rows]
    new = [token_logprobs(trainer.model, row) for row in rows]
    old = [one.detach() for one in new]
    loss = trainer_loss(trainer, trainer._batch(list(zip(rows, advantages, strict=True))))
    terms = []
    for row, advantage, lp, before in zip(rows, advantages, new, old, strict=True):
        trained = [position for position, trains in enumerate(row.trainable) if trains]
        weights = [min(math.exp(before[t].item() - row.logprobs[t]), CLIP_MAX) for t in trained]
        if name == "gspo":
            ratio = torch.stack([lp[t] - before[t] for t in trained]).mean().exp()
            terms.append(ratio * advantage * sum(weights) / len(weights))
        elif name == "cispo":
            terms += [lp[t] * advantage * weight for t, weight in zip(trained, weights, strict=True)]
        else:
            ratios = [torch.exp(lp[t] - before[t]) for t in trained]
            terms.append(sum(r * advantage * w for r, w in zip(ratios, weights, strict=True)) / 10)
    assert_same_loss_and_gradient(trainer, loss, -torch.stack(terms).mean())


@pytest.mark.parametrize("name", ["dapo", "gspo", "cispo", "dr_grpo"])
def test_each_loss_takes_a_step(make_trainer: MakeTrainer, tiny_tokenizer: Any, name: str) -> None:
    runner = ScriptedRunner(useful)
    runner.agent.settings = SimpleNamespace(max_sampled_tokens=10)
    trainer = make_trainer(runner, loss=name, max_steps=1, wrong_answer_kl=0.1)
    before = [parameter.clone() for parameter in trainer.model.parameters()]
    trainer.train()
    after = list(trainer.model.parameters())
    assert all(parameter.isfinite().all() for parameter in after)
    assert any(not torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_only_wrong_answers_pay_for_leaving_the_start(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(ScriptedRunner(useful), wrong_answer_kl=0.5)
    rng = random.Random(6)
    rows = [random_row(rng, 300, trainer.model) for _ in range(4)]
    start = all_logprobs(trainer.model, rows)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    is_wrong = [True, False, True, False]
    batch = trainer._batch([(row, 0.0, wrong) for row, wrong in zip(rows, is_wrong, strict=True)])
    divergences, tokens = [], 0
    for row, before, wrong in zip(rows, start, is_wrong, strict=True):
        new = token_logprobs(trainer.model, row)
        tokens += sum(row.trainable)
        for position, trains in enumerate(row.trainable):
            if trains and wrong:
                rise = before[position] - new[position]
                divergences.append(torch.exp(rise) - rise - 1)
    expected = 0.5 * torch.stack(divergences).sum() / tokens
    assert expected > 1e-3
    assert_same_loss_and_gradient(trainer, trainer_loss(trainer, batch), expected)


def test_the_start_is_scored_by_the_fused_head_of_gpus_as_without_it(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(ScriptedRunner(useful), wrong_answer_kl=0.5)
    rows = [(random_row(random.Random(seed), 300), 0.0) for seed in range(4)]
    with torch.no_grad():
        trainer.model.get_input_embeddings().weight.mul_(1.1)
    expected = trainer._batch(rows)["start_per_token_logps"]
    monkeypatch.setattr("masksearch_agent.trainers.logprobs._is_on_cpu", lambda tensor: False)
    found = trainer._batch(rows)["start_per_token_logps"]
    assert expected.any()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    trainer.train()


def test_answers_that_are_not_wholly_right_count_as_wrong(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(ScriptedRunner(useful))
    group = make_group(TASKS[0], (0.0, 0.9, 1.0), [make_row((4, 5), "01")] * 3)
    assert [each.is_wrong for each in trainer._rows_to_train([group])] == [True, True, False]


def test_dr_grpo_does_not_divide_advantages_by_their_deviation(make_trainer: MakeTrainer) -> None:
    runner = ScriptedRunner(useful)
    runner.agent.settings = SimpleNamespace(max_sampled_tokens=10)
    trainer = make_trainer(runner, loss="dr_grpo")
    group = make_group(TASKS[0], (0.0, 0.5, 1.0), [make_row((4, 5), "01")] * 3)
    assert [each.advantage for each in trainer._rows_to_train([group])] == [-0.5, 0.0, 0.5]


def test_a_loss_that_nobody_knows_is_refused(make_trainer: MakeTrainer) -> None:
    with pytest.raises(TrainingError, match="dr_grpo divides by the tokens that a rollout may sample"):
        make_trainer(ScriptedRunner(useful), loss="dr_grpo")
    with pytest.raises(ValidationError, match="'dapo', 'gspo', 'cispo' or 'dr_grpo'"):
        DAPOSettings(loss="ppo")


def test_without_the_correction_no_token_is_weighed(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(ScriptedRunner(useful), importance_sampling_correction=False)
    rng = random.Random(2)
    rows = [random_row(rng, 300, trainer.model) for _ in range(4)]
    sampled_by_the_policy = [
        dataclasses.replace(row, logprobs=tuple(token_logprobs(trainer.model, row).tolist())) for row in rows
    ]
    advantages = [1.0, -1.0, 0.5, 2.0]
    loss = trainer_loss(trainer, trainer._batch(list(zip(rows, advantages, strict=True))))
    old = all_logprobs(trainer.model, rows)
    expected = reference_loss(trainer.model, sampled_by_the_policy, advantages, old)
    assert_same_loss_and_gradient(trainer, loss, expected)


def test_only_trained_tokens_have_a_gradient(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from masksearch_agent.trainers import dapo

    trainer = make_trainer(ScriptedRunner(useful), row_batch_size=4)
    rng = random.Random(0)
    rows = [random_row(rng, 300) for _ in range(3)]
    batch = trainer._batch(list(zip(rows, [1.0, -1.0, 0.5], strict=True)))
    logprobs = batch["sampling_per_token_logps"].clone().requires_grad_()
    entropies = torch.zeros_like(logprobs)
    monkeypatch.setattr(dapo, "score_completions", lambda *_: (logprobs, entropies))
    trainer_loss(trainer, batch).backward()
    expected = [
        list(row.trainable[row.prompt_length :])
        + [False] * (logprobs.shape[1] - len(row.trainable) + row.prompt_length)
        for row in rows
    ]
    assert (logprobs.grad != 0).tolist() == expected


def test_rows_that_fill_up_the_batch_do_not_enter_the_normaliser(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(ScriptedRunner(useful))
    batch = trainer._batch([(make_row((4, 5, 6, 7), "0110"), 1.0)])
    assert batch["prompt_ids"].shape[0] == 2
    assert batch["num_items_in_batch"] == 2


def test_a_batch_of_fillers_only_has_no_loss_and_no_gradient(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(ScriptedRunner(useful))
    loss = trainer_loss(trainer, trainer._batch([]))
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad is None or not p.grad.any() for p in trainer.model.parameters())


def test_truncated_rollouts_can_be_left_out_of_the_loss_but_not_of_their_group(
    make_trainer: MakeTrainer,
) -> None:
    rows = [make_row((1, 2, 3), "011"), make_row((1, 2), "01", is_truncated=True)]
    group = make_group(TASKS[0], (0.0, 1.0), rows)
    for is_dropped, kept in ((False, rows), (True, rows[:1])):
        trainer = make_trainer(ScriptedRunner(useful), mask_truncated=is_dropped)
        to_train = trainer._rows_to_train([group])
        assert [each.row for each in to_train] == kept
        assert to_train[0][1] == group.advantages()[0] < 0


# --- the sampler ---------------------------------------------------------------------------------------------


def sampled_by(model: Any, shift: float) -> Callable[[SearchTask, int], Group]:
    """Return a maker of groups whose recorded log-probabilities lie a little off the model's, up and down."""

    def make(task: SearchTask, seed: int) -> Group:
        group = useful(task, seed)
        rows = []
        for rollout in group.rollouts:
            [row] = rollout.rows
            with torch.no_grad():
                exact = token_logprobs(model, row).tolist()
            shifted = [value + (shift if at % 2 else -shift) for at, value in enumerate(exact)]
            rows.append(dataclasses.replace(row, logprobs=tuple(shifted)))
        return make_group(task, (0.0, 1.0), rows)

    return make


def test_how_far_the_sampler_is_from_the_trainer_is_logged(
    make_trainer: MakeTrainer, tiny_tokenizer: Any
) -> None:
    model = make_test_model(tiny_tokenizer)
    runner = ScriptedRunner(sampled_by(model, 0.5))
    trainer = make_trainer(runner, model=model, max_steps=1, importance_sampling_clip_max=1.5)
    trainer.train()
    logged = trainer.state.log_history[0]
    assert logged["sampling/sampling_logp_difference/mean"] == pytest.approx(0.5, abs=1e-4)
    assert logged["sampling/sampling_logp_difference/max"] == pytest.approx(0.5, abs=1e-4)
    # Half of the weights are e^0.5 = 1.65, cut to 1.5, the others e^-0.5 = 0.61.
    share = logged["sampling/importance_sampling_ratio/truncated"]
    assert 0.3 < share < 0.7
    assert logged["sampling/importance_sampling_ratio/max"] == 1.5
    expected = share * 1.5 + (1 - share) * math.exp(-0.5)
    assert logged["sampling/importance_sampling_ratio/mean"] == pytest.approx(expected, abs=1e-4)
    assert logged["ratio/mean"] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("updates", [1, 2])
def test_a_run_whose_sampler_drifted_stops_before_its_weights_change(
    make_trainer: MakeTrainer, tiny_tokenizer: Any, updates: int
) -> None:
    model = make_test_model(tiny_tokenizer)
    before = [parameter.clone() for parameter in model.parameters()]
    runner = ScriptedRunner(sampled_by(model, 0.5))
    trainer = make_trainer(runner, model=model, max_sampler_drift=0.4, updates_per_rollout=updates)
    with pytest.raises(
        SamplerDriftError,
        match=r"step 0: the log-probabilities that the sampler \(tiny@0\) recorded .* differ by 0\.5 nats .*"
        r"max_sampler_drift allows 0\.4\. .*Check that the sampler serves this model",
    ):
        trainer.train()
    assert all(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))


def test_a_sampler_within_the_limit_goes_on(make_trainer: MakeTrainer, tiny_tokenizer: Any) -> None:
    model = make_test_model(tiny_tokenizer)
    runner = ScriptedRunner(sampled_by(model, 0.5))
    trainer = make_trainer(runner, model=model, max_sampler_drift=0.6, max_steps=1)
    trainer.train()
    assert trainer.state.global_step == 1


# --- the training loop ---------------------------------------------------------------------------------------


class StopAfter(TrainerCallback):  # type: ignore[misc]
    """Stops the training after a step, as a killed process would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_training_stop = state.global_step >= self.step


FAST = OptimizerSettings(learning_rate=1e-3, schedule="constant")
FAST_MUON = OptimizerSettings(name="muon", learning_rate=1e-3, schedule="linear")


@pytest.mark.parametrize(
    ("optimizer", "updates"), [(FAST, 1), (FAST, 2), (FAST_MUON, 1)], ids=["adamw", "two updates", "muon"]
)
def test_a_resumed_run_goes_on_with_the_same_data_to_the_same_weights(
    make_trainer: MakeTrainer, tmp_path: Path, optimizer: OptimizerSettings, updates: int
) -> None:
    def half_useful(task: SearchTask, seed: int) -> Group:
        return (useless if (seed + int(task.id[-1])) % 2 else useful)(task, seed)

    stages = ({"max_masks": 1, "promote_at": 0.5, "window": 4}, {"max_masks": 2})
    changes: dict[str, Any] = {
        "optimizer": optimizer.model_dump(), "save_steps": 2, "updates_per_rollout": updates, "max_steps": 6,
        "row_batch_size": 2 // updates, "curriculum": stages,
    }  # fmt: skip
    straight = ScriptedRunner(half_useful)
    whole = make_trainer(straight, output_dir=tmp_path / "whole", **changes)
    whole.train()
    first, second = ScriptedRunner(half_useful), ScriptedRunner(half_useful)
    cut = tmp_path / "cut"
    stopped = make_trainer(first, callbacks=[StopAfter(2)], output_dir=cut, **changes)
    stopped.train()
    resumed = make_trainer(second, output_dir=cut, **changes)
    resumed.train(resume_from_checkpoint=True)
    assert first.asked + second.asked == straight.asked
    assert second.asked[0][0] == 2001
    assert second.versions[0] == "tiny@2"
    assert resumed.curriculum.state() == whole.curriculum.state() != stopped.curriculum.state()
    assert whole.curriculum.max_masks == 2
    for (name, one), other in zip(whole.model.named_parameters(), resumed.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, msg=name)


def test_a_checkpoint_without_the_curriculum_is_refused(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    make_trainer(ScriptedRunner(useful), callbacks=[StopAfter(2)], save_steps=2).train()
    state_file = tmp_path / "checkpoint-2" / "trainer_state.json"
    state = json.loads(state_file.read_text())
    del state["stateful_callbacks"]["CurriculumState"]
    state_file.write_text(json.dumps(state))
    with pytest.raises(TrainingError, match="the checkpoint of step 2 holds no curriculum state"):
        make_trainer(ScriptedRunner(useful)).train(resume_from_checkpoint=True)


def test_the_steps_train_on_what_the_curriculum_draws(make_trainer: MakeTrainer) -> None:
    stages = ({"max_masks": 1, "until": 0.5}, {"max_masks": 2})
    runner = ScriptedRunner(useful)
    trainer = make_trainer(runner, curriculum=stages)
    trainer.train()
    expected = Curriculum(TASKS, trainer.curriculum.levels, 4, seed=0)
    drawn = []
    for step in range(4):
        expected.begin_step(step)
        drawn.append([TASKS[index].id for index in expected.draw(2)])
    assert [names for _, names in runner.asked] == drawn
    assert runner.versions == ["tiny@0", "tiny@1", "tiny@2", "tiny@3"]


def test_several_updates_share_the_rollouts_of_one_step(make_trainer: MakeTrainer) -> None:
    runner = ScriptedRunner(useful)
    trainer = make_trainer(runner, updates_per_rollout=2, row_batch_size=1)
    trainer.train()
    assert trainer.state.global_step == 4
    assert [seed for seed, _ in runner.asked] == [1, 2001]


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_a_step_without_a_trained_token_leaves_the_weights_as_they_are(
    make_trainer: MakeTrainer, name: str
) -> None:
    class Weights(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            weights.append([parameter.detach().clone() for parameter in kwargs["model"].parameters()])

    weights: list[list[Any]] = []
    # The seed of a step's first call is a thousand times the step, and 1.
    runner = ScriptedRunner(lambda task, seed: (useless if seed // 1_000 in (1, 2) else useful)(task, seed))
    optimizer = FAST.model_copy(update={"name": name, "warmup_ratio": 0.0}).model_dump()
    trainer = make_trainer(runner, max_resampling=1, callbacks=[Weights()], optimizer=optimizer)
    trainer.train()
    assert [bool(entry["dapo/trained_tokens"]) for entry in trainer.state.log_history[:4]] == [
        *(True, False, False, True)
    ]
    same = [all(map(torch.equal, one, other)) for one, other in itertools.pairwise(weights)]
    assert same == [True, True, False]


def test_what_a_step_did_is_logged(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(ScriptedRunner(useful), max_steps=1)
    trainer.train()
    logged = trainer.state.log_history[0]
    assert logged["rewards/answer"] == 0.5
    assert logged["dapo/groups_useful"] == 2
    assert logged["rollouts/failed"] == 0
    assert logged["traces/forked_rows"] == 0
    assert logged["dapo/trained_tokens"] > 0


@pytest.mark.parametrize("optimizer", [FAST, FAST_MUON], ids=["adamw", "muon"])
def test_adapters_train_and_leave_the_weights_below_as_they_are(
    make_trainer: MakeTrainer, tiny_tokenizer: Any, optimizer: OptimizerSettings
) -> None:
    model = make_test_model(tiny_tokenizer)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    trainer = make_trainer(
        ScriptedRunner(useful), model=model, lora_rank=2, max_steps=2, optimizer=optimizer.model_dump()
    )
    trainer.train()
    adapters = [p for name, p in trainer.model.named_parameters() if "lora_B" in name]
    assert adapters
    assert any(parameter.any() for parameter in adapters)
    merged = trainer.model.merge_and_unload()
    changed = {name for name, p in merged.named_parameters() if not torch.equal(p, before[name])}
    assert changed
    assert all(name.endswith("proj.weight") for name in changed)


# --- settings and TRL ----------------------------------------------------------------------------------------


def test_settings_become_those_of_trl(tmp_path: Path) -> None:
    settings = DAPOSettings(prompts_per_step=4, group_size=8, row_batch_size=4, updates_per_rollout=2)
    config = DAPOConfig.from_settings(settings, tmp_path)
    assert config.generation_batch_size == 32
    assert config.steps_per_generation == 8
    assert config.gradient_accumulation_steps == 4
    assert (config.epsilon, config.epsilon_high, config.beta) == (0.2, 0.28, 0.0)
    assert (config.loss_type, config.scale_rewards) == ("dapo", "group")
    gspo = DAPOConfig.from_settings(DAPOSettings(loss="gspo", epsilon_high=0.1), tmp_path)
    assert (gspo.loss_type, gspo.epsilon, gspo.epsilon_high) == ("gspo", 3e-4, 0.1)
    assert DAPOConfig.from_settings(DAPOSettings(loss="dr_grpo"), tmp_path).scale_rewards == "none"
    assert config.vllm_importance_sampling_correction
    assert config.vllm_importance_sampling_clip_max == 3.0


def test_batch_sizes_that_do_not_divide_are_refused_by_the_settings() -> None:
    with pytest.raises(
        ValidationError, match=r"12 rows; expected a multiple of row_batch_size .* which is 8"
    ):
        DAPOSettings(prompts_per_step=3, group_size=4, row_batch_size=8)
    with pytest.raises(ValidationError, match="which is 24"):
        DAPOSettings(prompts_per_step=4, group_size=8, row_batch_size=8, updates_per_rollout=3)


def test_a_batch_is_shared_by_all_processes(tmp_path: Path) -> None:
    settings = DAPOSettings(prompts_per_step=4, group_size=8, row_batch_size=4, max_steps=2)
    alone, shared = (DAPOConfig.from_settings(settings, tmp_path, count) for count in (1, 2))
    assert (alone.steps_per_generation, shared.steps_per_generation) == (8, 4)
    with pytest.raises(TrainingError, match=r"32 rows; .* \(4 x 1 x 3\)"):
        DAPOConfig.from_settings(settings, tmp_path, 3)


def test_arguments_for_another_number_of_processes_are_refused(make_trainer: MakeTrainer) -> None:
    with pytest.raises(TrainingError, match="args make 2 rollouts a batch, prompts_per_step 4"):
        make_trainer(ScriptedRunner(useful), processes=2)


def test_checkpoints_are_written_between_batches_of_rollouts(tmp_path: Path) -> None:
    settings = DAPOSettings(updates_per_rollout=4, save_steps=6)
    assert DAPOConfig.from_settings(settings, tmp_path).save_steps == 8


def test_other_corrections_of_trl_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="'sequence_mask'; DAPOTrainer corrects by 'token_truncate' only"):
        DAPOConfig(output_dir=str(tmp_path), vllm_importance_sampling_mode="sequence_mask", use_cpu=True)


def test_a_config_without_an_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="max_steps is -1"):
        DAPOConfig(output_dir=str(tmp_path), use_cpu=True)


def test_a_config_is_made_as_one_of_trl_and_written_as_json(tmp_path: Path) -> None:
    config = DAPOConfig(
        output_dir=str(tmp_path),
        use_cpu=True,
        max_steps=3,
        num_generations=2,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        curriculum=(CurriculumLevel(max_masks=1),),
    )
    assert (config.prompts_per_step, config.updates_per_rollout) == (4, 1)
    written = json.loads(config.to_json_string())
    assert written["curriculum"][0]["max_masks"] == 1
    assert written["optimizer"] is None


def test_three_methods_of_trl_are_overridden_as_it_declares_them() -> None:
    from masksearch_agent.trainers.dapo import DAPOTrainer

    overridden = {
        name
        for name, value in vars(DAPOTrainer).items()
        if callable(value) and hasattr(trl.GRPOTrainer, name)
    }
    assert overridden == {"__init__", "_prepare_inputs", "compute_loss", "log"}
    for name in overridden - {"__init__"}:
        theirs, ours = (inspect.signature(getattr(owner, name)) for owner in (trl.GRPOTrainer, DAPOTrainer))
        assert list(ours.parameters) == list(theirs.parameters), name
        assert [p.default for p in ours.parameters.values()] == [
            p.default for p in theirs.parameters.values()
        ], name


def test_of_what_is_private_in_trl_only_one_method_is_used() -> None:
    trainers = Path(dapo_module.__file__).parent
    theirs = members(trl.GRPOTrainer) | members(trl.SFTTrainer)
    used = {}
    for path in trainers.glob("*.py"):
        for owner in [
            node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)
        ]:
            is_trainer = any(isinstance(base, ast.Name) and "Trainer" in base.id for base in owner.bases)
            defined = {node.name for node in owner.body if isinstance(node, ast.FunctionDef)}
            used |= {name: path.name for name in defined & theirs if is_trainer and is_private(name)}
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and is_of_a_trainer(node.value, path.name):
                used |= dict.fromkeys({node.attr} & theirs & set(filter(is_private, theirs)), path.name)
    assert used == {"_prepare_inputs": "dapo.py"}


def members(trainer: type) -> set[str]:
    """Return the names of a trainer's methods and of the attributes that it and those above it set on themselves."""
    names = set(dir(trainer))
    for owner in trainer.__mro__[:-1]:
        for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(owner)))):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "self"
            ):
                names.add(node.attr)
    return names


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def is_of_a_trainer(value: ast.expr, module: str) -> bool:
    """Whether an attribute is looked up on a trainer: `trainer`, or in its own module `self` or `super()`."""
    if isinstance(value, ast.Call):
        return isinstance(value.func, ast.Name) and value.func.id == "super"
    own = {"self", "trainer"} if module in ("dapo.py", "logprobs.py") else {"trainer"}
    return isinstance(value, ast.Name) and value.id in own


def test_trimming_drops_only_columns_that_are_padding_in_every_row() -> None:
    rows = [
        TrainingRow((1, 2, 3, 4), (False, False, True, True), (0.0, 0.0, -1.0, -2.0), "a"),
        TrainingRow((5, 6), (False, True), (0.0, -3.0), "b"),
    ]
    wide = collate_rows(
        [*rows, TrainingRow((7,) * 9, (False,) * 5 + (True,) * 4, (0.0,) * 9, "c")], [1.0, 2.0, 3.0], 0
    )
    trimmed = trim_padding({name: tensor[:2] for name, tensor in wide.items()})
    narrow = collate_rows(rows, [1.0, 2.0], 0)
    assert all(torch.equal(trimmed[name], narrow[name]) for name in narrow)


def test_the_installed_trl_is_in_the_range_that_the_package_asks_for() -> None:
    project = Path(__file__).parents[3] / "pyproject.toml"
    extras = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    [requirement] = [r for r in map(Requirement, extras["train"]) if r.name == "trl"]
    assert requirement.specifier.contains(trl.__version__)
    assert not requirement.specifier.contains("99")


def test_micro_batches_of_like_length_hold_every_row_once() -> None:
    lengths = (9, 2, 7, 4, 8, 3)
    rows = [
        TrainingRow(
            (1,) * 3 + (10 + n,) * length, (False,) * 3 + (True,) * length, (0.0,) * (3 + length), f"t{n}"
        )
        for n, length in enumerate(lengths)
    ]
    batch = collate_rows(rows, [float(n) for n in range(6)], pad_token_id=0)
    batch["num_items_in_batch"] = torch.tensor(33)
    sorted_halves = split_batch(batch, 2, "by_length")
    assert [half["completion_mask"].sum(dim=1).tolist() for half in sorted_halves] == [[2, 3, 4], [7, 8, 9]]
    assert [half["advantages"].tolist() for half in sorted_halves] == [[1.0, 5.0, 3.0], [2.0, 4.0, 0.0]]
    assert [half["num_items_in_batch"].item() for half in sorted_halves] == [33, 33]
    for half in sorted_halves:
        for ids, advantage in zip(half["completion_ids"], half["advantages"], strict=True):
            assert ids.max().item() == 10 + int(advantage)
    assert trim_padding(sorted_halves[0])["completion_ids"].shape == (3, 4)


def test_rows_of_one_prompt_go_into_one_micro_batch() -> None:
    prompts = ((1, 2), (3,), (1, 2), (0, 3), (3,), (1, 2), (0, 3), (3,), (0, 3))
    lengths = (5, 2, 1, 3, 8, 6, 4, 3, 2)
    rows = [
        TrainingRow((*p, *(10,) * n), (False,) * len(p) + (True,) * n, (0.0,) * (len(p) + n), "t")
        for p, n in zip(prompts, lengths, strict=True)
    ]
    batch = collate_rows(rows, [float(n) for n in range(9)], pad_token_id=0)
    thirds = split_batch(batch, 3, "by_prompt")
    # Padding is told from a token of the same id; the prompt with the shortest long row is first.
    assert [third["advantages"].tolist() for third in thirds] == [[8, 3, 6], [2, 0, 5], [1, 7, 4]]
    assert [third["completion_mask"].sum(dim=1).tolist() for third in thirds] == [
        [2, 3, 4],
        [1, 5, 6],
        [2, 3, 8],
    ]


def test_on_a_cpu_a_micro_batch_has_the_rollouts_of_one_prompt(make_trainer: MakeTrainer) -> None:
    def group(task: SearchTask, seed: int) -> Group:
        prompt = tuple(task.id.encode())
        # By length, a short rollout of one task would come with a short one of the other.
        rows = [
            TrainingRow(
                (*prompt, *(7,) * n), (False,) * len(prompt) + (True,) * n, (-1.0,) * (len(prompt) + n), "t"
            )
            for n in (2, 20)
        ]
        return make_group(task, (0.0, 1.0), rows)

    trainer = make_trainer(ScriptedRunner(group))
    for _ in range(2):
        micro_batch = trainer._prepare_inputs({})
        assert len({tuple(ids) for ids in micro_batch["prompt_ids"].tolist()}) == 1
        assert micro_batch["completion_mask"].sum(dim=1).tolist() == [2, 20]
