"""DAPO on the device: the loss and five steps are the CPU's, and rollouts through the graph train as they do there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from fakes.overlap_backend import OverlapBackend  # noqa: E402
from fakes.passages import make_passages  # noqa: E402
from fakes.scripts import load_script  # noqa: E402
from fakes.tiny_models import LINES, make_test_model  # noqa: E402
from integration.test_dapo_rollouts import LIMITS, SETTINGS, TASKS, reward_of_variety  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

from masksearch_agent.agent.prompts import COMPACT_PROMPTS  # noqa: E402
from masksearch_agent.agent.runnable import MaskSearchAgent  # noqa: E402
from masksearch_agent.config.rewards import RewardSettings  # noqa: E402
from masksearch_agent.config.trainers import DAPOSettings  # noqa: E402
from masksearch_agent.models.local import LocalChatModel  # noqa: E402
from masksearch_agent.records import Sampling  # noqa: E402
from masksearch_agent.retrieval.search import Search  # noqa: E402
from masksearch_agent.rewards.mix import RewardMix  # noqa: E402
from masksearch_agent.trainers.dapo import DAPOConfig, DAPOTrainer  # noqa: E402
from masksearch_agent.trainers.loss import dapo_loss, importance_weights  # noqa: E402
from masksearch_agent.trainers.rollouts import RolloutRunner  # noqa: E402

TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture
def policy(tiny_tokenizer: Any) -> Iterator[LocalChatModel]:
    model = LocalChatModel(
        model=make_test_model(tiny_tokenizer), tokenizer=tiny_tokenizer, model_version="tiny"
    )
    yield model
    model.close()


def train(policy: LocalChatModel, folder: Path, resume: bool = False, **changes: Any) -> DAPOTrainer:
    """Train with rollouts through the real graph."""
    settings = DAPOSettings.model_validate({**SETTINGS.model_dump(), **changes})
    agent = MaskSearchAgent(policy, Search(OverlapBackend(make_passages(*LINES))), LIMITS, COMPACT_PROMPTS)
    reward = RewardMix(RewardSettings(), reward_of_variety)
    runner = RolloutRunner(agent, reward, Sampling(temperature=1.0), settings.group_size)
    config = DAPOConfig.from_settings(settings, folder)
    trainer = DAPOTrainer(policy.model, config, TASKS, runner, policy.tokenizer)
    trainer.train(resume_from_checkpoint=resume or None)
    return trainer


def logged(trainer: DAPOTrainer) -> list[dict[str, float]]:
    return [entry for entry in trainer.state.log_history if "loss" in entry]


def test_the_loss_and_its_gradient_are_the_cpu_s(device: str) -> None:
    draw = torch.Generator().manual_seed(0)
    shape = (16, 200)
    logprobs, old, sampled = (-3 * torch.rand(shape, generator=draw) for _ in range(3))
    mask = (torch.rand(shape, generator=draw) < 0.7).float()
    advantages = torch.randn(16, generator=draw)
    losses, gradients = [], []
    for where in ("cpu", device):
        moved = [one.detach().clone().to(where) for one in (logprobs, old, sampled, mask, advantages)]
        moved[0].requires_grad_()
        weights = importance_weights(moved[1], moved[2], moved[3], 3.0)
        loss = dapo_loss(moved[0], moved[1], moved[4], moved[3], 0.2, 0.28, weights=weights)
        loss.backward()
        losses.append(loss.item())
        gradients.append(moved[0].grad.cpu())
    assert losses[0] != 0
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-5, atol=1e-8)


@pytest.mark.slow
def test_five_steps_of_dapo_end_at_the_cpu_s_weights(
    device: str, tmp_path: Path, record_property: Any
) -> None:
    paths = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": paths}
    command = [sys.executable, str(TESTS / "gpu" / "five_steps.py"), str(tmp_path / "cpu")]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=300)
    load_script(TESTS / "gpu" / "five_steps.py").main(tmp_path / "here")
    there, here = (load_file(tmp_path / name / "weights.safetensors") for name in ("cpu", "here"))
    assert len(there["losses"]) == 5
    assert there["losses"].abs().min() > 0
    record_property("difference", max((here[name] - one).abs().max().item() for name, one in there.items()))
    for name, one in there.items():
        torch.testing.assert_close(here[name], one, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize(("bf16", "bound"), [(False, 1e-4), (True, 0.1)])
def test_the_trainer_computes_what_the_engine_recorded(
    device: str, policy: LocalChatModel, tmp_path: Path, record_property: Any, bf16: bool, bound: float
) -> None:
    steps = logged(train(policy, tmp_path, bf16=bf16))
    assert policy.model.device.type == device
    assert len(steps) == 2
    worst = max(entry["sampling/sampling_logp_difference/max"] for entry in steps)
    record_property("difference", worst)
    assert worst < bound
    assert all(entry["rollouts/failed"] == 0 for entry in steps)


def test_a_run_that_was_stopped_goes_on_to_the_same_weights(
    device: str, tiny_tokenizer: Any, tmp_path: Path, record_property: Any
) -> None:
    ends = []
    for name, resumed in (("whole", False), ("resumed", True)):
        torch.manual_seed(0)
        model = LocalChatModel(
            model=make_test_model(tiny_tokenizer), tokenizer=tiny_tokenizer, model_version="tiny"
        )
        if resumed:
            (tmp_path / name).mkdir()
            shutil.move(tmp_path / "whole" / "checkpoint-1", tmp_path / name / "checkpoint-1")
        trainer = train(model, tmp_path / name, resumed, save_steps=1, monitor={"every_steps": 100})
        assert trainer.state.global_step == 2
        ends.append({key: one.detach().cpu() for key, one in trainer.model.named_parameters()})
        model.close()
    worst = max((ends[1][key] - one).abs().max().item() for key, one in ends[0].items())
    record_property("difference", worst)
    # Which rows share a batch is a matter of moments, and rounding depends on it.
    assert worst < 5e-3


def test_adapters_train_and_the_weights_under_them_stay(
    device: str, policy: LocalChatModel, tmp_path: Path
) -> None:
    before = {name: one.detach().clone() for name, one in policy.model.named_parameters()}
    trainer = train(policy, tmp_path, lora_rank=4)
    after = dict(trainer.model.named_parameters())
    assert {one.device.type for one in after.values()} == {device}
    adapters = [one for name, one in after.items() if "lora_B" in name]
    assert adapters
    assert all(one.abs().max() > 0 for one in adapters)
    under = {
        name.removeprefix("base_model.model.").replace(".base_layer.", "."): one
        for name, one in after.items()
        if "lora_" not in name
    }
    assert under.keys() == before.keys()
    assert all(torch.equal(under[name].cpu(), one) for name, one in before.items())
    assert max(entry["sampling/sampling_logp_difference/max"] for entry in logged(trainer)) < 1e-4


def test_two_updates_share_a_batch_of_rollouts(device: str, policy: LocalChatModel, tmp_path: Path) -> None:
    steps = logged(train(policy, tmp_path, updates_per_rollout=2, max_steps=2))
    assert len(steps) == 2
    assert all(entry["grad_norm"] > 0 for entry in steps)
    assert policy.model_version == "tiny@0", "weights were brought to the sampler once, before both"
