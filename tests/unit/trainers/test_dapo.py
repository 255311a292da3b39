from __future__ import annotations

import inspect
import logging
import math
import random
import tomllib
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
trl = pytest.importorskip("trl")

from fakes.tiny_models import make_test_model  # noqa: E402
from packaging.requirements import Requirement  # noqa: E402
from transformers import TrainerCallback  # noqa: E402
from unit.trainers.conftest import TASKS, MakeTrainer, ScriptedRunner, make_group  # noqa: E402

from masksearch_agent.config.trainers import CurriculumStage, DAPOSettings, OptimizerSettings  # noqa: E402
from masksearch_agent.errors import TrainingError  # noqa: E402
from masksearch_agent.records import SearchTask, TrainingRow  # noqa: E402
from masksearch_agent.trainers.batches import collate_rows, sort_by_length, trim_padding  # noqa: E402
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
        "old_per_token_logps": [[-0.5, 0.0, -0.25, -0.125], [-2.0, 0.0, 0.0, 0.0], [0.0] * 4],
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


def reference_loss(model: Any, rows: list[TrainingRow], advantages: list[float]) -> torch.Tensor:
    """DAPO, equation 8, token by token: clip from 0.8 to 1.28, mean over all trained tokens of the batch."""
    terms = []
    for row, advantage in zip(rows, advantages, strict=True):
        logprobs = torch.log_softmax(model(torch.tensor([row.input_ids])).logits[0], dim=-1)
        for position, trains in enumerate(row.trainable):
            if trains:
                ratio = torch.exp(logprobs[position - 1, row.input_ids[position]] - row.logprobs[position])
                clipped = ratio.clamp(0.8, 1.28)
                terms.append(torch.minimum(ratio * advantage, clipped * advantage))
    return -torch.stack(terms).mean()


def trainer_loss(trainer: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Sum the losses of the micro-batches of one optimizer step, as the training loop does."""
    trainer.current_gradient_accumulation_steps = trainer.args.gradient_accumulation_steps
    parts = trainer.args.steps_per_generation
    per_part = batch["prompt_ids"].shape[0] // parts
    trainer.model.train()
    return sum(
        trainer._compute_loss(
            trainer.model,
            {
                name: tensor if tensor.ndim == 0 else tensor[part * per_part : (part + 1) * per_part]
                for name, tensor in batch.items()
            },
        )
        for part in range(parts)
    )


@pytest.mark.parametrize("seed", range(20))
def test_the_pure_loss_is_that_of_a_loop_by_hand(seed: int) -> None:
    """Random ragged batches, with anything at all where no token trains."""
    rng = random.Random(seed)
    rows, width = rng.randrange(1, 6), rng.randrange(1, 9)
    low, high = rng.choice([(0.2, 0.28), (0.1, 0.5)])
    mask = [[rng.random() < 0.6 for _ in range(width)] for _ in range(rows)]
    junk = (math.inf, -math.inf, math.nan, -3.0)
    new, old = (
        [[-rng.uniform(0, 1) if trains else rng.choice(junk) for trains in row] for row in mask]
        for _ in range(2)
    )
    advantages = [rng.uniform(-2, 2) for _ in range(rows)]
    terms = []
    for row in range(rows):
        for column in range(width):
            if mask[row][column]:
                ratio = math.exp(new[row][column] - old[row][column])
                clipped = min(max(ratio, 1 - low), 1 + high)
                terms.append(min(ratio * advantages[row], clipped * advantages[row]))
    expected = -sum(terms) / len(terms) if terms else 0.0
    logprobs = torch.tensor(new, requires_grad=True)
    loss = dapo_loss(logprobs, torch.tensor(old), torch.tensor(advantages), torch.tensor(mask), low, high)
    assert loss.item() == pytest.approx(expected, abs=1e-5)
    loss.backward()
    assert logprobs.grad.isfinite().all()
    assert not logprobs.grad[~torch.tensor(mask)].any()


def test_the_trainer_calls_the_pure_loss(make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    from masksearch_agent.trainers import dapo

    trainer = make_trainer(ScriptedRunner(useful))
    rng = random.Random(1)
    batch = trainer._batch([random_row(rng, 300, trainer.model) for _ in range(4)], [1.0, -1.0, 0.5, 2.0])
    whole = trainer_loss(trainer, batch).item()
    monkeypatch.setattr(dapo, "dapo_loss", lambda *arguments: 2 * dapo_loss(*arguments))
    assert trainer_loss(trainer, batch).item() == pytest.approx(2 * whole, rel=1e-6)


@pytest.mark.parametrize("count", [4, 5, 7])
def test_the_loss_of_ragged_rows_is_that_of_a_loop_by_hand(make_trainer: MakeTrainer, count: int) -> None:
    trainer = make_trainer(ScriptedRunner(useful))
    rng = random.Random(count)
    rows = [random_row(rng, 300, trainer.model) for _ in range(count)]
    advantages = [rng.uniform(-1.5, 1.5) for _ in rows]
    batch = trainer._batch(rows, advantages)
    loss = trainer_loss(trainer, batch)
    expected = reference_loss(trainer.model, rows, advantages)
    assert abs(loss.item() - expected.item()) < 1e-5

    parameters = list(trainer.model.parameters())
    for found, wanted in zip(
        torch.autograd.grad(loss, parameters), torch.autograd.grad(expected, parameters), strict=True
    ):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


def test_the_rows_of_that_comparison_are_clipped_on_both_sides(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(ScriptedRunner(useful))
    rng = random.Random(4)
    rows = [random_row(rng, 300, trainer.model) for _ in range(4)]
    ratios = []
    for row in rows:
        with torch.no_grad():
            logprobs = torch.log_softmax(trainer.model(torch.tensor([row.input_ids])).logits[0], dim=-1)
        for position, trains in enumerate(row.trainable):
            if trains:
                ratios.append(
                    math.exp(logprobs[position - 1, row.input_ids[position]] - row.logprobs[position])
                )
    assert min(ratios) < 0.8
    assert max(ratios) > 1.28


def test_only_trained_tokens_have_a_gradient(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(ScriptedRunner(useful), row_batch_size=4)
    rng = random.Random(0)
    rows = [random_row(rng, 300) for _ in range(3)]
    batch = trainer._batch(rows, [1.0, -1.0, 0.5])
    logprobs = batch["old_per_token_logps"].clone().requires_grad_()
    entropies = torch.zeros_like(logprobs)
    monkeypatch.setattr(
        trainer, "_get_per_token_logps_and_entropies", lambda *_, **__: (logprobs, entropies, None)
    )
    trainer_loss(trainer, batch).backward()
    expected = [
        list(row.trainable[row.prompt_length :])
        + [False] * (logprobs.shape[1] - len(row.trainable) + row.prompt_length)
        for row in rows
    ]
    assert (logprobs.grad != 0).tolist() == expected


def test_rows_that_fill_up_the_batch_do_not_enter_the_normaliser(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(ScriptedRunner(useful))
    batch = trainer._batch([make_row((4, 5, 6, 7), "0110")], [1.0])
    assert batch["prompt_ids"].shape[0] == 2
    assert batch["num_items_in_batch"] == 2


def test_a_batch_of_fillers_only_has_no_loss_and_no_gradient(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(ScriptedRunner(useful))
    loss = trainer_loss(trainer, trainer._batch([], []))
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad is None or not p.grad.any() for p in trainer.model.parameters())


def test_truncated_rollouts_can_be_left_out(make_trainer: MakeTrainer) -> None:
    rows = [make_row((1, 2, 3), "011"), make_row((1, 2), "01", is_truncated=True)]
    group = make_group(TASKS[0], (0.0, 1.0), rows)
    for is_dropped, kept in ((False, rows), (True, rows[:1])):
        trainer = make_trainer(ScriptedRunner(useful), mask_truncated=is_dropped)
        assert trainer._rows_to_train([group])[0] == kept


# --- dynamic sampling ----------------------------------------------------------------------------------------


def inputs_of(*indices: int) -> list[dict[str, Any]]:
    """Return TRL's inputs: each prompt once per rollout of its group."""
    return [{"prompt": TASKS[index].question, "task_index": index} for index in indices for _ in range(2)]


def test_a_batch_of_useful_groups_is_rolled_out_once(make_trainer: MakeTrainer) -> None:
    runner = ScriptedRunner(useful)
    trainer = make_trainer(runner)
    batch = trainer._generate_and_score_completions(inputs_of(3, 8))
    assert [asked for _, asked in runner.asked] == [[TASKS[3].id, TASKS[8].id]]
    assert batch["prompt_ids"].shape[0] == 4
    # Rewards 0 and 1: mean 0.5, deviation of the sample 0.7071.
    expected = 0.5 / (math.sqrt(0.5) + 1e-4)
    assert batch["advantages"].tolist() == pytest.approx([-expected, expected] * 2)


def test_useless_groups_are_replaced_until_the_batch_is_full(
    make_trainer: MakeTrainer, caplog: pytest.LogCaptureFixture
) -> None:
    useful_in_try = {1: 0, 2: 1, 3: 1}
    made: list[Group] = []

    def make(task: SearchTask, seed: int) -> Group:
        is_useful = useful_in_try[seed] > 0
        useful_in_try[seed] -= 1
        made.append(useful(task, seed) if is_useful else useless(task, seed))
        return made[-1]

    runner = ScriptedRunner(make)
    trainer = make_trainer(runner, max_resampling=5)
    with caplog.at_level(logging.INFO):
        batch = trainer._generate_and_score_completions(inputs_of(0, 1))
    assert [seed for seed, _ in runner.asked] == [1, 2, 3]
    kept = [group for group in made if group.is_useful]
    assert len(kept) == 2
    trained = sum(row.trainable_count for group in kept for r in group.rollouts for row in r.rows)
    assert batch["num_items_in_batch"] == trained
    metrics = trainer._metrics["train"]
    assert metrics["dapo/rollout_batches"] == [3]
    assert metrics["dapo/groups_useful"] == [2]
    assert metrics["dapo/groups_sampled"] == [len(made)]
    assert "max_resampling" not in caplog.text


def test_a_cap_ends_the_refilling_and_is_logged(
    make_trainer: MakeTrainer, caplog: pytest.LogCaptureFixture
) -> None:
    runner = ScriptedRunner(lambda task, seed: (useful if task is TASKS[0] else useless)(task, seed))
    trainer = make_trainer(runner, tasks=TASKS[:6], max_resampling=3)
    trainer.curriculum.draw = lambda *_, **__: [1]
    with caplog.at_level(logging.INFO):
        batch = trainer._generate_and_score_completions(inputs_of(0, 1))
    assert len(runner.asked) == 3
    assert "1 of 2 groups are useful after 3 rollout batches (max_resampling)" in caplog.text
    [kept] = [useful(TASKS[0], 1)]
    assert batch["num_items_in_batch"] == sum(r.rows[0].trainable_count for r in kept.rollouts)
    assert batch["prompt_ids"].shape[0] == 2


def test_fresh_groups_come_from_the_same_stage_and_repeat_for_the_same_step(
    make_trainer: MakeTrainer,
) -> None:
    stages = (CurriculumStage(max_masks=1, until=0.5), CurriculumStage(max_masks=2, until=1.0))
    asked = []
    for _ in range(2):
        runner = ScriptedRunner(useless)
        trainer = make_trainer(runner, curriculum=stages, max_resampling=4)
        trainer._generate_and_score_completions(inputs_of(0, 1))
        asked.append(runner.asked)
    assert asked[0] == asked[1]
    drawn = [name for _, names in asked[0] for name in names]
    assert {name.split("-")[0] for name in drawn} == {"1"}
    refills = [tuple(names) for _, names in asked[0][1:]]
    assert len(set(refills)) > 1


def test_more_useful_groups_than_asked_for_are_cut(make_trainer: MakeTrainer) -> None:
    is_first = iter([True, True])
    runner = ScriptedRunner(lambda task, seed: (useless if next(is_first, False) else useful)(task, seed))
    trainer = make_trainer(runner)
    trainer.curriculum.draw = lambda *_, **__: [4, 5, 6]
    batch = trainer._generate_and_score_completions(inputs_of(0, 1))
    assert batch["prompt_ids"].shape[0] == 4
    trained = sum(r.rows[0].trainable_count for i in (4, 5) for r in useful(TASKS[i], 2).rollouts)
    assert batch["num_items_in_batch"] == trained


# --- the training loop ---------------------------------------------------------------------------------------


class StopAfter(TrainerCallback):  # type: ignore[misc]
    """Stops the training after a step, as a killed process would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_training_stop = state.global_step >= self.step


FAST = OptimizerSettings(learning_rate=1e-3, schedule="constant")
FAST_MUON = OptimizerSettings(name="muon", learning_rate=1e-3, schedule="linear")


@pytest.mark.parametrize("optimizer", [FAST, FAST_MUON], ids=["adamw", "muon"])
def test_a_resumed_run_goes_on_with_the_same_data_to_the_same_weights(
    make_trainer: MakeTrainer, tmp_path: Path, optimizer: OptimizerSettings
) -> None:
    def half_useful(task: SearchTask, seed: int) -> Group:
        return (useless if (seed + int(task.id[-1])) % 2 else useful)(task, seed)

    changes: dict[str, Any] = {"optimizer": optimizer.model_dump(), "save_steps": 2}
    straight = ScriptedRunner(half_useful)
    whole = make_trainer(straight, output_dir=tmp_path / "whole", **changes)
    whole.train()
    first, second = ScriptedRunner(half_useful), ScriptedRunner(half_useful)
    cut = tmp_path / "cut"
    make_trainer(first, callbacks=[StopAfter(2)], output_dir=cut, **changes).train()
    resumed = make_trainer(second, output_dir=cut, **changes)
    resumed.train(resume_from_checkpoint=True)
    assert first.asked + second.asked == straight.asked
    assert second.asked[0][0] == 2001
    assert second.versions[0] == "tiny@2"
    for (name, one), other in zip(whole.model.named_parameters(), resumed.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, msg=name)


def test_the_steps_train_on_what_the_curriculum_draws(make_trainer: MakeTrainer) -> None:
    stages = ({"max_masks": 1, "until": 0.5}, {"max_masks": 2, "until": 1.0})
    runner = ScriptedRunner(useful)
    trainer = make_trainer(runner, curriculum=stages)
    trainer.train()
    drawn = [[TASKS[index].id for index in trainer.curriculum.draw(step, 2)] for step in range(4)]
    assert [names for _, names in runner.asked] == drawn
    assert runner.versions == ["tiny@0", "tiny@1", "tiny@2", "tiny@3"]


def test_several_updates_share_the_rollouts_of_one_step(make_trainer: MakeTrainer) -> None:
    runner = ScriptedRunner(useful)
    trainer = make_trainer(runner, updates_per_rollout=2, row_batch_size=1)
    trainer.train()
    assert trainer.state.global_step == 4
    assert [seed for seed, _ in runner.asked] == [1, 2001]


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
    assert config.loss_type == "dapo"


def test_batch_sizes_that_do_not_divide_are_refused(tmp_path: Path) -> None:
    settings = DAPOSettings(prompts_per_step=3, group_size=4, row_batch_size=8)
    with pytest.raises(TrainingError, match="12 rows, which row_batch_size x updates_per_rollout"):
        DAPOConfig.from_settings(settings, tmp_path)


def test_the_overridden_method_of_trl_is_there_and_takes_what_ours_takes() -> None:
    from masksearch_agent.trainers.dapo import DAPOTrainer

    overridden = trl.GRPOTrainer._generate_and_score_completions
    assert list(inspect.signature(overridden).parameters) == ["self", "inputs"]
    ours = DAPOTrainer._generate_and_score_completions
    assert list(inspect.signature(ours).parameters) == ["self", "inputs"]
    own = {
        name
        for name in vars(DAPOTrainer)
        if callable(getattr(DAPOTrainer, name)) and hasattr(trl.GRPOTrainer, name)
    }
    assert own == {"__init__", "_generate_and_score_completions", "_prepare_inputs", "_compute_loss"}
    assert list(inspect.signature(trl.GRPOTrainer._compute_loss).parameters) == ["self", "model", "inputs"]
    assert list(inspect.signature(trl.GRPOTrainer._prepare_inputs).parameters) == ["self", "generation_batch"]


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
    halves = [
        {name: tensor if tensor.dim() == 0 else tensor[half] for name, tensor in batch.items()}
        for half in (slice(0, 3), slice(3, 6))
    ]
    sorted_halves = sort_by_length(halves)
    assert [half["completion_mask"].sum(dim=1).tolist() for half in sorted_halves] == [[2, 3, 4], [7, 8, 9]]
    assert [half["advantages"].tolist() for half in sorted_halves] == [[1.0, 5.0, 3.0], [2.0, 4.0, 0.0]]
    assert [half["num_items_in_batch"].item() for half in sorted_halves] == [33, 33]
    for half in sorted_halves:
        for ids, advantage in zip(half["completion_ids"], half["advantages"], strict=True):
            assert ids.max().item() == 10 + int(advantage)
    assert trim_padding(sorted_halves[0])["completion_ids"].shape == (3, 4)
