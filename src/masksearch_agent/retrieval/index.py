"""Build an index of passages in a folder, and open it.

The folder holds the manifest `index.json` and the folder `build-…` that it names, with the passages and one
part per retriever mode (`modes`). A new build is made beside the old one; replacing the manifest, which is one step of
the file system, makes it the index. So the index is whole at any moment, however a build ends, and what a
killed build left behind is removed by the next one. Building it again from the same passages does nothing;
from others, only those are embedded that were not there before.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from masksearch_agent.config.corpus import CorpusSettings
from masksearch_agent.config.retrieval import RetrievalSettings
from masksearch_agent.corpus.loaded import Loaded, passages_of_loaded
from masksearch_agent.errors import RetrievalError
from masksearch_agent.failures import Failures
from masksearch_agent.files import replace_text
from masksearch_agent.jsonl import load_record
from masksearch_agent.plugins import RETRIEVER_MODES
from masksearch_agent.retrieval.backends import IndexPart, RetrieverMode, SearchBackend
from masksearch_agent.retrieval.embedders import Embedder, SentenceEmbedder
from masksearch_agent.retrieval.passages import PassageFile, write_passages

__all__ = ("IndexReport", "build_index", "open_index")

_FORMAT_VERSION = 2
_MANIFEST = "index.json"
_BUILD_PREFIX = "build-"
_OLD_FORMAT = ("passages.jsonl", "bm25", "dense-*")
"""What an index of format version 1 had beside its manifest."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What building an index changed."""

    passages: int
    """Passages that it holds now."""
    added: int
    """Passages whose title and text are new; a changed one is added, and its old form removed."""
    removed: int
    embedded: int
    """Passages whose embedding was computed."""
    failures: Mapping[str, int] = field(default_factory=dict)
    """Passages that could not be embedded, by reason; a search by words still finds them."""

    @property
    def failed(self) -> int:
        """Number of passages that could not be embedded."""
        return sum(self.failures.values())


@dataclass(frozen=True, slots=True)
class _Manifest:
    format_version: int
    content_hash: str
    count: int
    parts: tuple[str, ...]
    embedder: str
    """Name of the embedder of the parts that embed; empty where no part does."""
    mode: str
    rrf_k: int
    folder: str
    """A name of its own for each build: Chroma keeps an opened folder by its path until the process ends."""


def build_index(
    passages: Loaded,
    directory: str | Path,
    settings: RetrievalSettings | None = None,
    *,
    embedder: Embedder | None = None,
    reading: CorpusSettings | None = None,
) -> IndexReport:
    """Index passages in a folder, unless the folder holds just that already; an older index there is replaced.

    Passages are read once and not held in memory; repeated ones count once.

    Args:
        passages: Passages, LangChain documents, or a loader of them.
        directory: The folder.
        settings: How it is to be searched.
        embedder: Replaces the one that the settings name.
        reading: How documents are cut into passages.

    Raises:
        CorpusError: Something is neither a passage nor a document.
        RetrievalError: There is no passage, two passages share an id, the folder holds something that is not an index,
            or another process is building there.
    """
    settings, directory = settings or RetrievalSettings(), Path(directory)
    embedder = embedder or SentenceEmbedder(settings.embedder)
    with _exclusive(directory):
        old = _usable_manifest(directory)
        _remove_all_but(directory, old)
        build = Path(tempfile.mkdtemp(prefix=_BUILD_PREFIX, dir=directory))
        try:
            content_hash = write_passages(build, passages_of_loaded(passages, reading))
            stored = PassageFile(build)
            parts = _parts_of(settings.mode)
            wanted = _Manifest(
                format_version=_FORMAT_VERSION,
                content_hash=content_hash,
                count=len(stored),
                parts=tuple(sorted(parts)),
                embedder=embedder.name if _embeds(parts) else "",
                mode=settings.mode,
                rrf_k=settings.rrf_k,
                folder=build.name,
            )
            if old is not None and _is_up_to_date(old, wanted, directory):
                logger.info("the index in %s is up to date", directory)
                opened_as_wanted = replace(old, mode=wanted.mode, rrf_k=wanted.rrf_k)
                if opened_as_wanted != old:
                    _write_manifest(directory, opened_as_wanted)
                return IndexReport(old.count, added=0, removed=0, embedded=0)
            report = _write_parts(directory, stored, wanted, embedder, old)
            _write_manifest(directory, wanted)
            old = wanted
        finally:
            _remove_all_but(directory, old)
    return report


def open_index(
    directory: Path, mode: str | None = None, *, embedder: Embedder | None = None
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
    if mode not in RETRIEVER_MODES.names():
        raise RetrievalError(
            f"unknown search mode {mode!r}; expected one of {', '.join(RETRIEVER_MODES.names())}, or install the "
            "package that brings it"
        )
    parts = _parts_of(mode)
    missing = parts.keys() - set(manifest.parts)
    if missing:
        raise RetrievalError(
            f"the index in {directory} has no {' and no '.join(sorted(missing))} part, which mode {mode!r} "
            f"needs; run `masksearch index` with retrieval mode {mode!r}"
        )
    chosen = embedder or SentenceEmbedder(manifest.embedder)
    try:
        if _embeds(parts) and chosen.name != manifest.embedder:
            raise RetrievalError(
                f"the index was built with embedder {manifest.embedder!r}, not {chosen.name!r}"
            )
        passages = _open_passages(directory, manifest)
        backends = [
            part.open(IndexPart(directory / manifest.folder / name, passages, chosen))
            for name, part in parts.items()
        ]
    except RetrievalError as failure:
        raise RetrievalError(f"{failure}; run `masksearch index` to build the index again") from failure
    return RETRIEVER_MODES.get(mode).fuse(backends, manifest.rrf_k)  # type: ignore[no-any-return]


def _parts_of(mode: str) -> dict[str, RetrieverMode]:
    """Return the modes whose parts a mode searches: itself, or those that it names."""
    return {name: RETRIEVER_MODES.get(name) for name in RETRIEVER_MODES.get(mode).parts or (mode,)}


def _embeds(parts: dict[str, RetrieverMode]) -> bool:
    return any(part.embeds for part in parts.values())


def _open_passages(directory: Path, manifest: _Manifest) -> PassageFile:
    passages = PassageFile(directory / manifest.folder)
    if len(passages) != manifest.count:
        raise RetrievalError(
            f"{directory / manifest.folder} holds {len(passages)} passages, not {manifest.count}"
        )
    return passages


def _is_up_to_date(manifest: _Manifest, wanted: _Manifest, directory: Path) -> bool:
    """Tell whether an index holds what is wanted, however it is to be opened, and its files are whole."""
    if (manifest.count, manifest.content_hash) != (wanted.count, wanted.content_hash):
        return False
    if not set(wanted.parts) <= set(manifest.parts) or wanted.embedder not in ("", manifest.embedder):
        return False
    try:
        passages = _open_passages(directory, manifest)
        embedder = SentenceEmbedder(manifest.embedder)
        # A part may be of a mode that is not installed any more.
        for name in set(RETRIEVER_MODES.names()) & set(manifest.parts):
            RETRIEVER_MODES.get(name).check(IndexPart(directory / manifest.folder / name, passages, embedder))
    except RetrievalError as failure:
        logger.warning("building the index again: %s", failure)
        return False
    return True


@contextmanager
def _exclusive(directory: Path) -> Iterator[None]:
    """Hold the folder, created where it is missing, against other builds; the end of a process lets it go."""
    has_index = (directory / _MANIFEST).is_file()
    if directory.exists() and not has_index and not _is_free(directory):
        raise RetrievalError(f"{directory} exists and is not an index; choose another folder or remove it")
    directory.mkdir(parents=True, exist_ok=True)
    handle = None
    try:
        import fcntl

        handle = os.open(directory, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:
        pass  # Windows has no such lock.
    except BlockingIOError as failure:
        os.close(handle or 0)
        raise RetrievalError(
            f"another process is building the index in {directory}; wait for it to end"
        ) from failure
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)
        if not any(directory.iterdir()):
            directory.rmdir()


def _is_free(directory: Path) -> bool:
    """Tell whether a folder holds nothing but what killed builds left behind."""
    return directory.is_dir() and all(entry.name.startswith(_BUILD_PREFIX) for entry in directory.iterdir())


def _usable_manifest(directory: Path) -> _Manifest | None:
    if not (directory / _MANIFEST).is_file():
        return None
    try:
        return _read_manifest(directory)
    except RetrievalError:
        logger.warning("the index in %s is damaged or of another version; building it again", directory)
        return None


def _remove_all_but(directory: Path, current: _Manifest | None) -> None:
    """Remove builds that are not the index: replaced, failed, or left by a killed process."""
    keep = current.folder if current else ""
    for pattern in (f"{_BUILD_PREFIX}*", *(_OLD_FORMAT if current else ())):
        for entry in directory.glob(pattern):
            if entry.is_dir() and entry.name != keep:
                shutil.rmtree(entry)
            elif entry.is_file():
                entry.unlink()


def _write_parts(
    directory: Path, passages: PassageFile, wanted: _Manifest, embedder: Embedder, old: _Manifest | None
) -> IndexReport:
    """Write the parts of an index, taking over what the old one has; report what changed."""
    import numpy as np

    before = None
    if old is not None:
        try:
            before = PassageFile(directory / old.folder)
        except RetrievalError:
            logger.warning("the passages of the old index are damaged; all count as new")
    embedded, failures = 0, Failures()
    for name, part in _parts_of(wanted.mode).items():
        older = None
        is_usable = old is not None and (not part.embeds or old.embedder == wanted.embedder)
        if old is not None and before is not None and is_usable and name in old.parts:
            older = IndexPart(directory / old.folder / name, before, embedder)
        made = IndexPart(directory / wanted.folder / name, passages, embedder, failures)
        embedded += part.build(made, older)
    now = np.array(passages.keys)
    gone = np.array(before.keys if before is not None else (), dtype=np.uint64)
    added, removed = np.setdiff1d(now, gone).size, np.setdiff1d(gone, now).size
    return IndexReport(wanted.count, added, removed, embedded, dict(failures.reasons))


def _write_manifest(directory: Path, manifest: _Manifest) -> None:
    replace_text(directory / _MANIFEST, json.dumps(asdict(manifest), indent=2) + "\n")


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
