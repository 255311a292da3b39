"""Where `masksearch` and `python -m masksearch_agent` begin."""

from __future__ import annotations

import sys

__all__ = ("main",)

_STOPPED = 130
"""Exit code after Ctrl-C, as shells have it."""


def main() -> None:
    """Run the command line; Ctrl-C while it is still being imported ends quietly, since nothing has begun."""
    try:
        from masksearch_agent.cli import main as run
    except KeyboardInterrupt:
        sys.exit(_STOPPED)
    run()


if __name__ == "__main__":
    main()
