"""The files of a folder, and what of it is left out: nothing is left out without a word but what is hidden."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = ("ABOUT_DATA", "Skip", "files_of")

Skip = Callable[[Path, str, str, bool], None]
"""Takes what is left out, the reason it is counted under, what was wrong, and whether it failed."""

ABOUT_DATA = re.compile(
    r"(readme|changelog|citation|notice|dataset_card|datasheet|(licen[sc]e|copying)"
    r"([._-](mit|isc|bsd|apache|[al]?gpl|lesser|mpl|unlicense|odbl|cdla|cc0?|by|sa|nc|nd|clause|v?\d+))*)"
    r"([._-][a-z]{2,3}([_-][a-z]{2,4})?)?"
)
"""Names of the documents of a folder of data files that tell about them; of each licence, as in `LICENSE-MIT.txt`, and
of each language, as in `README.zh-CN.md`."""
# The room of indexes comes after this one, so the names of its files are written out here.
_BUILD_PREFIX, _BUILD_FILE = "build-", "passages.rows"
_MANIFEST, _MANIFEST_KEYS = "index.json", {"format_version", "folder"}
_MAX_MANIFEST_BYTES = 1 << 20
_LOCK_PREFIX = "~$"


def files_of(folder: Path, skip: Skip) -> Iterator[Path]:
    """Yield the files below a folder, without hidden ones; `skip` hears of all else that is left out."""

    def fail(failure: OSError) -> None:
        skip(Path(failure.filename), "folder cannot be opened", str(failure), True)

    for place, folders, names in os.walk(folder, onerror=fail):
        # Whether or not it has a manifest yet, or still; those of earlier versions had no such files.
        is_built = any(
            each.startswith(_BUILD_PREFIX) and Path(place, each, _BUILD_FILE).is_file() for each in folders
        )
        if is_built or (_MANIFEST in names and _is_manifest(Path(place, _MANIFEST))):
            skip(Path(place), "an index", "an index, which is no document", False)
            folders.clear()
            continue
        folders[:] = sorted(each for each in folders if not each.startswith("."))
        for link in [each for each in folders if os.path.islink(Path(place, each))]:
            detail = "a link to a folder, which is not followed; index its target"
            skip(Path(place, link), "linked folder", detail, False)
            folders.remove(link)
        for path in (Path(place, name) for name in names if not name.startswith(".")):
            # Reading from a pipe would wait for ever. A link to nothing is left to fail by its own reason.
            if path.name.startswith(_LOCK_PREFIX):
                skip(path, "a lock", "the lock of an office program that has a document open", False)
            elif os.path.exists(path) and not os.path.isfile(path):
                skip(path, "no regular file", "a pipe, a socket or a device; expected a regular file", False)
            else:
                yield path


def _is_manifest(path: Path) -> bool:
    """Whether an `index.json` is that of an index of ours, of whichever version."""
    try:
        if not path.is_file() or path.stat().st_size > _MAX_MANIFEST_BYTES:
            return False
        data = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(data, dict) and data.keys() >= _MANIFEST_KEYS
