"""What an index folder says of itself, and who may write in it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from masksearch_agent.errors import RetrievalError
from masksearch_agent.files import is_held, open_locked, replace_text
from masksearch_agent.jsonl import load_record
from masksearch_agent.retrieval.passages import Extent

__all__ = ("BUILD_PREFIX", "Manifest", "is_index", "writing")

_FORMAT_VERSION = 3
_MANIFEST = "index.json"
BUILD_PREFIX = "build-"


@dataclass(frozen=True, slots=True)
class Manifest:
    """An index: the folder with its files, how much of them counts, and how it is opened."""

    extent: Extent
    parts: tuple[str, ...]
    embedder: str
    """Name of the embedder of the parts that embed; empty where no part does."""
    mode: str
    rrf_k: int
    folder: str
    format_version: int = _FORMAT_VERSION
    failures: Mapping[str, int] = field(default_factory=dict)
    """Passages that could not be embedded, by reason."""

    def write(self, directory: Path) -> None:
        """Make this the index, in one step."""
        replace_text(directory / _MANIFEST, json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, directory: Path) -> Manifest:
        """Read the manifest of an index.

        Raises:
            RetrievalError: There is none, or it is damaged or of another version.
        """
        path = directory / _MANIFEST
        if not is_index(directory):
            raise RetrievalError(f"no index in {directory}; run `masksearch index` to build one")
        try:
            data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            version = data.get("format_version")
            if version == _FORMAT_VERSION:
                return load_record(cls, data, RetrievalError)
        except (ValueError, RecursionError, AttributeError, RetrievalError) as failure:
            raise RetrievalError(
                f"{path} is damaged ({failure}); run `masksearch index` to build the index again"
            ) from failure
        raise RetrievalError(
            f"the index in {directory} has format version {version}, expected "
            f"{_FORMAT_VERSION}; run `masksearch index` to build it again"
        )


def is_index(directory: Path) -> bool:
    """Tell whether a folder has a manifest, whole or not."""
    return os.path.isfile(directory / _MANIFEST)  # Which says no to a name that no file can have.


@contextmanager
def writing(directory: Path) -> Iterator[None]:
    """Hold the folder, created where it is missing, against other writers; the end of a process lets it go.

    Builds that are not the index are removed before and after, unless somebody reads them: replaced, failed, or left by
    a killed process.
    """
    if directory.exists() and not is_index(directory) and not _is_free(directory):
        raise RetrievalError(f"{directory} exists and is not an index; choose another folder or remove it")
    directory.mkdir(parents=True, exist_ok=True)
    try:
        handle = open_locked(directory)
    except BlockingIOError as failure:
        raise RetrievalError(
            f"another process is building the index in {directory}; wait for it to end"
        ) from failure
    try:
        _remove_other_builds(directory)
        yield
    finally:
        _remove_other_builds(directory)
        if handle is not None:
            os.close(handle)
        if not any(directory.iterdir()):
            directory.rmdir()


def _is_free(directory: Path) -> bool:
    """Tell whether a folder holds nothing but what killed builds left behind."""
    entries = directory.iterdir() if directory.is_dir() else [directory]
    return all(entry.is_dir() and entry.name.startswith(BUILD_PREFIX) for entry in entries)


def _remove_other_builds(directory: Path) -> None:
    """Remove the builds that are not the index; of a damaged one nothing is kept."""
    try:
        keep = Manifest.read(directory).folder
    except RetrievalError:
        keep = ""
    for build in directory.glob(f"{BUILD_PREFIX}*"):
        if build.is_dir() and build.name != keep and not is_held(build):
            shutil.rmtree(build)
