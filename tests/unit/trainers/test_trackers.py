"""What `report_to` names is told what `metrics.jsonl` is, and changes nothing of a run."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from fakes.tiny_models import make_test_model  # noqa: E402
from unit.trainers.conftest import MakeTrainer, ScriptedRunner  # noqa: E402
from unit.trainers.test_dapo import useful  # noqa: E402
from unit.trainers.test_monitor import (  # noqa: E402
    ADAMW,
    WATCHED,
    ScriptedExam,
    assert_same_weights,
    weights_of,
)
from unit.trainers.test_sft import TRAJECTORIES  # noqa: E402

from masksearch_agent.config.recipe import Recipe, Tracker, load_recipe  # noqa: E402
from masksearch_agent.config.trainers import SFTSettings  # noqa: E402
from masksearch_agent.errors import ConfigError, MissingExtraError  # noqa: E402
from masksearch_agent.trainers.callbacks import MetricsLog, read_metrics  # noqa: E402
from masksearch_agent.trainers.monitor import Monitor  # noqa: E402
from masksearch_agent.trainers.sft import train_sft  # noqa: E402
from masksearch_agent.trainers.trackers import require_trackers, tracked, tracker_arguments  # noqa: E402

EXAM = ("recall", "best_recall", "well_formed", "answer_logprob", "entropy", "answer_tokens")
_WANDB = """
from types import SimpleNamespace

run, runs, config = None, [], {}


class _Config(dict):
    def update(self, values, allow_val_change=False):
        super().update(values)


def init(project, name):
    global run, config
    print("see it at ...")
    config = _Config()
    runs.append({"project": project, "name": name, "config": config, "log": [], "ended": None})
    run = SimpleNamespace(_label=lambda code: None, summary={}, id="1", name=name, url="")
    return run


def log(metrics):
    runs[-1]["log"].append(metrics)


def finish(exit_code=0):
    global run
    runs[-1]["ended"], run = exit_code, None
"""


class FullExam(ScriptedExam):
    """Says everything that an exam says."""

    def __call__(self, trainer: Any) -> dict[str, float]:
        step = trainer.state.global_step
        told = {f"exam/{name}": step + place / 8 for place, name in enumerate(EXAM[2:])}
        return {**super().__call__(trainer), **told}


def train(
    tokenizer: Any, folder: Path, *report_to: Tracker, exam: ScriptedExam | None = None
) -> dict[str, Any]:
    settings = SFTSettings(batch_size=2, max_steps=4, optimizer=ADAMW, monitor=WATCHED)
    log, monitor = MetricsLog(folder / "metrics.jsonl"), Monitor(WATCHED, exam)
    model = make_test_model(tokenizer)
    trained = train_sft(
        model, tokenizer, TRAJECTORIES, settings, folder / "trainer", [log], monitor, report_to=report_to
    )
    return weights_of(trained)


def told_to_tensorboard(folder: Path) -> dict[tuple[str, int], float]:
    """Return the values in a folder's only file of events, by metric and step."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    [file] = folder.rglob("events.out.tfevents.*")
    events = accumulator.EventAccumulator(str(file))
    events.Reload()
    tags = events.Tags()["scalars"]
    return {(tag, event.step): event.value for tag in tags for event in events.Scalars(tag)}


def assert_told_what_was_logged(folder: Path, metrics: Path) -> None:
    told, logged = told_to_tensorboard(folder), {}
    for entry in read_metrics(metrics):
        logged |= {(f"train/{name}", int(entry["step"])): entry[name] for name in entry.keys() - {"step"}}
    assert {(f"train/exam/{name}", step) for name in EXAM for step in (0, 2, 4)} <= told.keys()
    # Of 32 bits there.
    assert told == pytest.approx(logged, nan_ok=True)


def test_tensorboard_is_told_what_sft_logs_and_changes_nothing_of_it(
    tiny_tokenizer: Any, tmp_path: Path
) -> None:
    course = {0: 0.1, 2: 0.2, 4: 0.3}
    told = train(tiny_tokenizer, tmp_path / "told", "tensorboard", exam=FullExam(course))
    untold = train(tiny_tokenizer, tmp_path / "untold", exam=FullExam(course))
    assert_told_what_was_logged(tmp_path / "told", tmp_path / "told" / "metrics.jsonl")
    assert list((tmp_path / "untold").rglob("events.*")) == []
    assert_same_weights(told, untold)


def test_tensorboard_is_told_what_dapo_logs(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    trainer = make_trainer(
        ScriptedRunner(useful), monitor=Monitor(WATCHED, FullExam({0: 0.1, 2: 0.2, 4: 0.3})),
        callbacks=[MetricsLog(tmp_path / "metrics.jsonl")], report_to=("tensorboard",),
    )  # fmt: skip
    with tracked(("tensorboard",)):
        trainer.train()
    assert_told_what_was_logged(tmp_path, tmp_path / "metrics.jsonl")
    assert {("train/loss", 4), ("train/rewards/total", 4)} <= told_to_tensorboard(tmp_path).keys()


@pytest.fixture
def wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Put a package that notes what it is told in the place of wandb's."""
    for folder in ("wandb", "wandb/sdk", "wandb/sdk/lib"):
        (tmp_path / "packages" / folder).mkdir(parents=True)
        (tmp_path / "packages" / folder / "__init__.py").write_text("", encoding="utf-8")
    package = tmp_path / "packages" / "wandb"
    (package / "__init__.py").write_text(_WANDB, encoding="utf-8")
    (package / "sdk" / "lib" / "config_util.py").write_text("class ConfigError(Exception): ...\n")
    monkeypatch.syspath_prepend(tmp_path / "packages")
    real = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "wandb"}
    stand_in = importlib.import_module("wandb")
    # TRL looks for wandb once, when it is imported.
    monkeypatch.setattr("trl.trainer.base_trainer.wandb", stand_in, raising=False)
    yield stand_in
    for name in [name for name in sys.modules if name.partition(".")[0] == "wandb"]:
        del sys.modules[name]
    sys.modules.update(real)


def test_every_stage_is_a_run_of_its_own_at_wandb_and_tells_no_key(
    wandb: Any, tiny_tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    for name in ("OPENAI_API_KEY", "WANDB_API_KEY", "HF_TOKEN"):
        monkeypatch.setenv(name, "a-secret-key")
    for stage in ("ramp_sft", "qa_sft"):
        exam = FullExam({0: 0.1, 2: 0.2, 4: 0.3})
        train(tiny_tokenizer, tmp_path / "mine" / stage, "wandb", exam=exam)
    assert [(run["name"], run["ended"]) for run in wandb.runs] == [("mine/ramp_sft", 0), ("mine/qa_sft", 0)]
    for run in wandb.runs:
        steps = [entry["train/global_step"] for entry in run["log"] if "train/exam/recall" in entry]
        assert steps == [0, 2, 4]
    assert "a-secret-key" not in str(wandb.runs)
    assert capsys.readouterr().out == "", "standard output is for results"


def test_a_run_of_wandb_that_was_open_before_stays_open(wandb: Any) -> None:
    wandb.init("mine", "sweep")
    with tracked(("wandb",)):
        pass
    assert wandb.run is not None


def test_a_training_that_is_stopped_has_failed_at_wandb(wandb: Any) -> None:
    def stop() -> None:
        with tracked(("wandb",)):
            wandb.init("mine", "stage")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    assert [run["ended"] for run in wandb.runs] == [1]


@pytest.mark.parametrize("tracker", ["tensorboard", "trackio", "wandb"])
def test_a_tracker_that_is_not_installed_is_told_before_training(
    tiny_tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracker: Tracker
) -> None:
    monkeypatch.setitem(sys.modules, tracker, None)
    missing = rf"{tracker} is not installed; run `pip install 'masksearch-agent\[{tracker}\]'`"
    with pytest.raises(MissingExtraError, match=missing):
        train(tiny_tokenizer, tmp_path, tracker)
    with pytest.raises(MissingExtraError, match=missing):
        tracker_arguments((tracker,), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_named_wandb_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("wandb") is not None:
        pytest.skip("wandb is installed")
    (tmp_path / "wandb" / "run-1").mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingExtraError):
        require_trackers(["wandb"])


def test_a_recipe_names_one_tracker_or_several() -> None:
    assert Recipe().report_to == ()
    assert load_recipe(overrides=["report_to=wandb"]).report_to == ("wandb",)
    assert load_recipe(overrides=["report_to=[tensorboard, trackio]"]).report_to == ("tensorboard", "trackio")
    assert load_recipe(overrides=["report_to=[wandb, trackio, wandb]"]).report_to == ("wandb", "trackio")
    with pytest.raises(
        ConfigError, match=r"report_to\.0: Input should be 'tensorboard', 'trackio' or 'wandb'"
    ):
        load_recipe(overrides=["report_to=all"])
