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
from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from masksearch_agent.config.corpus import CorpusSettings
from masksearch_agent.config.retrieval import RetrievalSettings
from masksearch_agent.corpus.loaded import Loaded, passages_of_loaded
from masksearch_agent.errors import RetrievalError
from masksearch_agent.failures import Failures
from masksearch_agent.plugins import RETRIEVER_MODES
from masksearch_agent.records import Passage
from masksearch_agent.retrieval.backends import IndexPart, RetrieverMode, SearchBackend
from masksearch_agent.retrieval.embedders import Embedder, SentenceEmbedder
from masksearch_agent.retrieval.index_report import IndexReport, report_change
from masksearch_agent.retrieval.manifest import BUILD_PREFIX, Manifest, is_index, writing
from masksearch_agent.retrieval.passages import Extent, PassageFile, with_advice

__all__ = ("IndexReport", "build_index", "open_index", "update_index")

_MAX_DEAD = 4
"""One passage in so many may be of those that were taken out; with more, a new build is made."""
_OPEN_ATTEMPTS = 3

logger = logging.getLogger(__name__)


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
    settings, directory = settings or RetrievalSettings(), Path(directory)
    with writing(directory):
        try:
            old = _open_old(directory) if is_index(directory) else None
        except RetrievalError as failure:
            logger.warning("all passages count as new: %s", failure)
            old = None
        return _Writer(directory, settings, embedder, old).write(passages_of_loaded(passages, reading))


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
        RetrievalError: There is no index, or none whose passages can be read; nothing would be left in it, another
            process is building there, or `removed` is no list of ids.
    """
    directory = Path(directory)
    ids = list(removed)
    if isinstance(removed, str) or not all(isinstance(each, str) for each in ids):
        raise RetrievalError(f"removed is {str(removed)[:80]!r}; expected a list of ids, which are strings")
    Manifest.read(directory)  # Nothing is created where there is no index.
    with writing(directory):
        old = _open_old(directory)
        as_built = RetrievalSettings(
            mode=old.manifest.mode,
            rrf_k=old.manifest.rrf_k,
            embedder=old.manifest.embedder or "minilm",
            dense=settings.dense if settings is not None else "chroma",
        )
        writer = _Writer(directory, as_built, embedder, old)
        return writer.write(passages_of_loaded(added, reading), ids)


class _Old(NamedTuple):
    """What an index was before it is changed."""

    manifest: Manifest
    passages: PassageFile


def _open_old(directory: Path) -> _Old:
    manifest = Manifest.read(directory)
    try:
        return _Old(manifest, PassageFile(directory / manifest.folder, manifest.extent, is_kept=False))
    except RetrievalError as failure:
        raise RetrievalError(with_advice(failure)) from failure


class _Writer:
    """Changes an index, or writes the first. `old` is what there is."""

    def __init__(
        self, directory: Path, settings: RetrievalSettings, embedder: Embedder | None, old: _Old | None
    ) -> None:
        self._directory = directory
        self._settings = settings
        self._embedder = embedder or SentenceEmbedder(settings.embedder)
        self._parts = _parts_of(settings.mode)
        self._failures = Failures()
        self._old = old
        self._is_built_again = False

    def write(self, passages: Iterable[Passage], removed: Collection[str] | None = None) -> IndexReport:
        """Append passages (`append_passages`), bring the parts in line, and make it the index."""
        from masksearch_agent.retrieval.passage_writer import append_passages

        old, self._is_built_again = self._old, removed is None
        embeds = any(mode.embeds for mode in self._parts.values()) and isinstance(self._settings.dense, str)
        wanted = Manifest(
            extent=Extent(),
            parts=tuple(sorted(self._parts)),
            embedder=self._embedder.name if embeds else "",
            mode=self._settings.mode,
            rrf_k=self._settings.rrf_k,
            folder="",
        )
        if old is not None:
            folder = self._directory / old.manifest.folder
            extent = append_passages(folder, old.passages, passages, removed)
            wanted = replace(wanted, folder=old.manifest.folder, extent=extent)
            if extent == old.passages.extent and self._serves(old, wanted):
                logger.info("the index in %s is up to date", self._directory)
                if (old.manifest.mode, old.manifest.rrf_k) != (wanted.mode, wanted.rrf_k):
                    replace(old.manifest, mode=wanted.mode, rrf_k=wanted.rrf_k).write(self._directory)
                return IndexReport(len(old.passages), 0, 0, embedded=0, failures=old.manifest.failures)
            if self._grows(old, wanted):
                return self._grow(old, wanted)
            passages = PassageFile(folder, extent, is_kept=False)
        build = Path(tempfile.mkdtemp(prefix=BUILD_PREFIX, dir=self._directory))
        return self._build(replace(wanted, folder=build.name, extent=append_passages(build, None, passages)))

    def _build(self, wanted: Manifest) -> IndexReport:
        """Write all parts, taking over what the old ones have."""
        old = self._old
        passages = PassageFile(self._directory / wanted.folder, wanted.extent, is_kept=False)
        embedded = 0
        for name, mode in self._parts.items():
            older = None
            if old is not None and name in old.manifest.parts:
                is_usable = not mode.embeds or old.manifest.embedder == wanted.embedder
                older = self._part(old.manifest, name, old.passages) if is_usable else None
            embedded += mode.build(self._part(wanted, name, passages), older)
        extent = replace(wanted.extent, purged=wanted.extent.dead)
        replace(wanted, extent=extent, failures=dict(self._failures.reasons)).write(self._directory)
        if old is not None:
            for mode, part in self._installed(old):
                try:
                    mode.drop(part)
                except RetrievalError as failure:
                    logger.warning("what the old index kept elsewhere stays there: %s", failure)
        return self._report(passages, embedded)

    def _grow(self, old: _Old, wanted: Manifest) -> IndexReport:
        """Add to all parts, tell of it, and then take out of them what the index has forgotten."""
        passages = PassageFile(self._directory / wanted.folder, wanted.extent, is_kept=False)
        first = old.manifest.extent.rows
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
        return self._report(passages, embedded)

    def _grows(self, old: _Old, wanted: Manifest) -> bool:
        return (
            all(mode.grows for mode in self._parts.values())
            and (old.manifest.parts, old.manifest.embedder) == (wanted.parts, wanted.embedder)
            and _MAX_DEAD * wanted.extent.dead <= wanted.extent.rows
            and self._is_whole(old)
        )

    def _serves(self, old: _Old, wanted: Manifest) -> bool:
        """Tell whether an index of the same passages is what is wanted, however it is to be opened."""
        known, extent = old.manifest, old.manifest.extent
        has_parts = set(wanted.parts) <= set(known.parts) and wanted.embedder in ("", known.embedder)
        return has_parts and extent.purged == extent.dead and self._is_whole(old)

    def _is_whole(self, old: _Old) -> bool:
        try:
            for mode, part in self._installed(old):
                is_kept = self._is_built_again and mode in self._parts.values()
                (mode.check_whole if is_kept else mode.check)(part)
        except RetrievalError as failure:
            logger.warning("building the index again: %s", failure)
            return False
        return True

    def _installed(self, old: _Old) -> list[tuple[RetrieverMode, IndexPart]]:
        """Return the old parts but those of modes that are not installed any more."""
        names = set(RETRIEVER_MODES.names()) & set(old.manifest.parts)
        return [(RETRIEVER_MODES.get(name), self._part(old.manifest, name, old.passages)) for name in names]

    def _part(self, manifest: Manifest, name: str, passages: PassageFile) -> IndexPart:
        folder = self._directory / manifest.folder / name
        return IndexPart(folder, passages, self._embedder, self._settings.dense_place, self._failures)

    def _report(self, now: PassageFile, embedded: int) -> IndexReport:
        before = self._old.passages if self._old is not None else None
        return report_change(before, now, embedded, self._failures.reasons, not self._is_built_again)


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
    manifest = Manifest.read(directory)
    for _ in range(_OPEN_ATTEMPTS - 1):
        try:
            return _open(directory, manifest, mode or manifest.mode, embedder, vector_store)
        except RetrievalError:
            # A writer may have replaced the index while it was being opened.
            before, manifest = manifest, Manifest.read(directory)
            if manifest == before:
                raise
    return _open(directory, manifest, mode or manifest.mode, embedder, vector_store)


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
    embeds = any(part.embeds for part in parts.values())
    if embeds and manifest.embedder and chosen.name != manifest.embedder:
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
        raise RetrievalError(with_advice(failure)) from failure
    return RETRIEVER_MODES.get(mode).fuse(backends, manifest.rrf_k)  # type: ignore[no-any-return]


def _parts_of(mode: str) -> dict[str, RetrieverMode]:
    """Return the modes whose parts a mode searches: itself, or those that it names."""
    return {name: RETRIEVER_MODES.get(name) for name in RETRIEVER_MODES.get(mode).parts or (mode,)}
