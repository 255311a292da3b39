"""Spans found by a GLiNER model (arXiv 2311.08526): entities of any kind that a label names, in many languages.

A bidirectional encoder of a few hundred megabytes, so faster than a chat model and less bound to fixed labels and
English than spaCy. It runs on this machine.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

from masksearch_agent.config.ramp import GlinerSettings
from masksearch_agent.errors import ModelError, needs_extra
from masksearch_agent.ramp.spans import PassagesWithSpans, trimmed_spans
from masksearch_agent.records import Passage

__all__ = ("GlinerSpanExtractor",)

_CONFIG = "gliner_config.json"
_ENCODERS = {
    "model_name": "encoder_config",
    "labels_encoder": "labels_encoder_config",
    "labels_decoder": "labels_decoder_config",
}
"""Where that file names an encoder, and where it holds the encoder's own configuration."""


class GlinerSpanExtractor:
    """Finds spans with a GLiNER model: a loaded one, or the one that the settings name.

    It reads as many words of a passage as it was trained for (384 as a rule) and leaves out the rest.

    Raises:
        MissingExtraError: gliner is not installed.
        ModelError: The model cannot be loaded, or would run code from its repository.
    """

    def __init__(self, settings: GlinerSettings, model: Any = None) -> None:
        self.settings = settings
        self._model = _load(settings.model) if model is None else model

    def extract(self, passages: Iterable[Passage]) -> PassagesWithSpans:
        """Yield each passage with what the model finds, without articles, quotes and possessive endings."""
        settings = self.settings
        stream = iter(passages)
        while batch := tuple(islice(stream, settings.batch_size)):
            found = self._model.inference(
                [passage.text for passage in batch],
                list(settings.labels),
                threshold=settings.threshold,
                batch_size=settings.batch_size,
            )
            for passage, entities in zip(batch, found, strict=True):
                yield (
                    passage,
                    trimmed_spans(
                        (each["start"], passage.text[each["start"] : each["end"]], each["label"])
                        for each in sorted(entities, key=lambda each: each["start"])
                    ),
                )


def _load(name: str) -> Any:
    with needs_extra("gliner"):
        from gliner import GLiNER
        from huggingface_hub import snapshot_download
    try:
        folder = Path(name) if Path(name).is_dir() else Path(snapshot_download(name))
        _refuse_foreign_code(folder)
        return GLiNER.from_pretrained(str(folder))
    except (OSError, ValueError) as failure:
        raise ModelError(
            f"cannot load a GLiNER model from {name!r}: {failure}; expected a folder with {_CONFIG}, or a hub id"
        ) from failure


def _refuse_foreign_code(folder: Path) -> None:
    """Raise where loading would run code that is not GLiNER's own; it loads encoders with `trust_remote_code`."""
    config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
    for name, key in _ENCODERS.items():
        part = config.get(key)
        if part is None and config.get(name):
            from transformers import AutoConfig

            part = AutoConfig.from_pretrained(config[name], trust_remote_code=False).to_dict()
        if part and "auto_map" in part:
            raise ModelError(
                f"the GLiNER model in {folder} brings code of its own ({key}: {part['auto_map']}), which is not run; "
                "choose one with an encoder that transformers knows"
            )
