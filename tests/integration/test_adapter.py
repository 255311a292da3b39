"""What training added, packed into an adapter, makes the same agent again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fakes.scripts import load_script
from fakes.tiny_models import make_test_model

pytest.importorskip("torch")
pytest.importorskip("peft")

from masksearch_agent.agent.bundle import BundleInfo, read_bundle_info, save_bundle
from masksearch_agent.agent.prompts import COMPACT_PROMPTS
from masksearch_agent.agent.protocol import PROTOCOL_VERSION
from masksearch_agent.config.agent import AgentSettings
from masksearch_agent.errors import ModelError

SCRIPT = Path(__file__).resolve().parents[2] / "training" / "adapter.py"
INFO = BundleInfo(
    protocol_version=PROTOCOL_VERSION,
    prompts=COMPACT_PROMPTS,
    agent=AgentSettings(max_searches=3),
    model_version="run/qa_sft",
    index="../index",
)


@pytest.fixture
def adapter() -> Any:
    return load_script(SCRIPT)


@pytest.fixture
def folder(tmp_path: Path, tiny_tokenizer: Any) -> Path:
    """A base checkpoint, and a bundle whose linear layers differ from it by products of rank 3."""
    import torch

    model = make_test_model(tiny_tokenizer).to(torch.bfloat16)
    model.save_pretrained(tmp_path / "base")
    tiny_tokenizer.save_pretrained(tmp_path / "base")
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("_proj.weight"):
                up, down = (torch.randn(size, 3, generator=draw) for size in weight.shape)
                weight += 0.1 * up @ down.T
    save_bundle(model, tiny_tokenizer, INFO, tmp_path / "agent")
    return tmp_path


def test_an_adapter_makes_the_agent_again(adapter: Any, folder: Path) -> None:
    from masksearch_agent.models.local import load_checkpoint

    adapter.pack(folder / "agent", folder / "base", folder / "adapter", rank=3)
    adapter.unpack(folder / "adapter", folder / "base", folder / "again", folder / "index")
    trained, again = (
        dict(load_checkpoint(folder / name, "float32")[0].named_parameters()) for name in ("agent", "again")
    )
    base = dict(load_checkpoint(folder / "base", "float32")[0].named_parameters())
    for name, weight in trained.items():
        # As near as bfloat16 tells weights of this size apart.
        assert (again[name] - weight).abs().max() <= 0.02 * weight.abs().max()
        assert bool((weight != base[name]).any()) == name.endswith("_proj.weight")
    info = read_bundle_info(folder / "again")
    assert (info.agent, info.prompts, info.index) == (INFO.agent, INFO.prompts, "../index")


def test_an_adapter_of_low_rank_is_small(adapter: Any, folder: Path) -> None:
    adapter.pack(folder / "agent", folder / "base", folder / "adapter", rank=3)
    sizes = {
        name: (folder / name / file).stat().st_size
        for name, file in (("adapter", "adapter_model.safetensors"), ("agent", "model.safetensors"))
    }
    assert sizes["adapter"] < sizes["agent"] / 2


def test_what_an_adapter_cannot_hold_is_refused(
    adapter: Any, folder: Path, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    import torch

    model = make_test_model(tiny_tokenizer, seed=1).to(torch.bfloat16)
    save_bundle(model, tiny_tokenizer, INFO, tmp_path / "other")
    with pytest.raises(ModelError, match=r"changed in model.embed_tokens.weight"):
        adapter.pack(tmp_path / "other", folder / "base", tmp_path / "adapter", rank=3)
    assert not (tmp_path / "adapter").exists()
