"""Build an index of passages in a folder, and open it.

The folder holds `passages.jsonl`, one part per kind of search (`bm25/`, `dense-…/`) and the manifest
`index.json`. It is built beside its place and renamed into it, so it is never half there; building it again
from the same passages does nothing.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from masksearch_agent.config.retrieval import RetrievalSettings, SearchMode
from masksearch_agent.errors import RetrievalError
from masksearch_agent.records import Passage, content_id, load_record, read_jsonl, write_jsonl
from masksearch_agent.retrieval.backends import SearchBackend
from masksearch_agent.retrieval.bm25 import BM25Index
from masksearch_agent.retrieval.dense import DenseIndex
from masksearch_agent.retrieval.embedders import Embedder, SentenceEmbedder
from masksearch_agent.retrieval.hybrid import HybridIndex

__all__ = ("build_index", "open_index")

_FORMAT_VERSION = 1
_MANIFEST = "index.json"
_PASSAGES = "passages.jsonl"
_PARTS: dict[SearchMode, frozenset[str]] = {
    "bm25": frozenset({"bm25"}),
    "dense": frozenset({"dense"}),
    "hybrid": frozenset({"bm25", "dense"}),
}

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Manifest:
    format_version: int
    content_hash: str
    count: int
    parts: tuple[str, ...]
    embedder: str
    """Name of the embedder of the dense part; empty where there is none."""
    mode: SearchMode
    rrf_k: int

    @property
    def dense_folder(self) -> str:
        # Chroma keeps an opened folder by its path until the process ends. A path of its own for each content
        # lets a process rebuild an index and open it anew.
        return f"dense-{content_id(self.content_hash, self.embedder)}"


def build_index(
    passages: Iterable[Passage],
    directory: Path,
    settings: RetrievalSettings | None = None,
    *,
    embedder: Embedder | None = None,
) -> None:
    """Index passages in a folder, unless the folder holds just that already.

    Args:
        passages: The passages; repeated ones count once.
        directory: Where the index goes. An older index there is replaced.
        settings: What to build; the defaults where None.
        embedder: Replaces the embedder that the settings name.

    Raises:
        RetrievalError: If there is no passage, if two passages share an id, or if the folder holds something
            that is not an index.
    """
    settings = settings or RetrievalSettings()
    distinct = _distinct(passages)
    parts = _PARTS[settings.mode]
    embedder = embedder or SentenceEmbedder(settings.embedder)
    wanted = _Manifest(
        format_version=_FORMAT_VERSION,
        content_hash=_hash_passages(distinct),
        count=len(distinct),
        parts=tuple(sorted(parts)),
        embedder=embedder.name if "dense" in parts else "",
        mode=settings.mode,
        rrf_k=settings.rrf_k,
    )
    if _is_covered(wanted, directory):
        logger.info("the index in %s is up to date", directory)
        return
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{directory.name}-", dir=directory.parent) as scratch:
        fresh = Path(scratch) / "fresh"
        _write_index(fresh, distinct, wanted, embedder)
        if directory.exists():
            directory.rename(Path(scratch) / "replaced")
        fresh.rename(directory)


def open_index(
    directory: Path, mode: SearchMode | None = None, *, embedder: Embedder | None = None
) -> SearchBackend:
    """Open an index for searching.

    Args:
        directory: Where `build_index` wrote it.
        mode: How to rank; what the index was built for where None. `bm25` imports neither torch nor Chroma.
        embedder: Replaces the embedder that the manifest names; must have the same name.

    Raises:
        RetrievalError: If there is no index, if it is damaged, or if it lacks what the mode needs.
    """
    manifest = _read_manifest(directory)
    mode = mode or manifest.mode
    if mode not in get_args(SearchMode):
        raise RetrievalError(
            f"unknown search mode {mode!r}; expected one of {', '.join(get_args(SearchMode))}"
        )
    missing = _PARTS[mode] - set(manifest.parts)
    if missing:
        raise RetrievalError(
            f"the index in {directory} has no {' and no '.join(sorted(missing))} part, which mode {mode!r} "
            f"needs; run `masksearch index` with retrieval mode {mode!r}"
        )
    try:
        passages = list(read_jsonl(directory / _PASSAGES, Passage, RetrievalError))
        if len(passages) != manifest.count:
            raise RetrievalError(
                f"{directory / _PASSAGES} holds {len(passages)} passages, not {manifest.count}"
            )
        backends: list[BM25Index | DenseIndex] = []
        if "bm25" in _PARTS[mode]:
            backends.append(BM25Index.load(directory / "bm25", passages))
        if "dense" in _PARTS[mode]:
            embedder = _matching_embedder(manifest, embedder)
            backends.append(DenseIndex(directory / manifest.dense_folder, passages, embedder))
    except RetrievalError as failure:
        raise RetrievalError(f"{failure}; run `masksearch index` to build the index again") from failure
    return backends[0] if len(backends) == 1 else HybridIndex(backends, k=manifest.rrf_k)


def _matching_embedder(manifest: _Manifest, embedder: Embedder | None) -> Embedder:
    if embedder is None:
        return SentenceEmbedder(manifest.embedder)
    if embedder.name != manifest.embedder:
        raise RetrievalError(
            f"the index was built with embedder {manifest.embedder!r}, not {embedder.name!r}"
        )
    return embedder


def _distinct(passages: Iterable[Passage]) -> list[Passage]:
    by_id: dict[str, Passage] = {}
    for passage in passages:
        known = by_id.setdefault(passage.id, passage)
        if (known.title, known.text) != (passage.title, passage.text):
            raise RetrievalError(
                f"two different passages have the id {passage.id!r} ({known.title!r} and {passage.title!r}); "
                "give each passage an id of its own"
            )
    if not by_id:
        raise RetrievalError("there is no passage to index")
    return list(by_id.values())


def _hash_passages(passages: Sequence[Passage]) -> str:
    digest = hashlib.sha256()
    for passage in passages:
        digest.update(json.dumps(asdict(passage), sort_keys=True).encode() + b"\n")
    return digest.hexdigest()


def _is_covered(wanted: _Manifest, directory: Path) -> bool:
    """Tell whether the folder holds what is wanted, noting in the manifest how it is wanted to be opened."""
    if not directory.exists() or (directory.is_dir() and not any(directory.iterdir())):
        return False
    if not (directory / _MANIFEST).is_file():
        raise RetrievalError(f"{directory} exists and is not an index; choose another folder or remove it")
    try:
        found = _read_manifest(directory)
    except RetrievalError:
        logger.warning("the index in %s is damaged or of another version; building it again", directory)
        return False
    is_same_content = (found.count, found.content_hash) == (wanted.count, wanted.content_hash)
    if not is_same_content or not set(wanted.parts) <= set(found.parts):
        return False
    if "dense" in wanted.parts and found.embedder != wanted.embedder:
        return False
    if (found.mode, found.rrf_k) != (wanted.mode, wanted.rrf_k):
        _write_manifest(directory, _Manifest(**{**asdict(found), "mode": wanted.mode, "rrf_k": wanted.rrf_k}))
    return True


def _write_index(
    directory: Path, passages: Sequence[Passage], manifest: _Manifest, embedder: Embedder
) -> None:
    write_jsonl(directory / _PASSAGES, passages)
    if "bm25" in manifest.parts:
        BM25Index.build(passages).save(directory / "bm25")
    if "dense" in manifest.parts:
        DenseIndex.build(directory / manifest.dense_folder, passages, embedder)
    _write_manifest(directory, manifest)


def _write_manifest(directory: Path, manifest: _Manifest) -> None:
    partial = directory / f"{_MANIFEST}.partial"
    partial.write_text(json.dumps(asdict(manifest), indent=2) + "\n", encoding="utf-8")
    os.replace(partial, directory / _MANIFEST)


def _read_manifest(directory: Path) -> _Manifest:
    path = directory / _MANIFEST
    if not path.is_file():
        raise RetrievalError(f"no index in {directory}; run `masksearch index` to build one")
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        manifest = load_record(_Manifest, data, RetrievalError)
    except (ValueError, RetrievalError) as failure:
        raise RetrievalError(
            f"{path} is damaged ({failure}); run `masksearch index` to build the index again"
        ) from failure
    if manifest.format_version != _FORMAT_VERSION:
        raise RetrievalError(
            f"the index in {directory} has format version {manifest.format_version}, expected "
            f"{_FORMAT_VERSION}; run `masksearch index` to build it again"
        )
    return manifest
