from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from fakes.tiny_models import make_test_model  # noqa: E402

from masksearch_agent.errors import TrainingError  # noqa: E402
from masksearch_agent.models.local import load_checkpoint  # noqa: E402
from masksearch_agent.models.served_weights import write_served_weights  # noqa: E402
from masksearch_agent.trainers.optimization import lora_config  # noqa: E402
from masksearch_agent.trainers.weight_sync import DiskSync, SharedWeights, check_server, merge_adapters  # noqa: E402


class FakeClient:
    """A server that reads checkpoints as vLLM does, and keeps what it read."""

    base_url = "http://vllm"

    def __init__(
        self, model: str = "served", device: str = "cpu", logprobs_mode: str = "raw_logprobs"
    ) -> None:
        config = {"model": model, "logprobs_mode": logprobs_mode}
        self.info = {"model_config": config, "device_config": {"device": device}}
        self.version = "default"
        self.loaded: list[dict[str, torch.Tensor]] = []
        self.folders: list[Path] = []
        self.is_stubborn = False
        self.written: list[str] | None = None
        """The folders that lay there when the sampler came to rest; None: it samples."""

    def server_info(self) -> dict[str, Any]:
        return self.info

    def reload_weights(self, directory: Path, version: str) -> None:
        assert self.written is not None, "somebody may be sampling"
        assert directory.name in self.written, "the sampler waited while the weights were written"
        model, _ = load_checkpoint(directory)
        self.loaded.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        self.folders.append(directory)
        self.version = self.version if self.is_stubborn else version

    def weight_version(self) -> str:
        return self.version


def chat_model_of(client: FakeClient, directory: Path | None = None) -> Any:
    @contextmanager
    def exchange() -> Iterator[None]:
        before = chat_model.model_version
        client.written = [folder.name for folder in directory.iterdir()] if directory else []
        yield
        client.written = None
        assert chat_model.model_version != before, "what is sampled now has a new name"

    chat_model = SimpleNamespace(
        client=client, base_url=client.base_url, model_version="tiny#12ab", exchange=exchange
    )
    return chat_model


def trainer_of(model: Any, tokenizer: Any) -> Any:
    from accelerate import Accelerator

    return SimpleNamespace(model=model, accelerator=Accelerator(cpu=True), processing_class=tokenizer)


def test_shared_weights_are_named_after_the_step() -> None:
    chat_model = SimpleNamespace(model_version="tiny#12ab")
    sync = SharedWeights(chat_model)
    sync.refresh(None, 3)
    sync.refresh(None, 4)
    assert chat_model.model_version == "tiny#12ab@4"


def test_the_server_gets_each_step_s_weights_and_turns_its_version(
    tiny_tokenizer: Any, tmp_path: Path
) -> None:
    model = make_test_model(tiny_tokenizer)
    client = FakeClient()
    chat_model = chat_model_of(client, tmp_path)
    sync = DiskSync(chat_model, tmp_path)
    trainer = trainer_of(model, tiny_tokenizer)
    for step in (0, 1):
        sync.refresh(trainer, step)
        assert chat_model.model_version == f"tiny#12ab@{step}"
        with torch.no_grad():
            model.get_input_embeddings().weight.add_(1.0)
    first, second = client.loaded
    assert torch.equal(second["model.embed_tokens.weight"], first["model.embed_tokens.weight"] + 1.0)
    assert torch.equal(second["lm_head.weight"], first["lm_head.weight"] + 1.0)
    assert [folder.name for folder in client.folders] == ["step-0", "step-1"]
    assert [folder.name for folder in tmp_path.iterdir()] == ["step-1"]


def test_a_server_with_other_weights_stops_the_run(tiny_tokenizer: Any, tmp_path: Path) -> None:
    client = FakeClient()
    client.is_stubborn = True
    sync = DiskSync(chat_model_of(client, tmp_path), tmp_path)
    with pytest.raises(TrainingError, match="has the weights 'default' instead of 'tiny#12ab@1'"):
        sync.refresh(trainer_of(make_test_model(tiny_tokenizer), tiny_tokenizer), 1)


def test_a_tied_head_is_written_out(tiny_tokenizer: Any, tmp_path: Path) -> None:
    model = make_test_model(tiny_tokenizer)
    assert model.config.tie_word_embeddings
    write_served_weights(model, model.state_dict(), tiny_tokenizer, tmp_path)
    served, _ = load_checkpoint(tmp_path)
    assert not served.config.tie_word_embeddings
    assert model.config.tie_word_embeddings
    ids = torch.tensor([[1, 2, 3]])
    assert torch.equal(served(ids).logits, model(ids).logits)


def test_adapters_are_merged_without_touching_the_model(tiny_tokenizer: Any, tmp_path: Path) -> None:
    from peft import get_peft_model

    torch.manual_seed(0)
    model = get_peft_model(make_test_model(tiny_tokenizer), lora_config(4))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    ids = torch.tensor([[1, 2, 3, 4]])
    expected = model(ids).logits
    client = FakeClient()
    DiskSync(chat_model_of(client, tmp_path), tmp_path).refresh(trainer_of(model, tiny_tokenizer), 0)
    plain = make_test_model(tiny_tokenizer)
    plain.load_state_dict(client.loaded[0], strict=False)
    assert (plain(ids).logits - expected).abs().max() < 1e-3
    assert torch.equal(model(ids).logits, expected)
    merged = merge_adapters(model, model.state_dict())
    assert merged.keys() == plain.state_dict().keys()


def test_a_server_with_scaled_probabilities_is_refused() -> None:
    with pytest.raises(TrainingError, match="--logprobs-mode raw_logprobs"):
        check_server(chat_model_of(FakeClient(logprobs_mode="processed_logprobs")))


@pytest.mark.parametrize(("device", "is_tied"), [("cpu", False), ("cuda", True)])
def test_a_server_that_renews_its_head_is_taken(tmp_path: Path, device: str, is_tied: bool) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"tie_word_embeddings": is_tied}))
    check_server(chat_model_of(FakeClient(str(tmp_path), device)))


def test_a_cpu_server_with_a_tied_head_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"tie_word_embeddings": True}))
    with pytest.raises(TrainingError, match="masksearch serve --refreshable"):
        check_server(chat_model_of(FakeClient(str(tmp_path))))
