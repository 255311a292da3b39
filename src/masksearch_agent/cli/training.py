"""Commands that train an agent: SFT and DAPO."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

import typer
from rich.console import Console
from rich.markup import escape

from masksearch_agent.cli import application as cli
from masksearch_agent.config.trainers import DAPOSettings, MonitorSettings, SFTSettings
from masksearch_agent.environment import is_first_process, process_count
from masksearch_agent.errors import ConfigError, TrainingError
from masksearch_agent.retrieval.search import Search

if TYPE_CHECKING:
    from masksearch_agent.config.recipe import Recipe
    from masksearch_agent.lab.recipe import LabRecipe
    from masksearch_agent.records import Trajectory
    from masksearch_agent.stages.display import Display
    from masksearch_agent.stages.stage import Spent
    from masksearch_agent.stages.training import ExamTasks

SettingsT = TypeVar("SettingsT", SFTSettings, DAPOSettings)

ExamOption = Annotated[
    Path | None,
    typer.Option(
        help="Tasks or questions, trained on nowhere, that the agent is examined on while it trains: the best weights "
        "are kept, and a run that falls is stopped (`monitor` of the settings)."
    ),
]


@cli.app.command()
def sft(
    traces: Annotated[Path, typer.Option(help="Trace store.")],
    out: Annotated[Path, cli.folder_option("Folder of the new agent bundle.")],
    agent: Annotated[
        str | None,
        typer.Option(help="Agent bundle to start from; none starts from the recipe's `base_model`."),
    ] = None,
    index: Annotated[Path | None, typer.Option(help="Index the new agent searches by default.")] = None,
    stage: Annotated[
        str | None,
        typer.Option(
            help="Train on the accepted trajectories of this stage; by default `ramp`, or `qa` for `qa_sft`."
        ),
    ] = None,
    ramp_traces: Annotated[
        Path | None,
        typer.Option(
            help="Trace store whose stage `ramp` the share `qa_sft.ramp_share` is drawn from; by default `--traces`."
        ),
    ] = None,
    use: Annotated[
        Literal["ramp_sft", "qa_sft"], typer.Option(help="Which settings of the recipe to train with.")
    ] = "ramp_sft",
    exam: ExamOption = None,
    max_failed: cli.MaxFailedOption = None,
    recipe: cli.RecipeOption = None,
    settings: cli.SetOption = None,
    as_json: cli.JsonOption = False,
) -> None:
    """Fine-tune on accepted trajectories. Stopped, it goes on from its last checkpoint.

    With `--use qa_sft --set qa_sft.ramp_share=0.3`, three of ten trajectories are RAMP's, so that it is not unlearned.

    Example: `masksearch sft --traces runs/traces.sqlite --index runs/index --out runs/agent_sft`
    """
    from masksearch_agent.stages.sft import run_sft

    resolved = _resolve_recipe(recipe, settings, max_failed, index)
    source, stage = Path(agent) if agent else out / "base", stage or use.removesuffix("_sft")
    chosen = getattr(resolved, use)
    _check_mix(ramp_traces, "--ramp-traces", f"{use}.ramp_share", chosen.ramp_share)
    with cli.open_store(traces) as store, _display().stage("SFT") as bar:
        trajectories = list(store.trajectories(stage, accepted=True))
        if not trajectories:
            raise TrainingError(
                f"{traces} holds no accepted trajectory of the stage {stage!r}; name one with --stage"
            )
        ramp = _read_ramp(ramp_traces or traces) if chosen.ramp_share else []
        if agent:
            _note_kept_settings(resolved, source)
        else:
            _make_agent(resolved, source, use)
        chosen, tasks = _examine(chosen, exam, _open_search(index, source, resolved) if exam else None)
        spent = run_sft(
            source, trajectories, chosen, out, f"{stage}_sft", bar.training_listener(), index, ramp, tasks,
            resolved.report_to,
        )  # fmt: skip
    _finish(out, spent, resolved, as_json)


@cli.app.command()
def dapo(
    tasks: Annotated[list[Path], typer.Option(help="Task files, or Parquet files as Search-R1 writes them.")],
    out: Annotated[Path, cli.folder_option("Folder of the new agent bundle.")],
    agent: Annotated[
        str | None,
        typer.Option(help="Agent bundle to start from; none starts from the recipe's `base_model`."),
    ] = None,
    index: Annotated[Path | None, typer.Option(help="Search this index instead of the bundle's.")] = None,
    ramp_tasks: Annotated[
        list[Path] | None,
        typer.Option(help="Task file that the share `qa_dapo.ramp_share` is drawn from. Repeatable."),
    ] = None,
    use: Annotated[
        Literal["ramp_dapo", "qa_dapo"], typer.Option(help="Which settings of the recipe to train with.")
    ] = "ramp_dapo",
    exam: ExamOption = None,
    max_failed: cli.MaxFailedOption = None,
    recipe: cli.RecipeOption = None,
    settings: cli.SetOption = None,
    as_json: cli.JsonOption = False,
) -> None:
    """Train an agent by reinforcement: DAPO with rollouts through its own graph.

    Example: `masksearch dapo --agent runs/agent_sft --tasks runs/tasks/ramp.jsonl --out runs/agent_dapo`
    """
    from masksearch_agent.stages.dapo import run_dapo
    from masksearch_agent.stages.plan import rollouts_of
    from masksearch_agent.stages.tasks import read_task_files

    resolved = _resolve_recipe(recipe, settings, max_failed, index)
    chosen = getattr(resolved, use)
    if chosen is None:
        raise ConfigError(f"the recipe has no {use}; add it, or pass `--use ramp_dapo`")
    _check_mix(ramp_tasks, "--ramp-tasks", f"{use}.ramp_share", chosen.ramp_share)
    ramp = read_task_files(ramp_tasks) if ramp_tasks else ()
    source = Path(agent) if agent else out / "base"
    if agent:
        _note_kept_settings(resolved, source)
    elif index is None:
        raise ConfigError("an agent that starts from the recipe's base_model has no index; pass --index")
    else:
        _start_agent(resolved, source, use)
    search = _open_search(index, source, resolved)
    chosen, exam_tasks = _examine(chosen, exam, search)
    with _display().stage("DAPO", total=chosen.max_steps) as bar:
        spent = run_dapo(
            source, read_task_files(tasks), search, chosen, rollouts_of(resolved), out, "dapo",
            bar.training_listener(), index, ramp, exam_tasks, resolved.report_to,
        )  # fmt: skip
    _finish(out, spent, resolved, as_json)


def _display() -> Display:
    """Return what shows a stage: of several processes, the first one's alone."""
    from masksearch_agent.stages.display import Display

    return Display(cli.MESSAGES if is_first_process() else Console(quiet=True))


def _finish(out: Path, spent: Spent, recipe: Recipe, as_json: bool) -> None:
    """Print what a stage came to, once however many processes trained; the exit code is that of each."""
    if is_first_process():
        cli.print_result({"agent": str(out), **dataclasses.asdict(spent)}, as_json)
    cli.exit_by_stages([spent], recipe.max_failed, can_retry=False)


def _resolve_recipe(
    path: Path | None, settings: list[str] | None, max_failed: float | None, index: Path | None
) -> LabRecipe:
    """Return the recipe of a command, once what it logs to and the index are seen to be there."""
    from masksearch_agent.retrieval.adapters import is_folder
    from masksearch_agent.retrieval.manifest import Manifest
    from masksearch_agent.trainers.trackers import require_trackers

    resolved = cli.resolve_recipe(path, settings, max_failed=max_failed)
    require_trackers(resolved.report_to)
    if index is not None and is_folder(index):
        Manifest.read(index)  # The new agent keeps its name, and SFT does not open it.
    return resolved


def _note_kept_settings(recipe: Recipe, source: Path) -> None:
    """Say which of the recipe's settings of the agent do not hold, as a bundle brings its own."""
    from masksearch_agent.agent.bundle import read_bundle_info

    told, kept = recipe.agent, read_bundle_info(source).agent
    others = [name for name in sorted(told.model_fields_set) if getattr(told, name) != getattr(kept, name)]
    if others and is_first_process():
        named = ", ".join(f"agent.{name} ({getattr(kept, name)})" for name in others)
        cli.MESSAGES.print(
            f"as {source} has it, not the recipe: {escape(named)}", highlight=False, soft_wrap=True
        )


def _start_agent(recipe: Recipe, folder: Path, use: str) -> None:
    """Make an agent of the recipe's untrained model, unless an earlier run has.

    Raises:
        ConfigError: The earlier run's is another one, or several processes would make it.
    """
    from masksearch_agent.agent.bundle import BUNDLE_FILE, read_bundle_info
    from masksearch_agent.stages.plan import prompts_of

    if (folder / BUNDLE_FILE).is_file():
        made = read_bundle_info(folder)
        known = {
            "base_model": made.provenance.get("base_model"),
            "prompts": made.prompts,
            "agent": made.agent,
        }
        wanted = {"base_model": recipe.base_model, "prompts": prompts_of(recipe), "agent": recipe.agent}
        if changed := [name for name in wanted if known[name] != wanted[name]]:
            raise ConfigError(
                f"{folder} was made with another {', '.join(changed)} than the recipe has; pass another --out, or "
                f"delete the folder to start anew"
            )
        return
    _make_agent(recipe, folder, use)


def _make_agent(recipe: Recipe, folder: Path, use: str) -> None:
    """Make an agent of the recipe's untrained model.

    Raises:
        ConfigError: Several processes would make it.
    """
    from masksearch_agent.stages.base import make_base_bundle
    from masksearch_agent.stages.plan import prompts_of

    if process_count() > 1:
        raise ConfigError(
            f"several processes cannot make {folder} together; run the command once in one process, with `--set "
            f"{use}.max_steps=1` and another --out, and pass the `base` in there as --agent"
        )
    make_base_bundle(recipe.base_model, recipe.name, prompts_of(recipe), recipe.agent, folder)


def _open_search(index: Path | None, agent: str | Path, recipe: Recipe) -> Search:
    """Return the search of an index, or else a bundle's own."""
    from masksearch_agent.agent.bundle import open_bundle_search
    from masksearch_agent.retrieval.adapters import open_search

    return open_search(index, recipe.retrieval) if index else open_bundle_search(agent).for_run()


def _examine(
    settings: SettingsT, exam: Path | None, search: Search | None
) -> tuple[SettingsT, ExamTasks | None]:
    """Return the settings, and what an agent is examined on; a file that is given is used in any case."""
    from masksearch_agent.evaluation.sources import read_tasks
    from masksearch_agent.stages.training import ExamTasks

    if exam is None or search is None:
        return settings, None
    monitored = settings.model_copy(update={"monitor": settings.monitor or MonitorSettings()})
    return monitored, ExamTasks(list(read_tasks(exam)), search)


def _read_ramp(traces: Path) -> list[Trajectory]:
    with cli.open_store(traces) as store:
        return list(store.trajectories("ramp", accepted=True))


def _check_mix(given: object, option: str, setting: str, share: float) -> None:
    """Refuse RAMP that nothing would be drawn from."""
    if given and not share:
        raise ConfigError(f"{option} was passed, but {setting} is 0; set it, as in `--set {setting}=0.3`")
