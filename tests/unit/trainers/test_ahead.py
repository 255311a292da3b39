from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from transformers import TrainerCallback  # noqa: E402
from unit.trainers.conftest import TASKS, MakeTrainer, ScriptedRunner, make_group  # noqa: E402

from masksearch_agent.config.trainers import OptimizerSettings  # noqa: E402
from masksearch_agent.errors import TrainingError  # noqa: E402
from masksearch_agent.records import SearchTask, TrainingRow  # noqa: E402
from masksearch_agent.trainers.ahead import RolloutsAhead  # noqa: E402
from masksearch_agent.trainers.curriculum import Curriculum  # noqa: E402
from masksearch_agent.trainers.rollouts import Group  # noqa: E402
from masksearch_agent.trainers.weight_sync import SharedWeights, check_ahead  # noqa: E402

ROWS = [TrainingRow((4, 5, 6 + n), (False, True, True), (0.0, -1.0, -1.0), "t") for n in range(2)]
FAST = OptimizerSettings(learning_rate=1e-2, schedule="constant").model_dump()
WAIT_S = 60


def useful(task: SearchTask, seed: int) -> Group:
    return make_group(task, (0.0, 1.0), ROWS)


class NotedWeights:
    """Notes which weights it was given, as a sampler with a copy of its own would have them, once it rests."""

    def __init__(self, runner: ScriptedRunner) -> None:
        self.runner = runner

    def refresh(self, trainer: Any, step: int) -> None:
        trainer.ahead.rest()
        self.runner.agent.model.model_version = f"tiny@{step}"


class StopAfterTwo(TrainerCallback):  # type: ignore[misc]
    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_training_stop = state.global_step == 2


def make_ahead(work: Any, is_ahead: bool = True) -> tuple[RolloutsAhead, list[str], Curriculum]:
    """Return what notes the weights and batches that were asked for, over the test's tasks."""
    done: list[str] = []
    curriculum = Curriculum(TASKS, (), max_steps=4, seed=0)

    def sample(step: int) -> Any:
        curriculum.draw(2)
        work(step)
        done.append(f"sampled {step}")
        return step

    ahead = RolloutsAhead(curriculum, sample, lambda step: done.append(f"weights {step}"), is_ahead)
    return ahead, done, curriculum


def test_each_batch_but_the_first_is_sampled_with_the_weights_before() -> None:
    ahead, done, _ = make_ahead(lambda step: None)
    taken: list[Any] = []
    for step, following in ((0, 1), (1, 2), (2, None)):
        taken.append(ahead.take(step, following))
        ahead.rest()
    assert taken == [0, 1, 2]
    assert done == ["weights 0", "sampled 0", "sampled 1", "weights 1", "sampled 2", "weights 2"]


def test_rollouts_under_way_are_given_the_new_weights() -> None:
    are_new = threading.Event()
    ahead, done, _ = make_ahead(lambda step: step == 0 or are_new.wait(WAIT_S))
    ahead.take(0, 1)
    refresh = ahead.refresh

    def note(step: int) -> None:
        refresh(step)
        are_new.set()

    ahead.refresh = note
    assert ahead.take(1, None) == 1
    assert done == ["weights 0", "sampled 0", "weights 1", "sampled 1"]


def test_without_it_every_batch_is_sampled_with_its_own_weights() -> None:
    ahead, done, _ = make_ahead(lambda step: None, is_ahead=False)
    assert [ahead.take(step, step + 1) for step in range(2)] == [0, 1]
    assert done == ["weights 0", "sampled 0", "weights 1", "sampled 1"]


def test_the_trainer_goes_on_while_the_next_batch_is_sampled_and_its_state_is_that_before() -> None:
    gate = threading.Event()
    ahead, done, curriculum = make_ahead(lambda step: step == 0 or gate.wait(WAIT_S))
    ahead.take(0, 1)
    assert done == ["weights 0", "sampled 0"], "the second batch is still waiting"
    before = ahead.state()
    gate.set()
    ahead.rest()
    assert ahead.state() == before != curriculum.state()
    assert before["position"] == 2
    ahead.take(1, None)
    assert ahead.state() == curriculum.state()
    assert curriculum.position == 4


def test_what_fails_ahead_fails_where_it_is_asked_for() -> None:
    def work(step: int) -> None:
        if step == 1:
            raise TrainingError("gone")

    ahead, _, _ = make_ahead(work)
    assert ahead.take(0, 1) == 0
    ahead.rest()
    with pytest.raises(TrainingError, match="gone"):
        ahead.take(1, None)


def test_a_run_ahead_trains_on_the_same_tasks_with_weights_of_one_batch_before(
    make_trainer: MakeTrainer,
) -> None:
    straight, early = ScriptedRunner(useful), ScriptedRunner(useful)
    make_trainer(straight, weight_sync=NotedWeights(straight), optimizer=FAST).train()
    trainer = make_trainer(early, weight_sync=NotedWeights(early), optimizer=FAST, max_staleness=1)
    trainer.train()
    assert early.asked == straight.asked
    assert straight.versions == ["tiny@0", "tiny@1", "tiny@2", "tiny@3"]
    assert early.versions == ["tiny@0", "tiny@0", "tiny@1", "tiny@2"]
    assert trainer.state.global_step == 4


def test_a_resumed_run_samples_again_what_was_sampled_ahead(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    whole, first, second = (ScriptedRunner(useful) for _ in range(3))
    common: dict[str, Any] = {"optimizer": FAST, "save_steps": 2, "max_staleness": 1}
    make_trainer(whole, weight_sync=NotedWeights(whole), output_dir=tmp_path / "whole", **common).train()
    cut = tmp_path / "cut"
    stop = StopAfterTwo()
    stopped = make_trainer(first, callbacks=[stop], weight_sync=NotedWeights(first), output_dir=cut, **common)
    stopped.train()
    stopped.ahead.rest()
    assert first.asked == whole.asked[:3], "the third batch was sampled ahead"
    resumed = make_trainer(second, weight_sync=NotedWeights(second), output_dir=cut, **common)
    resumed.train(resume_from_checkpoint=True)
    assert second.asked == whole.asked[2:]
    assert second.versions == ["tiny@2", "tiny@2"]


def test_it_needs_weights_of_its_own_and_one_process() -> None:
    assert not check_ahead(0, SharedWeights(None), 4)
    with pytest.raises(TrainingError, match="the sampler shares the weights that are trained"):
        check_ahead(1, SharedWeights(None), 1)
    with pytest.raises(TrainingError, match="2 processes train; expected one"):
        check_ahead(1, NotedWeights(ScriptedRunner(useful)), 2)
    with pytest.raises(TrainingError, match="max_staleness is 2; expected 0 or 1"):
        check_ahead(2, NotedWeights(ScriptedRunner(useful)), 1)
