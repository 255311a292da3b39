"""Build an index of passages in a folder, add to it, take out of it, and open it.

The folder holds the manifest `index.json` and the folder `build-…` that it names, with the passages (`passages`) and
one part per retriever mode (`modes`). Passages are added behind those that are there, and the manifest says how many
count. Replacing it, which is one step of the file system, is what changes the index: it is whole at any moment, however
a writer ends, and what a killed one left behind is removed by the next. Whoever reads goes on reading what there was.

Where much has changed, or a mode cannot add to its part, a new build is made beside the old one, and takes its place.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from masksearch_agent.config.corpus import CorpusSettings
from masksearch_agent.config.retrieval import RetrievalSettings
from masksearch_agent.corpus.loaded import Loaded, passages_of_loaded
from masksearch_agent.errors import RetrievalError
from masksearch_agent.failures import Failures
from masksearch_agent.plugins import RETRIEVER_MODES
from masksearch_agent.retrieval.backends import IndexPart, RetrieverMode, SearchBackend
from masksearch_agent.retrieval.embedders import Embedder, SentenceEmbedder
from masksearch_agent.retrieval.manifest import BUILD_PREFIX, Manifest, usable_manifest, writing
from masksearch_agent.retrieval.passages import Extent, PassageFile

__all__ = ("IndexReport", "build_index", "open_index", "update_index")

_MAX_DEAD = 4
"""One passage in so many may be of those that were taken out; with more, a new build is made."""
_OPEN_ATTEMPTS = 3

_Append = Callable[[Path, PassageFile | None], Extent]
"""Writes passages into a folder, behind those that are there."""

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
    """Passages that could not be embedded, by reason. Words find them, and the next change tries them again."""

    @property
    def failed(self) -> int:
        """Number of passages that could not be embedded."""
        return sum(self.failures.values())


def build_index(
    passages: Loaded,
    directory: str | Path,
    settings: RetrievalSettings | None = None,
    *,
    embedder: Embedder | None = None,
    reading: CorpusSettings | None = None,
) -> IndexReport:
    """Index passages in a folder, these and no others; of an index that is there, only what differs is changed.

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
    from masksearch_agent.retrieval.passage_writer import append_passages

    settings, directory = settings or RetrievalSettings(), Path(directory)
    with writing(directory):
        return _Writer(directory, settings, embedder, usable_manifest(directory)).write(
            lambda folder, known: append_passages(folder, known, passages_of_loaded(passages, reading))
        )


def update_index(
    directory: str | Path,
    added: Loaded = (),
    removed: Collection[str] = (),
    *,
    settings: RetrievalSettings | None = None,
    embedder: Embedder | None = None,
    reading: CorpusSettings | None = None,
) -> IndexReport:
    """Add passages to an index and take others out, in time that hardly depends on its size.

    Args:
        directory: Where `build_index` wrote it.
        added: Passages, LangChain documents, or a loader of them. They take the place of all that the index has of the
            same documents (`Passage.document_id`). Text that another document of the index holds too, and whose id
            is that of the text alone, gets an id of its own here, so that each document keeps it.
        removed: Ids of passages and of documents.
        settings: Tells of `dense`, where that is an object; all else stays as the index was built.
        embedder: Replaces the one that the index names; must have the same name.
        reading: How documents are cut into passages.

    Raises:
        RetrievalError: There is no index, nothing would be left in it, or another process is building there.
    """
    from masksearch_agent.retrieval.passage_writer import append_passages

    directory = Path(directory)
    Manifest.read(directory)  # Nothing is created where there is no index.
    with writing(directory):
        old = Manifest.read(directory)
        dense = settings.dense if settings is not None else "chroma"
        as_built = RetrievalSettings(
            mode=old.mode, rrf_k=old.rrf_k, embedder=old.embedder or "minilm", dense=dense
        )
        writer = _Writer(directory, as_built, embedder, old)
        return writer.write(
            lambda folder, known: append_passages(folder, known, passages_of_loaded(added, reading), removed)
        )


class _Writer:
    """Changes an index, or writes the first. `old` is what there is."""

    def __init__(
        self, directory: Path, settings: RetrievalSettings, embedder: Embedder | None, old: Manifest | None
    ) -> None:
        self._directory = directory
        self._settings = settings
        self._embedder = embedder or SentenceEmbedder(settings.embedder)
        self._parts = _parts_of(settings.mode)
        self._failures = Failures()
        self._old = old
        self._before = self._open_old()

    def write(self, append: _Append) -> IndexReport:
        """Let passages be appended, bring the parts in line, and make it the index."""
        embeds = _embeds(self._parts) and isinstance(self._settings.dense, str)
        wanted = Manifest(
            extent=Extent(),
            parts=tuple(sorted(self._parts)),
            embedder=self._embedder.name if embeds else "",
            mode=self._settings.mode,
            rrf_k=self._settings.rrf_k,
            folder="",
        )
        old, before = self._old, self._before
        if old is None or before is None:
            build = self._new_build()
            return self._build(replace(wanted, folder=build.name, extent=append(build, None)))
        folder = self._directory / old.folder
        extent = append(folder, before)
        wanted = replace(wanted, folder=old.folder, extent=extent)
        if extent == before.extent and self._serves(old, wanted):
            logger.info("the index in %s is up to date", self._directory)
            if (old.mode, old.rrf_k) != (wanted.mode, wanted.rrf_k):
                replace(old, mode=wanted.mode, rrf_k=wanted.rrf_k).write(self._directory)
            return IndexReport(len(before), added=0, removed=0, embedded=0, failures=old.failures)
        if self._grows(old, wanted):
            return self._grow(old, wanted)
        from masksearch_agent.retrieval.passage_writer import append_passages

        build, passages = self._new_build(), PassageFile(folder, extent, is_kept=False)
        return self._build(replace(wanted, folder=build.name, extent=append_passages(build, None, passages)))

    def _build(self, wanted: Manifest) -> IndexReport:
        """Write all parts, taking over what the old ones have."""
        old, before = self._old, self._before
        passages = PassageFile(self._directory / wanted.folder, wanted.extent, is_kept=False)
        embedded = 0
        for name, mode in self._parts.items():
            older = None
            is_usable = old is not None and (not mode.embeds or old.embedder == wanted.embedder)
            if old is not None and before is not None and is_usable and name in old.parts:
                older = self._part(old, name, before)
            embedded += mode.build(self._part(wanted, name, passages), older)
        extent = replace(wanted.extent, purged=wanted.extent.dead)
        replace(wanted, extent=extent, failures=dict(self._failures.reasons)).write(self._directory)
        self._drop_old()
        return _report(before, passages, embedded, self._failures)

    def _grow(self, old: Manifest, wanted: Manifest) -> IndexReport:
        """Add to all parts, tell of it, and then take out of them what the index has forgotten."""
        passages = PassageFile(self._directory / wanted.folder, wanted.extent, is_kept=False)
        first = old.extent.rows
        embedded = sum(
            mode.add(self._part(wanted, name, passages), first) for name, mode in self._parts.items()
        )
        wanted = replace(wanted, failures=dict(self._failures.reasons))
        wanted.write(self._directory)
        dead = passages.dead[wanted.extent.purged :].tolist()
        if dead:
            for name, mode in self._parts.items():
                mode.remove(self._part(wanted, name, passages), dead)
            replace(wanted, extent=replace(wanted.extent, purged=wanted.extent.dead)).write(self._directory)
        return _report(self._before, passages, embedded, self._failures)

    def _grows(self, old: Manifest, wanted: Manifest) -> bool:
        return (
            all(mode.grows for mode in self._parts.values())
            and (old.parts, old.embedder) == (wanted.parts, wanted.embedder)
            and _MAX_DEAD * wanted.extent.dead <= wanted.extent.rows
            and self._is_whole(old)
        )

    def _serves(self, old: Manifest, wanted: Manifest) -> bool:
        """Tell whether an index of the same passages is what is wanted, however it is to be opened."""
        has_parts = set(wanted.parts) <= set(old.parts) and wanted.embedder in ("", old.embedder)
        return has_parts and old.extent.purged == old.extent.dead and self._is_whole(old)

    def _is_whole(self, old: Manifest) -> bool:
        if self._before is None:
            return False
        try:
            # A part may be of a mode that is not installed any more.
            for name in set(RETRIEVER_MODES.names()) & set(old.parts):
                RETRIEVER_MODES.get(name).check(self._part(old, name, self._before))
        except RetrievalError as failure:
            logger.warning("building the index again: %s", failure)
            return False
        return True

    def _open_old(self) -> PassageFile | None:
        if self._old is None:
            return None
        try:
            return PassageFile(self._directory / self._old.folder, self._old.extent, is_kept=False)
        except RetrievalError:
            logger.warning("the passages of the old index are damaged; all count as new")
            return None

    def _drop_old(self) -> None:
        if self._old is None or self._before is None:
            return
        for name in set(RETRIEVER_MODES.names()) & set(self._old.parts):
            try:
                RETRIEVER_MODES.get(name).drop(self._part(self._old, name, self._before))
            except RetrievalError as failure:
                logger.warning("what the old index kept elsewhere stays there: %s", failure)
        self._before = self._old = None

    def _new_build(self) -> Path:
        return Path(tempfile.mkdtemp(prefix=BUILD_PREFIX, dir=self._directory))

    def _part(self, manifest: Manifest, name: str, passages: PassageFile) -> IndexPart:
        folder = self._directory / manifest.folder / name
        return IndexPart(folder, passages, self._embedder, self._settings.dense_place, self._failures)


def open_index(
    directory: Path,
    mode: str | None = None,
    *,
    embedder: Embedder | None = None,
    vector_store: Any = None,
) -> SearchBackend:
    """Open an index for searching. It may be on a read-only file system, and others may be writing to it.

    Args:
        directory: Where `build_index` wrote it.
        mode: How to rank; what the index was built for where None. `bm25` imports neither torch nor Chroma.
        embedder: Replaces the embedder that the manifest names; must have the same name.
        vector_store: The LangChain vector store that it was built with, where it was.

    Raises:
        RetrievalError: If there is no index, if it is damaged, or if it lacks what the mode needs.
    """
    for attempt in range(_OPEN_ATTEMPTS):
        manifest = Manifest.read(directory)
        try:
            return _open(directory, manifest, mode or manifest.mode, embedder, vector_store)
        except RetrievalError:
            # A writer may have replaced the index while it was being opened.
            if attempt == _OPEN_ATTEMPTS - 1 or Manifest.read(directory) == manifest:
                raise
    raise AssertionError


def _open(
    directory: Path, manifest: Manifest, mode: str, embedder: Embedder | None, vector_store: Any
) -> SearchBackend:
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
    if _embeds(parts) and manifest.embedder and chosen.name != manifest.embedder:
        raise RetrievalError(
            f"the index was built with embedder {manifest.embedder!r}, not {chosen.name!r}; "
            "run `masksearch index` to build the index again"
        )
    try:
        passages = PassageFile(directory / manifest.folder, manifest.extent)
        dense = vector_store if vector_store is not None else "chroma"
        backends = [
            part.open(IndexPart(directory / manifest.folder / name, passages, chosen, dense))
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


def _report(before: PassageFile | None, now: PassageFile, embedded: int, failures: Failures) -> IndexReport:
    """Compare two states of an index by the titles and texts of their passages."""
    import numpy as np

    is_grown = before is not None and before.directory == now.directory
    first = before.extent.rows if before is not None and is_grown else 0
    is_there = now.is_there()
    new = now.rows["text"][first:][is_there[first:]]
    gone = new[:0]
    if before is not None:
        is_gone = before.is_there()
        if is_grown:
            is_gone &= ~is_there[:first]
        gone = before.rows["text"][is_gone]
    added, removed = (int(np.isin(a, b, invert=True).sum()) for a, b in ((new, gone), (gone, new)))
    return IndexReport(len(now), added, removed, embedded, dict(failures.reasons))
