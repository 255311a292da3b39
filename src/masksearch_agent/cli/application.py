"""What the commands share: the application they belong to, their options, how they print."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console, RenderableType
from rich.markup import escape

from masksearch_agent.errors import ConfigError, MaskSearchError, TraceError
from masksearch_agent.failures import is_exhausted
from masksearch_agent.jsonl import dump_record

if TYPE_CHECKING:
    from masksearch_agent.cluster.ray_pool import RayPool
    from masksearch_agent.config.recipe import Recipe
    from masksearch_agent.lab.recipe import LabRecipe
    from masksearch_agent.reports.records import RunReport, StageCost
    from masksearch_agent.stages.stage import Spent
    from masksearch_agent.traces.store import TraceStore

app = typer.Typer(
    name="masksearch",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Train, serve and evaluate search agents on your own documents. New here? `masksearch quickstart`.",
)


MESSAGES = Console(stderr=True)
"""Progress and messages: standard output is for results."""
_STOPPED = 130
"""Exit code after Ctrl-C, as Typer and shells have it."""
_TERMINATED = 143
"""Exit code after SIGTERM, as shells have it."""
_FAILED_ITEMS = 3
"""Exit code of a command that is done, but for items that failed."""

RecipeOption = Annotated[Path | None, typer.Option("--recipe", help="YAML file of settings.", dir_okay=False)]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Override one setting: `room.setting=value`. Repeatable.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
IndexOption = Annotated[
    Path,
    typer.Option(
        "--index",
        help="Folder that `masksearch index` wrote; or a web search: `web:wikipedia`, `web:duckduckgo`, `web:tavily`, "
        "`web:serper`, `web:serpapi`; or a retriever server: `http://10.0.0.5:8000`.",
    ),
]
AgentOption = Annotated[str, typer.Option("--agent", help="Agent bundle: a folder, or a hub id.")]
BaseUrlOption = Annotated[
    str | None,
    typer.Option("--base-url", help="Sample at this vLLM server of the bundle (`masksearch serve`)."),
]

EngineOption = Annotated[
    Literal["local", "ray"] | None,
    typer.Option(
        help="Work in this process, or in the workers of a Ray cluster (`engine.name` of the recipe)."
    ),
]
RayAddressOption = Annotated[
    str | None,
    typer.Option(
        help="Join this Ray cluster: `host:6379`, or `auto`. None: RAY_ADDRESS, or else a cluster of this machine."
    ),
]
RetryFailedOption = Annotated[
    bool, typer.Option("--retry-failed", help="Try again what failed before, with what is missing.")
]
MaxFailedOption = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        help="Share of items that may fail before the exit code is 3 (`max_failed`, 0 by default).",
    ),
]


def main() -> None:
    """Run the command line; errors of this package, a full disk or memory, and files that cannot be used become one
    line and exit code 1.

    SIGTERM stops a command as Ctrl-C does; the exit codes are 143 and 130.
    """
    # Loading and saving weights would draw bars of their own between ours. `=0` shows them, and downloads from a hub.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    # Between transformers and TRL; there is nothing that a user could do about them.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers\.|trl\.")
    try:
        with _stopped_by_sigterm() as terminations:
            app()
    except (SystemExit, KeyboardInterrupt) as ended:
        # Before a command has begun, Typer does not make an exit code of Ctrl-C.
        if isinstance(ended, SystemExit) and ended.code != _STOPPED:
            raise
        MESSAGES.print("\nStopped. Run the same command again to go on from here.")
        sys.exit(_TERMINATED if terminations else _STOPPED)
    except BrokenPipeError:
        # Nobody reads: say nothing more there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as failure:
        is_full, what = is_exhausted(failure), str(failure) or "no memory is left"
        if isinstance(failure, OSError) and failure.filename is not None and not is_full:
            # A file that was written beside its place has the place as the second name.
            what = f"cannot use {failure.filename2 or failure.filename}: {failure.strerror}"
        elif not is_full and not isinstance(failure, MaskSearchError):
            raise
        again = "; what was finished is kept. Make room and run the same command again to go on from here."
        told = f"[bold red]error:[/] {escape(what)}{again if is_full else ''}"
        MESSAGES.print(told, highlight=False, soft_wrap=True)
        sys.exit(1)


@contextmanager
def _stopped_by_sigterm() -> Iterator[list[int]]:
    """Have SIGTERM do what Ctrl-C does; give a list that every SIGTERM adds to."""
    received: list[int] = []

    def stop(number: int, frame: Any) -> None:
        received.append(number)
        # Under a running event loop Ctrl-C has a handler that cancels the work.
        of_ctrl_c = signal.getsignal(signal.SIGINT)
        (of_ctrl_c if callable(of_ctrl_c) else signal.default_int_handler)(signal.SIGINT, frame)

    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield received
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def folder_option(help: str) -> Any:
    """Return an option that names a folder to write to, refused at once where that cannot be."""
    return typer.Option(help=help, callback=lambda path: _writable(path, is_folder=True))


def file_option(help: str) -> Any:
    """Return an option that names a file to write, refused at once where that cannot be."""
    return typer.Option(help=help, callback=lambda path: _writable(path, is_folder=False))


def _writable(path: Path | None, *, is_folder: bool) -> Path | None:
    """Return a path as it is.

    Raises:
        ConfigError: It is of another kind, or what it is to be made in is a file or not writable.
    """
    if path is None:
        return None
    kind = "folder" if is_folder else "file"
    if path.exists() and path.is_dir() != is_folder:
        raise ConfigError(f"{path} is a {'file' if is_folder else 'folder'}; name a {kind} to write to")
    there = next(place for place in (path, *path.absolute().parents) if place.exists())
    if there.is_file() and there != path:
        raise ConfigError(f"{path} cannot be made, because {there} is a file; name another {kind}")
    if not os.access(there, os.W_OK):
        raise ConfigError(f"{path} cannot be written, because {there} is not writable; name another {kind}")
    return path


def resolve_recipe(
    path: Path | None,
    overrides: list[str] | None,
    engine: str | None = None,
    ray_address: str | None = None,
    max_failed: float | None = None,
) -> LabRecipe:
    """Return the recipe of a command, which may be one of an experiment; `--set` wins over its other options."""
    from masksearch_agent.config.recipe import load_recipe
    from masksearch_agent.lab.recipe import LabRecipe

    options = {"engine.name": engine, "engine.ray_address": ray_address}
    chosen = [f"{key}={value}" for key, value in options.items() if value]
    chosen += [f"max_failed={max_failed}"] if max_failed is not None else []
    return load_recipe(path, [*chosen, *(overrides or [])], LabRecipe)


def exit_by_failures(failed: int, items: int, max_failed: float, can_retry: bool = False) -> None:
    """Say how many items of a command failed, and end it with exit code 3 where that are more than `max_failed`."""
    if not failed:
        return
    again = "; `--retry-failed` tries them again" if can_retry else ""
    told = f"[yellow]{failed:,} of {items:,} items failed[/] ({failed / max(items, 1):.1%}){again}"
    MESSAGES.print(f"{told}; `--max-failed` says how many may fail", highlight=False, soft_wrap=True)
    if failed / max(items, 1) > max_failed:
        raise typer.Exit(_FAILED_ITEMS)


def exit_by_stages(stages: Sequence[StageCost | Spent], max_failed: float, can_retry: bool = True) -> None:
    """Do what `exit_by_failures` does, for what failed in the stages of a run."""
    failed, items = sum(stage.failed for stage in stages), sum(stage.items for stage in stages)
    exit_by_failures(failed, items, max_failed, can_retry)


@contextmanager
def ray_pool(resolved: Recipe) -> Iterator[RayPool]:
    """Join or start a Ray cluster for the duration."""
    from masksearch_agent.cluster.ray_pool import RayPool

    # Ray reports a lost machine on standard output, which is for results.
    with redirect_stdout(sys.stderr), RayPool(resolved.engine) as pool:
        yield pool


def open_store(path: Path) -> TraceStore:
    """Open a trace store that is there; a `TraceError` where there is none."""
    from masksearch_agent.traces.store import TraceStore

    if not path.is_file():
        raise TraceError(f"no trace store at {path}; generate trajectories with `masksearch generate`")
    return TraceStore(path)


def cost_text(report: RunReport) -> str:
    """Say how long a run took, and its memory."""
    minutes, memory_gb = (report.wall_seconds or 0) / 60, report.peak_memory_gb or 0
    return f"{minutes:.1f} minutes, {memory_gb:.1f} GB at most"


def print_report(report: Any, shown: RenderableType, files: Mapping[str, Path], as_json: bool) -> None:
    """Print a run's report as JSON; or else what is shown of it, and the files that it wrote."""
    if as_json:
        print_result(dump_record(report), True)
        return
    Console().print(shown)
    print_result(dict(files), False)


def print_result(result: dict[str, Any], as_json: bool) -> None:
    """Print a result on standard output, as JSON or a line an entry."""
    if as_json:
        sys.stdout.write(json.dumps(result, ensure_ascii=False, indent=2) + "\n")
        return
    console = Console()
    for name, value in result.items():
        console.print(f"[bold]{name}[/]: {escape(str(value))}", highlight=False, soft_wrap=True)
