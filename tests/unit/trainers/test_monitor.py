from __future__ import annotations

import logging
import math
import random
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

import numpy as np  # noqa: E402
from fakes.tiny_models import make_test_model  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from transformers import TrainerCallback  # noqa: E402
from unit.trainers.conftest import MakeTrainer, ScriptedRunner, make_group  # noqa: E402
from unit.trainers.test_dapo import random_row, useful  # noqa: E402
from unit.trainers.test_sft import TRAJECTORIES  # noqa: E402

from masksearch_agent.config.trainers import MonitorSettings, OptimizerSettings, SFTSettings  # noqa: E402
from masksearch_agent.errors import TrainingError  # noqa: E402
from masksearch_agent.trainers.callbacks import MetricsLog, read_metrics  # noqa: E402
from masksearch_agent.trainers.checkpoints import find_last_checkpoint  # noqa: E402
from masksearch_agent.trainers.monitor import Monitor  # noqa: E402
from masksearch_agent.trainers.sft import train_sft  # noqa: E402

WATCHED = MonitorSettings(every_steps=2, patience=2)
ADAMW = OptimizerSettings(learning_rate=1e-2, schedule="constant")


class ScriptedExam:
    """Gives scores by step, and draws random numbers as a careless exam would."""

    def __init__(self, scores: Mapping[int, float]) -> None:
        self.scores = scores
        self.asked: list[int] = []
        self.weights: dict[int, Any] = {}

    def __call__(self, trainer: Any) -> dict[str, float]:
        step = trainer.state.global_step
        self.asked.append(step)
        self.weights[step] = weights_of(trainer.model)
        torch.manual_seed(step)
        random.seed(step)
        np.random.seed(step)
        return {"exam/recall": self.scores[step]}


class DiesAfter(TrainerCallback):  # type: ignore[misc]
    """Ends the process, as far as a test can, in the step after one that was saved or not."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            raise KeyboardInterrupt


def weights_of(model: Any) -> dict[str, Any]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def assert_same_weights(one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    assert one.keys() == other.keys()
    different = [name for name in one if not torch.equal(one[name], other[name])]
    assert different == []


def train(
    tokenizer: Any, folder: Path, watching: Monitor | None, callbacks: Any = (), **changes: Any
) -> dict[str, Any]:
    """Train for at most 12 steps, with dropout, and return the weights."""
    model = make_test_model(tokenizer)
    model.config.attention_dropout = 0.1
    monitoring = watching.settings if watching is not None else None
    settings = SFTSettings(
        **{"batch_size": 2, "max_steps": 12, "save_steps": 100, "optimizer": ADAMW, "monitor": monitoring}
        | changes
    )
    log = MetricsLog(folder / "metrics.jsonl")
    trained = train_sft(
        model, tokenizer, TRAJECTORIES, settings, folder / "trainer", [log, *callbacks], watching
    )
    return weights_of(trained)


def scores(*values: float) -> dict[int, float]:
    return {2 * at: value for at, value in enumerate(values)}


def test_a_run_that_gets_better_is_the_run_that_nobody_watched(tiny_tokenizer: Any, tmp_path: Path) -> None:
    exam = ScriptedExam(scores(0.1, 0.2, 0.3, 0.25, 0.4, 0.5, 0.6))
    monitor = Monitor(WATCHED, exam)
    watched = train(tiny_tokenizer, tmp_path / "watched", monitor)
    alone = train(tiny_tokenizer, tmp_path / "alone", None)
    assert_same_weights(watched, alone)
    assert exam.asked == [0, 2, 4, 6, 8, 10, 12]
    assert (monitor.kept_step, monitor.notes) == (12, ())
    logs = [
        [entry for entry in read_metrics(tmp_path / run / "metrics.jsonl") if "exam/recall" not in entry]
        for run in ("watched", "alone")
    ]
    assert [entry["step"] for entry in logs[0]] == [10, 12]
    names = ("loss", "grad_norm", "learning_rate", "num_tokens", "entropy", "mean_token_accuracy")
    for one, other in zip(*logs, strict=True):
        assert {name: one.get(name) for name in names} == {name: other.get(name) for name in names}


@pytest.mark.parametrize("lora_rank", [0, 4])
def test_a_run_whose_exam_falls_stops_and_goes_back_to_its_best_weights(
    tiny_tokenizer: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, lora_rank: int
) -> None:
    exam = ScriptedExam(scores(0.1, 0.3, 0.5, 0.2, 0.1, 0.1))
    monitor = Monitor(WATCHED, exam)
    with caplog.at_level(logging.WARNING, logger="masksearch_agent"):
        trained = train(tiny_tokenizer, tmp_path, monitor, lora_rank=lora_rank)
    assert exam.asked == [0, 2, 4, 6, 8]
    told = "step 8: exam recall is 0.100, more than 0.05 below its best (0.500 at step 4) in 2 exams in a row"
    assert f"{told}; training stops" in caplog.text
    assert monitor.notes == (
        told,
        "step 8: stopped there, and kept the weights of step 4 (exam recall 0.500, last 0.100)",
    )
    assert monitor.kept_step == 4
    if lora_rank:
        base = make_test_model(tiny_tokenizer)
        from peft import PeftModel

        best = PeftModel.from_pretrained(base, str(tmp_path / "trainer" / "checkpoint-4")).merge_and_unload()
        assert_same_weights(trained, weights_of(best))
    else:
        assert_same_weights(trained, exam.weights[4])
        saved = load_file(tmp_path / "trainer" / "checkpoint-4" / "model.safetensors")
        assert_same_weights({name: saved[name] for name in saved if name in trained}, trained)


def test_the_best_weights_are_kept_of_a_run_that_did_not_fall_for_long(
    tiny_tokenizer: Any, tmp_path: Path
) -> None:
    exam = ScriptedExam(scores(0.1, 0.3, 0.2, 0.6, 0.58, 0.2, 0.58))
    monitor = Monitor(WATCHED, exam)
    assert_same_weights(train(tiny_tokenizer, tmp_path, monitor), exam.weights[6])
    [note] = monitor.notes
    assert (
        note == "step 12: trained to its end, and kept the weights of step 6 (exam recall 0.600, last 0.580)"
    )
    kept = sorted(folder.name for folder in (tmp_path / "trainer").glob("checkpoint-*"))
    assert kept == ["checkpoint-12", "checkpoint-6"]


def test_the_last_weights_are_kept_where_that_is_asked_for(tiny_tokenizer: Any, tmp_path: Path) -> None:
    exam = ScriptedExam(scores(0.1, 0.3, 0.2, 0.6, 0.58, 0.2, 0.58))
    monitor = Monitor(WATCHED.model_copy(update={"keep_best": False}), exam)
    assert_same_weights(train(tiny_tokenizer, tmp_path, monitor), exam.weights[12])
    assert (monitor.kept_step, monitor.notes) == (12, ())


def test_where_training_only_harms_the_monitor_says_that_the_first_weights_are_the_best(
    tiny_tokenizer: Any, tmp_path: Path
) -> None:
    monitor = Monitor(WATCHED, ScriptedExam(scores(0.5, 0.3, 0.2)))
    train(tiny_tokenizer, tmp_path, monitor)
    assert monitor.kept_step == 0
    assert "kept the weights that training began with" in monitor.notes[-1]


@pytest.mark.parametrize("dies_at", [3, 7, 8])
def test_a_run_that_was_killed_comes_to_the_same_end(
    tiny_tokenizer: Any, tmp_path: Path, dies_at: int
) -> None:
    course = scores(0.1, 0.3, 0.5, 0.2, 0.6, 0.3, 0.2)
    limits = {"save_steps": 3}
    straight = Monitor(WATCHED, ScriptedExam(course))
    whole = train(tiny_tokenizer, tmp_path / "whole", straight, **limits)
    assert straight.kept_step == 8
    with pytest.raises(KeyboardInterrupt):
        train(
            tiny_tokenizer,
            tmp_path / "cut",
            Monitor(WATCHED, ScriptedExam(course)),
            [DiesAfter(dies_at)],
            **limits,
        )
    exam = ScriptedExam(course)
    resumed = Monitor(WATCHED, exam)
    assert_same_weights(train(tiny_tokenizer, tmp_path / "cut", resumed, **limits), whole)
    assert 0 not in exam.asked
    assert (resumed.notes, resumed.kept_step) == (straight.notes, straight.kept_step)
    asked = [
        [(entry["step"], entry["exam/recall"]) for entry in read_metrics(file) if "exam/recall" in entry]
        for file in (tmp_path / "whole" / "metrics.jsonl", tmp_path / "cut" / "metrics.jsonl")
    ]
    assert asked[0] == asked[1] == list(course.items())


@pytest.mark.parametrize("course", [(0.1, 0.5, 0.2, 0.2), (0.1, 0.3, 0.6, 0.5, 0.6, 0.2, 0.58)])
def test_a_run_that_was_done_goes_back_to_the_same_weights_when_it_is_started_again(
    tiny_tokenizer: Any, tmp_path: Path, course: tuple[float, ...]
) -> None:
    """Killed between the end of training and that of its stage, after a stop and after the last step."""
    first = Monitor(WATCHED, ScriptedExam(scores(*course)))
    trained = train(tiny_tokenizer, tmp_path, first)
    exam = ScriptedExam({})
    again = Monitor(WATCHED, exam)
    assert_same_weights(train(tiny_tokenizer, tmp_path, again), trained)
    assert (exam.asked, again.kept_step) == ([], first.kept_step)


def test_a_run_whose_best_checkpoint_is_gone_says_so(tiny_tokenizer: Any, tmp_path: Path) -> None:
    course = scores(0.1, 0.5, 0.4, 0.5, 0.47, 0.47)
    with pytest.raises(KeyboardInterrupt):
        train(tiny_tokenizer, tmp_path, Monitor(WATCHED, ScriptedExam(course)), [DiesAfter(9)], save_steps=8)
    (tmp_path / "trainer" / "checkpoint-6").rename(tmp_path / "elsewhere")
    with pytest.raises(TrainingError, match="the checkpoint of step 6, the best in the exam, is not at"):
        train(tiny_tokenizer, tmp_path, Monitor(WATCHED, ScriptedExam(course)))


def test_an_exam_without_settings_is_not_asked(tiny_tokenizer: Any, tmp_path: Path) -> None:
    exam = ScriptedExam({})
    train(tiny_tokenizer, tmp_path, Monitor(None, exam), monitor=None, max_steps=2)
    assert exam.asked == []


# --- DAPO ----------------------------------------------------------------------------------------------------


def test_dapo_keeps_its_best_weights_and_asks_where_it_can_be_resumed(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    exam = ScriptedExam({0: 0.1, 4: 0.5, 8: 0.3})
    monitor = Monitor(MonitorSettings(every_steps=3), exam, whole_steps=2)
    trainer = make_trainer(
        ScriptedRunner(useful), max_steps=8, updates_per_rollout=2, row_batch_size=1, monitor=monitor
    )
    trainer.train()
    assert exam.asked == [0, 4, 8]
    assert_same_weights(weights_of(trainer.model), exam.weights[4])
    entries = [entry for entry in trainer.state.log_history if "exam/recall" in entry]
    assert not any("rewards/total" in entry for entry in entries)


def test_dapo_that_gets_better_is_the_run_that_nobody_watched(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    exam = ScriptedExam(scores(0.1, 0.2, 0.3))
    runs = {}
    for name, monitor in {"watched": Monitor(WATCHED, exam), "alone": None}.items():
        trainer = make_trainer(ScriptedRunner(useful), output_dir=tmp_path / name, monitor=monitor)
        trainer.train()
        log = [entry for entry in trainer.state.log_history if "loss" in entry]
        runs[name] = (weights_of(trainer.model), [(e["step"], e["loss"], e["rewards/total"]) for e in log])
    assert_same_weights(runs["watched"][0], runs["alone"][0])
    assert runs["watched"][1] == runs["alone"][1]


def test_dapo_goes_on_with_an_exam_where_it_was_stopped(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    course = scores(0.1, 0.5, 0.3, 0.48)
    weights = {}
    for run, deaths in {"whole": [None], "cut": [5, None]}.items():
        for death in deaths:
            folder = tmp_path / run
            trainer = make_trainer(
                ScriptedRunner(useful), max_steps=6, save_steps=4, output_dir=folder,
                monitor=(monitor := Monitor(WATCHED, ScriptedExam(course))),
                callbacks=[DiesAfter(death)] if death else [],
            )  # fmt: skip
            if death:
                with pytest.raises(KeyboardInterrupt):
                    trainer.train()
            else:
                trainer.train(resume_from_checkpoint=find_last_checkpoint(folder))
        assert monitor.kept_step == 2
        weights[run] = weights_of(trainer.model)
    assert_same_weights(weights["whole"], weights["cut"])


def test_a_loss_that_is_no_number_stops_a_run_that_has_nothing_to_go_back_to(
    make_trainer: MakeTrainer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def poison(trainer: Any) -> None:
        with torch.no_grad():
            trainer.model.get_input_embeddings().weight[5:].fill_(math.nan)

    trainer = make_trainer(ScriptedRunner(useful), monitor=Monitor(MonitorSettings()))
    poison(trainer)
    with pytest.raises(
        TrainingError, match=r"step 1: (loss|grad_norm) is nan, and there is nothing to go back to"
    ):
        trainer.train()
    unwatched = make_trainer(ScriptedRunner(useful), output_dir=tmp_path / "unwatched")
    poison(unwatched)
    with caplog.at_level(logging.WARNING, logger="masksearch_agent"):
        unwatched.train()
    assert unwatched.state.global_step == 4
    assert "is nan" in caplog.text


@pytest.mark.parametrize("stop_on", [("all_wrong",), ()])
def test_rollouts_that_are_all_wrong_are_told_and_stop_where_that_is_asked_for(
    make_trainer: MakeTrainer, caplog: pytest.LogCaptureFixture, stop_on: tuple[str, ...]
) -> None:
    def wrong(task: Any, seed: int) -> Any:
        rng = random.Random(seed)
        return make_group(task, (0.0, 0.0), [random_row(rng, 300) for _ in range(2)])

    monitor = Monitor(MonitorSettings(stop_on=stop_on))
    trainer = make_trainer(ScriptedRunner(wrong), max_steps=8, max_resampling=1, monitor=monitor)
    with caplog.at_level(logging.WARNING, logger="masksearch_agent"):
        trainer.train()
    assert (
        "step 5: not one rollout was right at all in 5 steps in a row (2 groups in the last)" in caplog.text
    )
    assert trainer.state.global_step == (5 if stop_on else 8)
    assert len(monitor.notes) == 1


def test_an_exam_whose_tasks_failed_is_told_of() -> None:
    monitor = Monitor()
    log = [
        {"step": 0, "exam/recall": 0.5, "exam/failed": 0.0},
        {"step": 4, "exam/recall": 0.1, "exam/failed": 3.0},
    ]
    arguments = SimpleNamespace(load_best_model_at_end=False)
    watched: Any = SimpleNamespace(state=SimpleNamespace(log_history=log, global_step=4), args=arguments)
    monitor.attach(watched)
    assert monitor.notes == ("step 4: 3 tasks of the exam failed and count as wrong",)
