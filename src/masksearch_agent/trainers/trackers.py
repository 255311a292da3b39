"""Services that training is logged to (`report_to` of a recipe), through the callbacks that transformers has for them.

A tracker is told every metric of the log, an exam's among them, and the trainer's arguments, which hold no key: the
services read theirs from the environment or from where their own login keeps it. What is tracked is no part of what a
stage depends on.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from masksearch_agent.errors import MissingExtraError

__all__ = ("require_trackers", "tracked", "tracker_arguments")


def require_trackers(trackers: Sequence[str]) -> None:
    """See that what training is to be logged to is installed; called before a run does anything.

    Raises:
        MissingExtraError: The package of a tracker is not installed.
    """
    for package in trackers:
        spec = find_spec(package)
        # A folder of that name is no package: wandb keeps its runs in `wandb/`.
        if spec is None or spec.origin is None:
            raise MissingExtraError(package, package)


def tracker_arguments(trackers: Sequence[str], output_dir: Path) -> dict[str, Any]:
    """Return the `TrainingArguments` of trackers; a run there is called by the run and the stage, as `mine/ramp_sft`.

    Raises:
        MissingExtraError: See `require_trackers`.
    """
    require_trackers(trackers)
    stage = output_dir.resolve().parent
    return {"report_to": list(trackers), "run_name": f"{stage.parent.name}/{stage.name}"}


@contextmanager
def tracked(trackers: Sequence[str]) -> Iterator[None]:
    """End what a training began at its trackers, so that the next stage in this process is a run of its own.

    transformers ends the runs of the others, and leaves those of wandb open; one that was open before stays so. What
    trackers print goes to standard error, as standard output is for results.
    """
    wandb: Any = import_module("wandb") if "wandb" in trackers else None
    is_ours = wandb is not None and wandb.run is None
    code = 1
    with redirect_stdout(sys.stderr) if trackers else nullcontext():
        try:
            yield
            code = 0
        finally:
            if is_ours and wandb.run is not None:
                wandb.finish(exit_code=code)
