"""What a run's folder says of its stages."""

from __future__ import annotations

import json
from pathlib import Path


def finished_stages(run: Path) -> dict[str, int]:
    """Return when each finished stage was written down, by its name, in that order."""
    pages = sorted((run / "ledger").rglob("*.json"), key=lambda page: page.stat().st_mtime_ns)
    return {
        page.relative_to(run / "ledger").with_suffix("").as_posix(): page.stat().st_mtime_ns
        for page in pages
        if "seconds" in json.loads(page.read_text())
    }
