from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes.passages import ListBackend, make_passages
from fakes.tiny_models import make_test_model
from fakes.vllm_server import FakeVLLMServer

from masksearch_agent.agent.bundle import (
    BUNDLE_FILE,
    BundleInfo,
    open_bundle_search,
    read_bundle_info,
    save_bundle,
)
from masksearch_agent.agent.prompts import COMPACT_PROMPTS
from masksearch_agent.agent.protocol import PROTOCOL_VERSION
from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.config.agent import AgentSettings
from masksearch_agent.errors import BundleError, MaskSearchError
from masksearch_agent.models.vllm import VLLMChatModel

INFO = BundleInfo(
    protocol_version=PROTOCOL_VERSION,
    prompts=COMPACT_PROMPTS,
    agent=AgentSettings(max_searches=2, max_step_tokens=6, max_repairs=1),
    model_version="run-7",
)
SEARCH = ListBackend({"q": make_passages("a passage")})


@pytest.fixture
def bundle(tiny_model: Any, tiny_tokenizer: Any, tmp_path: Path) -> Path:
    save_bundle(tiny_model, tiny_tokenizer, INFO, tmp_path / "agent")
    return tmp_path / "agent"


def test_an_agent_is_restored_as_it_was_trained(bundle: Path, tiny_tokenizer: Any):
    agent = MaskSearchAgent.from_pretrained(bundle, SEARCH)
    assert agent.bundle is not None
    assert agent.bundle.model_copy(update={"model_version": "run-7"}) == INFO
    assert (agent.settings, agent.prompts) == (INFO.agent, COMPACT_PROMPTS)
    assert agent.model.tokenizer.chat_template == tiny_tokenizer.chat_template

    trajectory = agent.invoke("Who?").trajectory
    agent.model.close()
    assert trajectory is not None
    assert trajectory.producer == agent.bundle.model_version
    assert [len(turn.sampled_ids) for turn in trajectory.turns] == [6, 6]
    assert trajectory.turns[0].context[0].content == COMPACT_PROMPTS.question_system


def test_other_weights_have_another_version(
    bundle: Path, tiny_model: Any, tiny_tokenizer: Any, tmp_path: Path
):
    first = read_bundle_info(bundle)
    assert re.fullmatch("run-7#[0-9a-f]{8}", first.model_version)
    save_bundle(tiny_model, tiny_tokenizer, first, tmp_path / "copy")
    assert read_bundle_info(tmp_path / "copy").model_version == first.model_version
    save_bundle(make_test_model(tiny_tokenizer, seed=3), tiny_tokenizer, first, tmp_path / "other")
    other = read_bundle_info(tmp_path / "other").model_version
    assert re.fullmatch("run-7#[0-9a-f]{8}", other)
    assert other != first.model_version


def test_weights_are_safetensors(bundle: Path):
    assert (bundle / "model.safetensors").is_file()
    assert not list(bundle.glob("*.bin"))


def test_a_bundle_that_was_not_finished_is_none(bundle: Path, tiny_model: Any, tiny_tokenizer: Any):
    class Unwritable:
        def save_pretrained(self, directory: Path) -> None:
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        save_bundle(tiny_model, Unwritable(), INFO, bundle)  # type: ignore[arg-type]
    with pytest.raises(BundleError, match=f"has no {BUNDLE_FILE}"):
        read_bundle_info(bundle)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda data: data | {"protocol_version": 99},
            rf"protocol version 99, .* speaks version {PROTOCOL_VERSION}",
        ),
        (lambda data: {}, "protocol version None"),
        (lambda data: [], "protocol version None"),
        (lambda data: data | {"colour": "red"}, "malformed: colour"),
        (lambda data: data | {"agent": {"max_searches": -1}}, r"malformed: agent\.max_searches"),
    ],
    ids=["other version", "empty", "no mapping", "unknown key", "wrong limit"],
)
def test_a_wrong_description_is_refused(bundle: Path, change: Callable[[Any], Any], message: str):
    file = bundle / BUNDLE_FILE
    file.write_text(json.dumps(change(json.loads(file.read_text()))))
    with pytest.raises(BundleError, match=message):
        read_bundle_info(bundle)


def test_a_torn_description_is_refused(bundle: Path):
    file = bundle / BUNDLE_FILE
    file.write_text(file.read_text()[:20])
    with pytest.raises(BundleError, match="cannot read"):
        read_bundle_info(bundle)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(BundleError, match="no agent bundle at"):
        read_bundle_info(tmp_path / "nowhere")


def test_a_bundle_without_an_index_asks_for_a_search(bundle: Path):
    with pytest.raises(BundleError, match="names no index; pass `search=`"):
        MaskSearchAgent.from_pretrained(bundle)


def test_a_lost_index_is_named(bundle: Path):
    with pytest.raises(MaskSearchError, match=r"index .*lost, which is not there; pass `search=`"):
        open_bundle_search(bundle, INFO.model_copy(update={"index": "lost"}))


@pytest.mark.parametrize("served", ["", "someone-s-model", "run-7#00000000"])
def test_an_agent_over_a_server_needs_the_bundle_s_own_weights(
    bundle: Path, tiny_model: Any, tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch, served: str
):
    version = read_bundle_info(bundle).model_version
    server = FakeVLLMServer(tiny_model, tiny_tokenizer, tiny_tokenizer.eos_token_id)
    server.name = served or version

    def connect(path: Path, base_url: str, **settings: Any) -> VLLMChatModel:
        return VLLMChatModel(tokenizer=tiny_tokenizer, base_url=base_url, transport=server, **settings)

    monkeypatch.setattr(VLLMChatModel, "from_pretrained", connect)
    if served.startswith("run-7#"):
        with pytest.raises(BundleError, match=f"http://vllm serves {served}, but the bundle .* is {version}"):
            MaskSearchAgent.from_pretrained(bundle, SEARCH, base_url="http://vllm")
        return
    # A name without a fingerprint is somebody else's choice.
    agent = MaskSearchAgent.from_pretrained(bundle, SEARCH, base_url="http://vllm")
    trajectory = agent.invoke("Who?").trajectory
    agent.close()
    server.engine.close()
    assert trajectory is not None
    assert [len(turn.sampled_ids) for turn in trajectory.turns] == [6, 6]
    assert {turn.model_version for turn in trajectory.turns} == {version}
