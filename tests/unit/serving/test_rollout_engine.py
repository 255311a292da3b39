from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("trl")

import torch
from fakes.vllm_server import FakeVLLMServer

from masksearch_agent.config.serving import RolloutEngineSettings, ServingSettings
from masksearch_agent.errors import TrainingError
from masksearch_agent.models.chat_format import ChatFormat
from masksearch_agent.models.local import LocalChatModel, load_checkpoint
from masksearch_agent.models.vllm import VLLMChatModel
from masksearch_agent.models.vllm_client import VLLMClient
from masksearch_agent.serving import rollout_engine
from masksearch_agent.serving.rollout_engine import open_rollout_engine
from masksearch_agent.trainers.weight_sync import CopiedWeights, DiskSync, SharedWeights


def settings_of(**rollouts: Any) -> tuple[RolloutEngineSettings, ServingSettings]:
    return RolloutEngineSettings(**rollouts), ServingSettings()


def test_local_rollouts_are_sampled_from_the_trained_model(
    tiny_model: Any, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    with open_rollout_engine(*settings_of(), tiny_model, tiny_tokenizer, "tiny", tmp_path) as (sampler, sync):
        assert isinstance(sampler, LocalChatModel)
        assert sampler.model is tiny_model
        assert isinstance(sync, SharedWeights)


def test_a_sampler_that_is_ahead_shares_the_cores_with_the_trainer_and_not_its_weights(
    tiny_model: Any, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    counted: list[int] = []
    try:
        with open_rollout_engine(
            *settings_of(), tiny_model, tiny_tokenizer, "tiny", tmp_path, is_ahead=True
        ) as (sampler, sync):
            assert isinstance(sync, CopiedWeights)
            assert sampler.model is not tiny_model
            thread = threading.Thread(target=lambda: counted.append(torch.get_num_threads()))
            thread.start()
            thread.join()
            counted.append(torch.get_num_threads())
        counted.append(torch.get_num_threads())
    finally:
        torch.set_num_threads(before)
    assert counted == [2, 2, 4]


def test_a_server_is_started_from_the_model_and_closed_with_the_run(
    tiny_model: Any, tiny_tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = FakeVLLMServer(tiny_model, tiny_tokenizer, ChatFormat(tiny_tokenizer).end_of_turn_id)
    events: list[str] = []

    class Handle:
        base_url = "http://vllm"

        def __enter__(self) -> Handle:
            return self

        def __exit__(self, *_: object) -> None:
            events.append("closed")

    def start(directory: Path, name: str, settings: Any, log_path: Path, is_refreshable: bool) -> Handle:
        served, _ = load_checkpoint(directory)
        assert served.num_parameters() > tiny_model.num_parameters()  # its head is written out
        assert (name, log_path, is_refreshable) == ("tiny#1", tmp_path / "vllm.log", True)
        events.append("started")
        return Handle()

    monkeypatch.setattr(rollout_engine, "start_server", start)
    monkeypatch.setattr(
        rollout_engine, "VLLMChatModel", lambda **settings: VLLMChatModel(transport=server, **settings)
    )
    settings = settings_of(rollout_engine="vllm", max_concurrent_requests=7)
    with open_rollout_engine(*settings, tiny_model, tiny_tokenizer, "tiny#1", tmp_path) as (sampler, sync):
        assert (sampler.model_version, sampler.client.max_concurrent_requests) == ("tiny#1", 7)
        assert isinstance(sync, DiskSync)
        assert events == ["started"]
    assert events == ["started", "closed"]
    server.engine.close()


def test_a_server_that_runs_already_is_checked(
    tiny_model: Any, tiny_tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = FakeVLLMServer(tiny_model, tiny_tokenizer, ChatFormat(tiny_tokenizer).end_of_turn_id)
    monkeypatch.setattr(
        rollout_engine, "VLLMChatModel", lambda **settings: VLLMChatModel(transport=server, **settings)
    )
    info = {"model_config": {"logprobs_mode": "processed_logprobs"}}
    monkeypatch.setattr(VLLMClient, "server_info", lambda self: info)
    settings = settings_of(rollout_engine="vllm", base_url="http://vllm")
    with (
        pytest.raises(TrainingError, match="gives processed_logprobs"),
        open_rollout_engine(*settings, tiny_model, tiny_tokenizer, "tiny#1", tmp_path),
    ):
        pass


@pytest.mark.parametrize(
    ("weight_sync", "processes", "message"),
    [("nccl", "1", r"docs/gpu\.md"), ("disk", "2", "several processes cannot each start a server")],
)
def test_what_needs_a_server_that_runs_already_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weight_sync: str, processes: str, message: str
) -> None:
    monkeypatch.setenv("WORLD_SIZE", processes)
    settings = settings_of(rollout_engine="vllm", weight_sync=weight_sync)
    with (
        pytest.raises(TrainingError, match=message),
        open_rollout_engine(*settings, SimpleNamespace(), SimpleNamespace(), "tiny", tmp_path),
    ):
        pass
