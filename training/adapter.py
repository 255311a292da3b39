"""Pack what training added to a model into a PEFT adapter of a few megabytes, and make an agent of it again.

    python training/adapter.py pack --agent runs/real_text/B --base runs/models/smollm2-135m --out training/adapter
    python training/adapter.py unpack training/adapter --base runs/models/smollm2-135m --index runs/try/index \
      --out runs/try/agent

Every stage merges its adapters into the weights, so what all stages added is the difference between two checkpoints.
`pack` takes of each linear layer's difference the part that a product of two narrow matrices tells best (the singular
value decomposition; Eckart and Young, 1936), which also leaves the rounding of merged bfloat16 weights out. Beside
the weights lies `masksearch.json`: prompts, limits and where the agent came from.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masksearch_agent.agent.bundle import BUNDLE_FILE, read_bundle_info, save_bundle
from masksearch_agent.errors import MaskSearchError, ModelError
from masksearch_agent.files import replace_text
from masksearch_agent.models.local import load_checkpoint
from masksearch_agent.stages.base import index_of_bundle

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

__all__ = ("pack", "unpack")

_app = typer.Typer(add_completion=False)

BaseOption = Annotated[Path, typer.Option(help="The checkpoint that training started from.")]


@_app.command()
def pack(
    agent: Annotated[Path, typer.Option(help="Bundle of the trained agent.")],
    base: BaseOption,
    out: Annotated[Path, typer.Option(help="Folder of the adapter.")],
    rank: Annotated[int, typer.Option(help="Of each layer's difference; size grows with it.")] = 40,
) -> None:
    """Write what training added as an adapter; say how much of it the adapter holds."""
    import torch
    from peft import LoraConfig, get_peft_model

    info = read_bundle_info(agent)
    before, _ = load_checkpoint(base, "float32")
    after = dict(load_checkpoint(agent, "float32")[0].named_parameters())
    added = {name: after[name].detach() - weight.detach() for name, weight in before.named_parameters()}
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules="all-linear", task_type="CAUSAL_LM")
    adapted = get_peft_model(before, config)
    held = whole = 0.0
    for layer, module in adapted.get_base_model().named_modules():
        if not hasattr(module, "lora_A"):
            continue
        difference = added.pop(f"{layer}.weight")
        down, up = _factors(difference, rank)
        module.lora_A["default"].weight.data, module.lora_B["default"].weight.data = down, up
        held += float((up @ down).square().sum())
        whole += float(difference.square().sum())
    if trained_too := [name for name, difference in added.items() if difference.any()]:
        raise ModelError(
            f"an adapter of linear layers cannot hold what training changed in {', '.join(trained_too[:3])}; publish "
            f"the whole bundle"
        )
    adapted.to(torch.bfloat16).save_pretrained(out)
    (out / "README.md").unlink(missing_ok=True)  # A model card with nothing filled in.
    replace_text(out / BUNDLE_FILE, info.model_copy(update={"index": ""}).model_dump_json(indent=2) + "\n")
    size = sum(file.stat().st_size for file in out.iterdir()) / 1e6
    typer.echo(f"wrote {out}: {size:.1f} MB, {held / max(whole, 1e-30):.1%} of the squared difference")


@_app.command()
def unpack(
    adapter: Annotated[Path, typer.Argument(help="Folder of the adapter.")],
    base: BaseOption,
    out: Annotated[Path, typer.Option(help="Folder of the agent bundle.")],
    index: Annotated[Path | None, typer.Option(help="Index that the agent searches by default.")] = None,
) -> None:
    """Make an agent of an adapter and the checkpoint that it was trained from."""
    import torch
    from peft import PeftModel

    info = read_bundle_info(adapter)
    model, tokenizer = load_checkpoint(base, "float32")
    merged: PreTrainedModel = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    where = index_of_bundle(index, out) if index is not None else ""
    save_bundle(merged.to(torch.bfloat16), tokenizer, info.model_copy(update={"index": where}), out)
    typer.echo(f"wrote {out}")


def _factors(difference: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return `(rank, in)` and `(out, rank)`, whose product is the best of that rank for a difference `(out, in)`."""
    import torch

    left, values, right = torch.linalg.svd(difference, full_matrices=False)
    scale = values[:rank].sqrt()
    return (scale[:, None] * right[:rank]).contiguous(), (left[:, :rank] * scale).contiguous()


if __name__ == "__main__":
    try:
        _app()
    except MaskSearchError as failure:
        typer.echo(f"error: {failure}", err=True)
        sys.exit(1)
