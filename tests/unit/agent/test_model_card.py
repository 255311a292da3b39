"""A bundle on the model hub: what is sent, and what its card says."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

pytest.importorskip("huggingface_hub")

from masksearch_agent.agent.bundle import BUNDLE_FILE, BundleInfo
from masksearch_agent.agent.model_card import model_card, push_bundle
from masksearch_agent.agent.prompts import COMPACT_PROMPTS
from masksearch_agent.agent.protocol import PROTOCOL_VERSION
from masksearch_agent.config.agent import AgentSettings
from masksearch_agent.errors import BundleError

SCORE = {"recall": 0.5, "em": 0.25, "n": 40, "ci95": (0.4, 0.6), "em_ci95": (0.1, 0.4)}
PROVENANCE = {
    "base_model": "HuggingFaceTB/SmolLM2-135M",
    "versions": {"torch": "2.13.0"},
    "stages": [{"stage": "ramp_sft", "settings": {"max_steps": 150, "lora_rank": 32, "seed": 3}}],
    "choice": {
        "chosen": "SFT",
        "why": "the best recall on 40 validation questions",
        "scores": {"SFT": SCORE},
    },
}


def info(**provenance: Any) -> BundleInfo:
    return BundleInfo(
        protocol_version=PROTOCOL_VERSION,
        prompts=COMPACT_PROMPTS,
        agent=AgentSettings(),
        model_version="run/ramp_sft#1",
        provenance=provenance,
    )


class Hub:
    """Keeps what it is sent."""

    def __init__(self) -> None:
        self.sent: dict[str, Any] = {}

    def create_repo(self, repo_id: str, **options: Any) -> None:
        self.sent["repo"] = (repo_id, options)

    def upload_folder(self, repo_id: str, folder_path: Path, ignore_patterns: list[str]) -> None:
        self.sent["folder"] = (folder_path, ignore_patterns)

    def upload_file(self, repo_id: str, path_or_fileobj: Path, path_in_repo: str) -> Any:
        self.sent[path_in_repo] = Path(path_or_fileobj).read_text(encoding="utf-8")
        return SimpleNamespace(commit_url=f"https://hub/{repo_id}/commit/1")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    made = Hub()
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: made)
    return made


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    (tmp_path / BUNDLE_FILE).write_text(info(**PROVENANCE).model_dump_json(), encoding="utf-8")
    return tmp_path


def test_a_card_says_what_the_bundle_knows():
    card = model_card(info(**PROVENANCE), "ada/harrow")
    _, head, body = card.split("---\n", 2)
    assert yaml.safe_load(head) == {
        "library_name": "masksearch-agent",
        "tags": ["search-agent", "langgraph", "masksearch"],
        "base_model": "HuggingFaceTB/SmolLM2-135M",
    }
    assert 'MaskSearchAgent.from_pretrained("ada/harrow"' in body
    assert "| ramp_sft | 150 | 32 | 3 |" in body
    assert "| SFT | 40 | 0.500 (0.400 to 0.600) | 0.250 (0.100 to 0.400) |" in body


def test_a_folder_of_this_machine_is_no_base_model_of_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "models" / "small").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for base in ("models/small", "runs/models/small", "tiny"):
        assert "base_model" not in yaml.safe_load(model_card(info(base_model=base), "a/b").split("---\n")[1])


def test_a_bundle_without_provenance_has_a_card_too():
    card = model_card(info(), "ada/harrow")
    assert "Version `run/ramp_sft#1`" in card
    assert "## Scores" not in card


def test_a_bundle_is_sent_with_its_card_and_private(hub: Hub, bundle: Path):
    assert push_bundle(bundle, "ada/harrow") == "https://hub/ada/harrow/commit/1"
    assert hub.sent["repo"] == ("ada/harrow", {"private": True, "exist_ok": True})
    assert hub.sent["folder"] == (bundle, ["*/*", "*.partial", "metrics*.jsonl", "README.md"])
    assert hub.sent["README.md"] == model_card(info(**PROVENANCE), "ada/harrow")


def test_what_training_leaves_in_the_folder_and_an_index_there_stay_here(hub: Hub, bundle: Path):
    from huggingface_hub.utils import filter_repo_objects

    push_bundle(bundle, "ada/harrow")
    needed = [BUNDLE_FILE, "config.json", "model-00001-of-00002.safetensors", "tokenizer.json"]
    left = [
        *(
            "trainer/checkpoint-2/optimizer.pt",
            "trainer/README.md",
            "base/model.safetensors",
            "metrics.jsonl",
        ),
        *("checkpoint-3/model.safetensors", "runs/events.1", "index/build-1/passages.jsonl"),
    ]
    assert list(filter_repo_objects([*needed, *left], ignore_patterns=hub.sent["folder"][1])) == needed


def test_what_is_no_bundle_is_not_sent(hub: Hub, tmp_path: Path):
    with pytest.raises(BundleError, match=r"holds no masksearch\.json"):
        push_bundle(tmp_path, "ada/harrow")
    assert hub.sent == {}


def test_a_hub_that_refuses_is_said_in_words(hub: Hub, bundle: Path, monkeypatch: pytest.MonkeyPatch):
    import httpx
    from huggingface_hub.errors import HfHubHTTPError

    def refuse(*_: Any, **__: Any) -> None:
        response = httpx.Response(403, request=httpx.Request("POST", "https://hub"))
        raise HfHubHTTPError("403 Forbidden", response=response)

    monkeypatch.setattr(hub, "create_repo", refuse)
    with pytest.raises(BundleError, match=r"refused 'ada/harrow': .*hf auth login"):
        push_bundle(bundle, "ada/harrow")


def test_a_name_that_the_hub_cannot_have_is_said_in_words(bundle: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(BundleError, match=r"refused 'ada/har row': .*name it `owner/name`"):
        push_bundle(bundle, "ada/har row")


def test_a_hub_that_is_not_reached_is_said_in_words(bundle: Path, monkeypatch: pytest.MonkeyPatch):
    import huggingface_hub

    nowhere = huggingface_hub.HfApi(endpoint="http://127.0.0.1:9", token="hf_none")
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: nowhere)
    with pytest.raises(BundleError, match=r"the model hub is not reached: .*push again"):
        push_bundle(bundle, "ada/harrow")
