"""Commands of the experiments: the closed world, the tiny model, the quickstart and the ablations."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console, Group

from masksearch_agent.cli import application as cli
from masksearch_agent.errors import ConfigError

_PANEL = "Lab: experiments on closed worlds"


@cli.app.command()
def quickstart(
    out: Annotated[Path, cli.folder_option("Run folder.")] = Path("runs/quickstart"),
    seed: int = 0,
    retry_failed: cli.RetryFailedOption = False,
    max_failed: cli.MaxFailedOption = None,
    recipe: cli.RecipeOption = None,
    settings: cli.SetOption = None,
    as_json: cli.JsonOption = False,
) -> None:
    """Train a tiny search agent from scratch and evaluate it, in minutes, on two CPU cores.

    Example: `masksearch quickstart --seed 1 --out runs/quickstart`
    """
    from masksearch_agent.lab.quickstart import Quickstart
    from masksearch_agent.lab.shipped import shipped_recipe
    from masksearch_agent.reports.terminal import scores_table
    from masksearch_agent.stages.display import Display

    path = recipe or shipped_recipe("quickstart")
    resolved = cli.resolve_recipe(path, [*(settings or []), f"seed={seed}"], max_failed=max_failed)
    run = Quickstart(resolved, out, Display(cli.MESSAGES))
    run.graph.retry_failed = retry_failed
    report = run.run()
    cli.print_report(report, Group(scores_table(report), cli.cost_text(report)), {}, as_json)
    if not as_json:
        console = Console()
        console.print(f"Report: {out / 'report.html'} (and report.json)\n\nTry next:")
        for step in report.next_steps:
            console.print(f"  {step}", markup=False, highlight=False, soft_wrap=True)
    cli.exit_by_stages(report.stages, resolved.max_failed)


@cli.app.command(rich_help_panel=_PANEL)
def world(
    out: Annotated[Path, cli.folder_option("Folder to write.")] = Path("runs/world"),
    seed: int = 0,
    recipe: cli.RecipeOption = None,
    settings: cli.SetOption = None,
    as_json: cli.JsonOption = False,
) -> None:
    """Write a closed world: a synthetic encyclopedia with multi-hop questions.

    Example: `masksearch world --seed 1 --out runs/world`
    """
    from masksearch_agent.lab.world import write_closed_world

    cli.print_result(write_closed_world(cli.resolve_recipe(recipe, settings).world, seed, out), as_json)


@cli.app.command(rich_help_panel=_PANEL)
def base(
    out: Annotated[Path, cli.folder_option("Folder of the checkpoint.")] = Path("runs/tiny_base"),
    recipe: cli.RecipeOption = None,
    settings: cli.SetOption = None,
) -> None:
    """Teach a tiny model to read: how the base model in this package was made.

    Example: `masksearch base --recipe training/tiny_base.yaml --out runs/tiny_base`
    """
    from masksearch_agent.lab.base_stage import train_base
    from masksearch_agent.stages.display import Display
    from masksearch_agent.trainers.callbacks import MetricsLog

    resolved = cli.resolve_recipe(recipe, settings)
    if resolved.base_stage is None:
        raise ConfigError("the recipe has no base_stage; start from training/tiny_base.yaml")
    with Display(cli.MESSAGES).stage("base stage") as bar:
        train_base(resolved.base_stage, out, (MetricsLog(out / "metrics.jsonl", bar.training_listener()),))
    cli.print_result({"checkpoint": str(out)}, False)


@cli.app.command(rich_help_panel=_PANEL)
def ablate(
    out: Annotated[Path, cli.folder_option("Run folder.")] = Path("runs/ablate"),
    seeds: Annotated[
        str | None, typer.Option(help="Seeds, such as `0,1,2`; none takes the recipe's.")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="Make only this comparison: `table`, `tokens`, `curriculum`, `rewards`, `sampling`, `leak_guard` or "
            "`evolution`. Repeatable."
        ),
    ] = None,
    retry_failed: cli.RetryFailedOption = False,
    max_failed: cli.MaxFailedOption = None,
    recipe: cli.RecipeOption = None,
    settings: cli.SetOption = None,
    as_json: cli.JsonOption = False,
) -> None:
    """Put the paper's table and its claims to the test on closed worlds, with several seeds.

    Stages that comparisons share are done once. Started again, also with other seeds or comparisons, it does what is
    missing.

    Example: `masksearch ablate --seeds 0,1,2 --only table --only rewards --out runs/ablate`
    """
    from masksearch_agent.lab.ablation import Ablation
    from masksearch_agent.lab.ablation_report import claims_table
    from masksearch_agent.lab.shipped import shipped_recipe
    from masksearch_agent.stages.display import Display

    path = recipe or shipped_recipe("ablate")
    options = {"seeds": seeds, "only": ",".join(only) if only else None}
    chosen = [f"ablation.{key}=[{text}]" for key, text in options.items() if text is not None]
    resolved = cli.resolve_recipe(path, [*chosen, *(settings or [])], max_failed=max_failed)
    run = Ablation(resolved, out, Display(cli.MESSAGES))
    run.graph.retry_failed = retry_failed
    report = run.run()
    cli.print_report(report, claims_table(report), {"report": out / "ablation.md"}, as_json)
    cli.exit_by_stages(run.graph.took(run.exams), resolved.max_failed)


@cli.app.command(rich_help_panel=_PANEL)
def real_text(
    data: Annotated[Path, typer.Option(help="Folder of the sample benchmarks and passages.")] = Path(
        "../shared/data"
    ),
    out: Annotated[Path, cli.folder_option("Run folder.")] = Path("runs/real_text"),
    rows: Annotated[str, typer.Option(help="Agents to make, such as `A,B`.")] = "A,B,C,C+,D,E",
    documents: Annotated[
        list[Path] | None,
        typer.Option(help="Finished run of `masksearch pretrain` on other documents (row H); repeatable."),
    ] = None,
    seed: int = 0,
    retry_failed: cli.RetryFailedOption = False,
    max_failed: cli.MaxFailedOption = None,
    recipe: cli.RecipeOption = None,
    settings: cli.SetOption = None,
) -> None:
    """Compare agents trained on real text with three-shot RAG: masks, questions, both, and DAPO; hours.

    Stopped, it goes on where it was.

    Example: `masksearch real-text --recipe training/laptop.yaml --rows A,B --out runs/real_text`
    """
    from masksearch_agent.lab.real_text import ROWS, RealText
    from masksearch_agent.stages.display import Display

    chosen = [row.strip() for row in rows.split(",")]
    if unknown := set(chosen) - set(ROWS):
        raise ConfigError(
            f"there are no rows {', '.join(sorted(unknown))}; expected some of {', '.join(ROWS)}"
        )
    resolved = cli.resolve_recipe(recipe, [*(settings or []), f"seed={seed}"], max_failed=max_failed)
    run = RealText(resolved, data, out, chosen, Display(cli.MESSAGES), documents or ())
    run.graph.retry_failed = retry_failed
    run.run()
    cli.print_result({"report": str(out / "real_text.md")}, False)
    cli.exit_by_stages(run.graph.took(run.evaluations), resolved.max_failed)


@cli.app.command(rich_help_panel=_PANEL)
def summary(
    runs: Annotated[list[Path], typer.Argument(help="Run folders of `masksearch quickstart`.")],
) -> None:
    """Print the result tables of several runs as Markdown.

    Example: `masksearch summary runs/quickstart-seed0 runs/quickstart-seed1 > docs/results/quickstart.md`
    """
    from masksearch_agent.reports.markdown import summarise_runs
    from masksearch_agent.reports.records import read_report

    sys.stdout.write(summarise_runs([read_report(directory) for directory in runs]))
