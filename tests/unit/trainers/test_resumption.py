from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from fakes.tiny_models import make_test_model  # noqa: E402
from unit.trainers.conftest import MakeTrainer, ScriptedRunner, make_group  # noqa: E402
from unit.trainers.test_dapo import random_row, useful  # noqa: E402
from unit.trainers.test_sft import NAMES, Steps, make_trajectory  # noqa: E402

from masksearch_agent.config.trainers import MonitorSettings, OptimizerSettings, SFTSettings  # noqa: E402
from masksearch_agent.errors import TrainingError  # noqa: E402
from masksearch_agent.records import Trajectory  # noqa: E402
from masksearch_agent.trainers.callbacks import MetricsLog, read_metrics  # noqa: E402
from masksearch_agent.trainers.monitor import Monitor  # noqa: E402
from masksearch_agent.trainers.resumption import TrainedOn, train_from_last, weights_id  # noqa: E402
from masksearch_agent.trainers.sft import train_sft  # noqa: E402

ADAMW = OptimizerSettings(learning_rate=1e-2, schedule="constant")
TRAJECTORIES = [make_trajectory(f"{name} {number}") for name in NAMES for number in range(3)]


def train(
    tokenizer: Any,
    folder: Path,
    trajectories: Sequence[Trajectory] = TRAJECTORIES,
    callbacks: Any = (),
    source: str = "a",
    **changes: Any,
) -> dict[str, Any]:
    settings = SFTSettings(**{"batch_size": 2, "max_steps": 8, "save_steps": 4, "optimizer": ADAMW} | changes)
    model = train_sft(
        make_test_model(tokenizer), tokenizer, trajectories, settings, folder, callbacks, source=source
    )
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"trajectories": TRAJECTORIES[1:]}, "other trajectories or tasks, or"),
        ({"trajectories": TRAJECTORIES[::-1]}, "other trajectories or tasks, or"),
        ({"source": "b"}, "another agent to start from;"),
        ({"batch_size": 1}, "2 rows a step and not 1;"),
        ({"optimizer": OptimizerSettings(learning_rate=0.5)}, "other settings;"),
    ],
)
def test_a_folder_that_was_trained_on_something_else_is_refused(
    tiny_tokenizer: Any, tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    train(tiny_tokenizer, tmp_path)
    with pytest.raises(
        TrainingError, match=f"the checkpoint of step 8 in .* was written by a run with {told}"
    ):
        train(tiny_tokenizer, tmp_path, **changes)
    train(tiny_tokenizer, tmp_path / "new", **changes)


def test_as_many_rows_a_step_in_other_micro_batches_are_the_same_run(
    tiny_tokenizer: Any, tmp_path: Path
) -> None:
    steps = Steps()
    train(tiny_tokenizer, tmp_path, max_steps=4)
    train(tiny_tokenizer, tmp_path, callbacks=[steps], batch_size=1, gradient_accumulation=2)
    assert steps.taken == [5, 6, 7, 8]


def test_a_checkpoint_that_does_not_say_what_it_was_trained_on_is_refused(
    tiny_tokenizer: Any, tmp_path: Path
) -> None:
    train(tiny_tokenizer, tmp_path, max_steps=4)
    file = tmp_path / "checkpoint-4" / "trainer_state.json"
    state = json.loads(file.read_text())
    del state["stateful_callbacks"]["TrainedOn"]
    file.write_text(json.dumps(state))
    with pytest.raises(
        TrainingError, match="does not say what it was trained on: an earlier version wrote it"
    ):
        train(tiny_tokenizer, tmp_path)


def test_weights_are_told_apart_after_a_step(tiny_tokenizer: Any) -> None:
    model, same = make_test_model(tiny_tokenizer), make_test_model(tiny_tokenizer)
    assert weights_id(model) == weights_id(same)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)
    model(torch.tensor([[1, 2, 3]]), labels=torch.tensor([[1, 2, 3]])).loss.backward()
    optimizer.step()
    assert weights_id(model) != weights_id(same)


@pytest.mark.parametrize("length", [{"max_steps": 8}, {"max_steps": -1, "epochs": 1.5}])
def test_a_run_that_was_done_takes_no_further_step(
    tiny_tokenizer: Any, tmp_path: Path, length: dict[str, Any]
) -> None:
    """Of six steps an epoch, so that no epoch ends with the run."""
    whole, again = Steps(), Steps()
    trained = train(tiny_tokenizer, tmp_path, callbacks=[whole], **length)
    loaded = train(tiny_tokenizer, tmp_path, callbacks=[again], **length)
    assert (len(whole.taken), again.taken) == (length.get("epochs", 8 / 6) * 6, [])
    assert all(torch.equal(trained[name], loaded[name]) for name in trained)
    longer = Steps()
    train(tiny_tokenizer, tmp_path, callbacks=[longer], **{name: 2 * by for name, by in length.items()})
    assert longer.taken[0] == whole.taken[-1] + 1


def test_dapo_that_was_done_in_the_middle_of_a_batch_of_rollouts_takes_no_further_step(
    make_trainer: MakeTrainer,
) -> None:
    changes = {"max_steps": 3, "updates_per_rollout": 2, "row_batch_size": 1}
    train_from_last(first := make_trainer(ScriptedRunner(useful), **changes))
    runner = ScriptedRunner(useful)
    train_from_last(
        again := make_trainer(runner, model=make_test_model(first.processing_class, 9), **changes)
    )
    assert (again.state.global_step, runner.asked) == (3, [])
    for one, other in zip(first.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_dapo_from_another_agent_is_refused(make_trainer: MakeTrainer) -> None:
    train_from_last(make_trainer(ScriptedRunner(useful), callbacks=[TrainedOn("tasks", "a", 4)]))
    with pytest.raises(TrainingError, match="with another agent to start from; resume it"):
        train_from_last(make_trainer(ScriptedRunner(useful), callbacks=[TrainedOn("tasks", "b", 4)]))


def test_a_run_that_an_alarm_stopped_takes_no_further_step(make_trainer: MakeTrainer) -> None:
    def wrong(task: Any, seed: int) -> Any:
        rng = random.Random(seed)
        return make_group(task, (0.0, 0.0), [random_row(rng, 300) for _ in range(2)])

    runner = ScriptedRunner(wrong)
    for _ in range(2):
        monitor = Monitor(MonitorSettings(stop_on=("all_wrong",)))
        trainer = make_trainer(runner, max_steps=8, max_resampling=1, monitor=monitor)
        train_from_last(trainer, monitor.is_stopped_by)
        assert trainer.state.global_step == len(runner.asked) == 5


def test_a_resumed_run_counts_the_tokens_of_all_its_steps(tiny_tokenizer: Any, tmp_path: Path) -> None:
    def tokens_at_end(folder: Path, *stops: int | None) -> float:
        for stop in stops:
            callbacks = [MetricsLog(folder / "metrics.jsonl"), Steps(stop_after=stop)]
            train(tiny_tokenizer, folder / "trainer", callbacks=callbacks, max_steps=20, save_steps=5)
        return max(entry.get("num_tokens", 0) for entry in read_metrics(folder / "metrics.jsonl"))

    whole = tokens_at_end(tmp_path / "whole", None)
    assert tokens_at_end(tmp_path / "cut", 10, None) == whole > 0
