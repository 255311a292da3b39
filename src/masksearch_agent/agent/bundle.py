"""The agent bundle: a folder that holds everything an agent is, so what was trained is what is served.

Beside the weights (safetensors) and the tokenizer lies `masksearch.json`: protocol version, prompts, limits,
where the index is, and where the weights came from.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError

from masksearch_agent.agent.prompts import PromptSet
from masksearch_agent.agent.protocol import PROTOCOL_VERSION
from masksearch_agent.config.agent import AgentSettings
from masksearch_agent.config.base import Settings
from masksearch_agent.errors import BundleError
from masksearch_agent.files import replace_text
from masksearch_agent.models.local import LocalChatModel
from masksearch_agent.models.recording import RecordingChatModel
from masksearch_agent.models.vllm import VLLMChatModel
from masksearch_agent.retrieval.index import open_index
from masksearch_agent.retrieval.search import Search

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ("BUNDLE_FILE", "BundleInfo", "load_model", "open_bundle_search", "read_bundle_info", "save_bundle")

BUNDLE_FILE = "masksearch.json"
_FINGERPRINT_MARK = "#"


class BundleInfo(Settings):
    """What `masksearch.json` says."""

    protocol_version: int
    prompts: PromptSet
    agent: AgentSettings
    model_version: str
    """Recorded with every turn the model takes. `save_bundle` ends it with a fingerprint of the weights, so what
    another model wrote is never taken for this one's."""
    index: str = ""
    """Folder of the index the agent was trained with, relative to the bundle; empty where there is none."""
    search_mode: str | None = None
    """How the index is searched; None opens it as it was built."""
    provenance: dict[str, Any] = Field(default_factory=dict)
    """How the weights came about: stages, seed, parent bundle, package versions."""


def save_bundle(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, info: BundleInfo, directory: Path
) -> None:
    """Write a bundle; the description is written last, so a folder that has one is complete.

    Its model version gets a fingerprint of the weights: `quickstart/final#1f0c93ab`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    (directory / BUNDLE_FILE).unlink(missing_ok=True)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    name = info.model_version.split(_FINGERPRINT_MARK)[0]
    digest = hashlib.sha256()
    for file in sorted(directory.glob("*.safetensors")):
        with file.open("rb") as weights:
            digest.update(hashlib.file_digest(weights, "sha256").digest())
    version = f"{name}{_FINGERPRINT_MARK}{digest.hexdigest()[:8]}"
    info = info.model_copy(update={"model_version": version})
    replace_text(directory / BUNDLE_FILE, info.model_dump_json(indent=2) + "\n")


def read_bundle_info(path: str | Path) -> BundleInfo:
    """Read the description of a bundle folder, or of a bundle on a model hub by its id.

    Raises:
        BundleError: It is missing, malformed, or of another protocol version.
    """
    file = _bundle_file(path)
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as failure:
        raise BundleError(f"cannot read {file}: {failure}; save the agent again") from failure
    version = data.get("protocol_version") if isinstance(data, dict) else None
    if version != PROTOCOL_VERSION:
        raise BundleError(
            f"{file} is of protocol version {version!r}, but this package speaks version {PROTOCOL_VERSION}; "
            f"install the package version it was trained with, or train it again"
        )
    try:
        return BundleInfo.model_validate(data)
    except ValidationError as failure:
        first = failure.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BundleError(f"{file} is malformed: {where}: {first['msg']}") from failure


def load_model(path: str | Path, info: BundleInfo, base_url: str | None = None) -> RecordingChatModel:
    """Load a bundle's weights, or reach the vLLM server at `base_url` that serves them.

    Raises:
        BundleError: The server has another bundle's weights.
        ServingError: No vLLM server answers there.
    """
    settings: dict[str, Any] = {
        "max_tokens": info.agent.max_step_tokens,
        "model_version": info.model_version,
    }
    if base_url is None:
        return LocalChatModel.from_pretrained(path, **settings)
    model = VLLMChatModel.from_pretrained(path, base_url, **settings)
    if _FINGERPRINT_MARK in model.served_name and model.served_name != info.model_version:
        model.close()
        raise BundleError(
            f"{base_url} serves {model.served_name}, but the bundle {path} is {info.model_version}; serve this bundle "
            f"with `masksearch serve --agent {path}`, or name the other one's folder"
        )
    return model


def open_bundle_search(path: str | Path, info: BundleInfo | None = None) -> Search:
    """Open the index that a bundle names, without a cache.

    Raises:
        BundleError: It names none, or the index is not there.
    """
    directory = Path(path)
    info = info or read_bundle_info(path)
    if not info.index:
        raise BundleError(
            f"the bundle {directory} names no index; pass `search=` (`--index`) with what it is to search"
        )
    index = (directory / info.index).resolve()
    if not index.is_dir():
        raise BundleError(
            f"the bundle {directory} was trained with the index {index}, which is not there; pass `search=` "
            f"(`--index`) with what it is to search, or build the index with `masksearch index`"
        )
    return Search(open_index(index, info.search_mode))


def _bundle_file(path: str | Path) -> Path:
    directory = Path(path)
    if directory.is_dir():
        if (file := directory / BUNDLE_FILE).is_file():
            return file
        raise BundleError(
            f"{directory} has no {BUNDLE_FILE}, so it is not an agent bundle; pass the folder that training wrote, or "
            f"make one of a checkpoint with `masksearch sft`"
        )
    if directory.is_absolute() or str(path).count("/") != 1:
        raise BundleError(f"there is no agent bundle at {directory}")
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(hf_hub_download(str(path), BUNDLE_FILE))
    except (HfHubHTTPError, OSError) as failure:
        raise BundleError(
            f"no folder {path} here, and no such bundle on the model hub: {failure}"
        ) from failure
