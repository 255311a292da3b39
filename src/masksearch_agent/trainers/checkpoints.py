"""Where a stopped training run goes on.

A trainer writes a checkpoint file by file, so a process that is killed meanwhile leaves a folder that looks like
the newest checkpoint and cannot be loaded. The trainer's state is the file that it writes last: a folder without
one is passed over.
"""

from __future__ import annotations

import json
from pathlib import Path

__all__ = ("find_last_checkpoint",)

_PREFIX = "checkpoint-"
_LAST_WRITTEN = "trainer_state.json"


def find_last_checkpoint(directory: Path) -> str | None:
    """Return the newest complete checkpoint that a Hugging Face trainer left in a folder; None without one."""
    found = {
        int(folder.name.removeprefix(_PREFIX)): folder
        for folder in directory.glob(f"{_PREFIX}*")
        if folder.name.removeprefix(_PREFIX).isdecimal() and _is_complete(folder)
    }
    return str(found[max(found)]) if found else None


def _is_complete(folder: Path) -> bool:
    try:
        json.loads((folder / _LAST_WRITTEN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True
