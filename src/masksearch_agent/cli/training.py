"""Commands that train: the tiny base model, SFT and DAPO."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from masksearch_agent.cli.application import (
    MESSAGES,
    AgentOption,
    JsonOption,
    RecipeOption,
    SetOption,
    app,
    open_index_search,
    open_store,
    print_result,
    resolve_recipe,
)
from masksearch_agent.errors import ConfigError


@app.command()
def base(
    out: Annotated[Path, typer.Option(help="Folder of the checkpoint.")] = Path("runs/tiny_base"),
    recipe: RecipeOption = None,
    settings: SetOption = None,
) -> None:
    """Teach a tiny model to read: how the base model in this package was made.

    Example: `masksearch base --recipe training/tiny_base.yaml --out runs/tiny_base`
    """
    from masksearch_agent.lab.base_stage import train_base
    from masksearch_agent.pipeline.display import Display
    from masksearch_agent.trainers.callbacks import MetricsLog

    resolved = resolve_recipe(recipe, settings)
    if resolved.base_stage is None:
        raise ConfigError("the recipe has no base_stage; start from training/tiny_base.yaml")
    with Display(MESSAGES).stage("base stage") as bar:
        train_base(resolved.base_stage, out, (MetricsLog(out / "metrics.jsonl", bar.training_listener()),))
    print_result({"checkpoint": str(out)}, False)


@app.command()
def sft(
    traces: Annotated[Path, typer.Option(help="Trace store.")],
    out: Annotated[Path, typer.Option(help="Folder of the new agent bundle.")],
    agent: Annotated[
        str | None,
        typer.Option(help="Agent bundle to start from; none starts from the recipe's `base_model`."),
    ] = None,
    index: Annotated[Path | None, typer.Option(help="Index the new agent searches by default.")] = None,
    stage: Annotated[str, typer.Option(help="Train on the accepted trajectories of this stage.")] = "ramp",
    recipe: RecipeOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Fine-tune on accepted trajectories. Stopped, it goes on from its last checkpoint.

    Example: `masksearch sft --traces runs/traces.sqlite --index runs/index --out runs/agent_sft`
    """
    from masksearch_agent.pipeline.display import Display
    from masksearch_agent.pipeline.training import make_base_bundle, run_sft

    resolved = resolve_recipe(recipe, settings)
    source = Path(agent) if agent else out / "base"
    stage_settings = resolved.ramp_sft if stage == "ramp" else resolved.qa_sft
    with open_store(traces) as store, Display(MESSAGES).stage("SFT") as bar:
        if not agent:
            make_base_bundle(resolved, source)
        trajectories = list(store.trajectories(stage, accepted=True))
        result = run_sft(
            source, trajectories, stage_settings, out, f"{stage}_sft", bar.training_listener(), index
        )
    print_result({"agent": str(out), **dataclasses.asdict(result)}, as_json)


@app.command()
def dapo(
    agent: AgentOption,
    tasks: Annotated[list[Path], typer.Option(help="Task files.")],
    out: Annotated[Path, typer.Option(help="Folder of the new agent bundle.")],
    index: Annotated[Path | None, typer.Option(help="Search this index instead of the bundle's.")] = None,
    recipe: RecipeOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train an agent by reinforcement: DAPO with rollouts through its own graph.

    Example: `masksearch dapo --agent runs/agent_sft --tasks runs/tasks/ramp.jsonl --out runs/agent_dapo`
    """
    from masksearch_agent.agent.bundle import open_bundle_search
    from masksearch_agent.pipeline.data import read_task_files
    from masksearch_agent.pipeline.display import Display
    from masksearch_agent.pipeline.training import run_dapo

    resolved = resolve_recipe(recipe, settings)
    search = open_index_search(index, resolved) if index else open_bundle_search(agent)
    with Display(MESSAGES).stage("DAPO", total=resolved.ramp_dapo.max_steps) as bar:
        result = run_dapo(
            Path(agent), read_task_files(tasks), search, resolved, resolved.ramp_dapo, out, "dapo",
            bar.training_listener(), index,
        )  # fmt: skip
    print_result({"agent": str(out), **dataclasses.asdict(result)}, as_json)
