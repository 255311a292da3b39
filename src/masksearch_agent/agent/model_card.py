"""What a bundle says of itself on a model hub: the model card, from what the bundle knows.

https://huggingface.co/docs/hub/model-cards
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from masksearch_agent.agent.bundle import BUNDLE_FILE, BundleInfo, read_bundle_info
from masksearch_agent.errors import BundleError, needs_extra
from masksearch_agent.failures import is_transient
from masksearch_agent.files import replace_text

__all__ = ("model_card", "push_bundle")

_CARD = "README.md"
_LEFT_HERE = ["*/*", "*.partial", "metrics*.jsonl"]
"""What lies beside a bundle and nobody needs to use it. All folders are such: the untrained agent, checkpoints with the
state of the optimizer, logs, an index of the documents. `*` matches `/` too."""


def push_bundle(bundle: Path, repo_id: str, is_private: bool = True) -> str:
    """Put a bundle on the Hugging Face hub, with a card; `MaskSearchAgent.from_pretrained(repo_id)` restores it.

    The token is the one that `hf auth login` or `HF_TOKEN` gave. The index is not sent: it holds the documents.

    Args:
        repo_id: `owner/name`; made where it is missing.
        is_private: Of a repository that is made; one that is there stays what it is.

    Returns:
        The address of the commit.

    Raises:
        BundleError: There is no bundle, or the hub refuses it or is not reached.
        MissingExtraError: `huggingface_hub` is not installed.
    """
    with needs_extra("train"):
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    if not (bundle / BUNDLE_FILE).is_file():
        raise BundleError(f"{bundle} holds no {BUNDLE_FILE}; pass the folder of an agent bundle")
    hub = HfApi()
    with tempfile.TemporaryDirectory() as scratch:
        card = Path(scratch) / _CARD
        replace_text(card, model_card(read_bundle_info(bundle), repo_id))
        try:
            hub.create_repo(repo_id, private=is_private, exist_ok=True)
            hub.upload_folder(repo_id=repo_id, folder_path=bundle, ignore_patterns=[*_LEFT_HERE, _CARD])
            commit = hub.upload_file(repo_id=repo_id, path_or_fileobj=card, path_in_repo=_CARD)
        except (HfHubHTTPError, HFValidationError) as failure:
            raise BundleError(
                f"the model hub refused {repo_id!r}: {failure}; name it `owner/name`, and log in with `hf auth "
                "login` as one who may write there"
            ) from failure
        except Exception as failure:
            # Which library the hub speaks HTTP by, and so what it raises, differs between its versions.
            if not is_transient(failure):
                raise
            raise BundleError(
                f"the model hub is not reached: {failure}; look at the network and `HF_HUB_OFFLINE`, and push again: "
                "what was sent is not sent twice"
            ) from failure
    return str(commit.commit_url)


def model_card(info: BundleInfo, repo_id: str) -> str:
    """Return the card of a bundle: what it was made from and how, its scores with intervals, how to use it."""
    provenance = info.provenance
    base = str(provenance.get("base_model", ""))
    meta: dict[str, Any] = {
        "library_name": "masksearch-agent",
        "tags": ["search-agent", "langgraph", "masksearch"],
    }
    # A folder of the machine that trained means nothing to the hub.
    if base.count("/") == 1 and not Path(base).exists():
        meta["base_model"] = base
    parts = [
        f"---\n{yaml.safe_dump(meta, sort_keys=False)}---",
        f"# {repo_id.split('/')[-1]}",
        "A search agent: it searches, reads and answers in the steps of "
        "[MaskSearch](https://arxiv.org/abs/2505.20285), trained with masksearch-agent.",
        _USE.format(repo_id=repo_id),
        _training(info, base),
        _scores(provenance.get("choice", {})),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


_USE = """## Use

```python
from masksearch_agent import MaskSearchAgent

agent = MaskSearchAgent.from_pretrained("{repo_id}", search=my_retriever)  # a retriever, a function, an index folder
print(agent.invoke("…").answer)
```"""


def _training(info: BundleInfo, base: str) -> str:
    stages = info.provenance.get("stages", [])
    told = ("max_steps", "lora_rank", "seed")
    rows = [
        [stage.get("stage", ""), *(stage.get("settings", {}).get(key, "") for key in told)]
        for stage in stages
    ]
    versions = ", ".join(f"{name} {version}" for name, version in info.provenance.get("versions", {}).items())
    said = [
        "## Training",
        f"Version `{info.model_version}`, protocol {info.protocol_version}"
        + (f", from `{base}`" if base else "")
        + ".",
        _table(["stage", "steps", "LoRA rank", "seed"], rows) if rows else "",
        f"Trained with {versions}." if versions else "",
        "All settings are in `masksearch.json`.",
    ]
    return "\n\n".join(line for line in said if line)


def _scores(choice: Mapping[str, Any]) -> str:
    if not choice:
        return ""
    rows = [
        [
            name,
            one["n"],
            _with_interval(one["recall"], one["ci95"]),
            _with_interval(one["em"], one["em_ci95"]),
        ]
        for name, one in choice["scores"].items()
    ]
    table = _table(["agent", "questions", "recall", "exact match"], rows)
    return f"## Scores\n\nWith 95% intervals; why {choice['chosen']} is served: {choice['why']}.\n\n{table}"


def _with_interval(mean: float, interval: Sequence[float]) -> str:
    return f"{mean:.3f} ({interval[0]:.3f} to {interval[1]:.3f})"


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    # A bar in a value would end its cell.
    lines = [[str(cell).replace("|", "¦") for cell in row] for row in (header, ["---"] * len(header), *rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
