"""What the training stages share: from bundle to bundle, with the chain of stages kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from masksearch_agent.agent.bundle import BundleInfo
from masksearch_agent.config.trainers import DAPOSettings, SFTSettings
from masksearch_agent.environment import package_versions
from masksearch_agent.stages.base import index_of_bundle
from masksearch_agent.stages.stage import Spent

__all__ = ("Listener", "next_info", "spent_of", "training_dtype")

Listener = Callable[[int, int, dict[str, float]], None]
"""Called with the step, the number of all steps and the metrics."""


def training_dtype(settings: SFTSettings | DAPOSettings) -> Literal["auto", "float32"]:
    """Return what weights are held in: a step of a usual size is lost in bfloat16's rounding.

    Adapters are float32 whatever the weights under them are, so those stay as they were saved.
    """
    return "auto" if settings.lora_rank else "float32"


def next_info(
    info: BundleInfo,
    source: Path,
    directory: Path,
    label: str,
    settings: SFTSettings | DAPOSettings,
    index: Path | None,
    mixed: Mapping[str, int],
) -> BundleInfo:
    """Describe the bundle in `directory` that a stage made of another, `source`.

    Args:
        label: What the stage is called in the model version and the provenance.
        index: Index that the new agent searches by default; None for that of the source.
        mixed: See `Spent`.
    """
    done = {
        "stage": label,
        "settings": settings.model_dump(mode="json"),
        **({"mixed": mixed} if mixed else {}),
    }
    if index is None and info.index:
        index = source / info.index
    return info.model_copy(
        update={
            "model_version": f"{info.model_version.split('/')[0]}/{label}",
            "index": index_of_bundle(index, directory) if index is not None else "",
            "provenance": {
                **info.provenance,
                "parent": source.name,
                "stages": [*info.provenance.get("stages", []), done],
                "versions": package_versions(),
            },
        }
    )


def spent_of(metrics: list[dict[str, float]], mixed: Mapping[str, int]) -> Spent:
    """Return what the entries of a metrics file say of a stage's cost, and what it was spent on (see `Spent`)."""
    steps = max((int(entry["step"]) for entry in metrics), default=0)
    tokens = max((int(entry["num_tokens"]) for entry in metrics if "num_tokens" in entry), default=0)
    return Spent(steps=steps, tokens=tokens, mixed=mixed)
