"""Commands that evaluate an agent and compare two evaluations."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape

from masksearch_agent.cli import application as cli

JudgeOption = Annotated[
    str | None,
    typer.Option(
        help="Model that judges answers: `provider:model` (LangChain's `init_chat_model`) or a checkpoint folder."
    ),
]
BaselineOption = Annotated[
    Literal["rag-pe", "agent-pe", "rag-3shot"] | None,
    typer.Option(
        help="Evaluate the untrained model instead: retrieving once, searching, or retrieving once in plain text."
    ),
]
BaseModelOption = Annotated[
    str | None, typer.Option(help="The untrained model, where the bundle's own word for it is out of date.")
]


@cli.app.command("eval")
def evaluate_agent(
    agent: cli.AgentOption,
    data: Annotated[
        list[Path],
        typer.Option(help="Questions: task or benchmark files, or `hf:owner/name@config:split` of the hub."),
    ],
    index: Annotated[Path | None, typer.Option(help="Search this index instead of the bundle's.")] = None,
    mode: Annotated[
        Literal["agentic", "rag"], typer.Option(help="The search graph, or the retrieve-once baseline.")
    ] = "agentic",
    baseline: BaselineOption = None,
    base_model: BaseModelOption = None,
    judge: JudgeOption = None,
    out: Annotated[
        Path | None,
        cli.folder_option(
            "Folder for per-question results; makes it resumable. `report.html` there shows all its runs."
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Ask this many questions of each file at most.")
    ] = None,
    base_url: cli.BaseUrlOption = None,
    retry_failed: cli.RetryFailedOption = False,
    max_failed: cli.MaxFailedOption = None,
    engine: cli.EngineOption = None,
    ray_address: cli.RayAddressOption = None,
    recipe: cli.RecipeOption = None,
    settings: cli.SetOption = None,
    as_json: cli.JsonOption = False,
) -> None:
    """Evaluate an agent on question files.

    Example: `masksearch eval --agent runs/agent --data questions.jsonl --out runs/evals`, then open
    `runs/evals/report.html`: scores with intervals, failures, and every question with its trajectory.
    """
    from masksearch_agent.config.judging import JudgeSettings
    from masksearch_agent.evaluation.asking import AgentChoice, QuestionFiles, evaluate_files
    from masksearch_agent.judging.judge import open_judge
    from masksearch_agent.reports.evaluation_page import write_evaluation_page
    from masksearch_agent.stages.display import Display

    resolved = cli.resolve_recipe(recipe, settings, engine, ray_address, max_failed)
    choice = AgentChoice(agent, index, mode, baseline, base_model, base_url)
    model_judge = open_judge(JudgeSettings(model=judge)) if judge else None
    questions = QuestionFiles(data, out, limit, model_judge, retry_failed)
    with Display(cli.MESSAGES).stage("evaluating") as bar:
        if resolved.engine.name == "ray":
            from masksearch_agent.cluster import runs

            with cli.ray_pool(resolved) as pool:
                scores = runs.evaluate_files(pool, choice, questions, resolved, bar.step)
        else:
            scores = evaluate_files(choice, questions, resolved, bar.step)
    cli.print_result(scores, as_json)
    if out is not None:
        page = write_evaluation_page(out, resolved.evaluation)
        cli.MESSAGES.print(f"report: {escape(str(page))}", soft_wrap=True)
    failed, asked = (sum(found[name] for found in scores.values()) for name in ("failed", "n"))
    cli.exit_by_failures(failed, asked, resolved.max_failed, can_retry=True)


@cli.app.command()
def compare(
    before: Annotated[
        Path, typer.Argument(help="Results of one run, as `masksearch eval --out` wrote them.")
    ],
    after: Annotated[Path, typer.Argument(help="Results of the other run on the same questions.")],
    metric: Annotated[
        Literal["recall", "em", "f1", "loose", "judge", "gold_recall"], typer.Option(help="Score to compare.")
    ] = "recall",
    show: Annotated[int, typer.Option(min=0, help="Changed questions to print, better and worse each.")] = 5,
    page: Annotated[
        Path | None, cli.file_option("HTML file to write: both runs, every question and what it gained.")
    ] = None,
    recipe: cli.RecipeOption = None,
    settings: cli.SetOption = None,
    as_json: cli.JsonOption = False,
) -> None:
    """Compare two runs question by question: what got better, what got worse, and whether it is more than chance.

    Example: `masksearch compare runs/evals/qa_2hop_test-rag-pe.jsonl runs/evals/qa_2hop_test-agentic.jsonl`
    """
    from masksearch_agent.evaluation.comparison import compare_files
    from masksearch_agent.reports.evaluation_page import write_comparison_page

    resolved = cli.resolve_recipe(recipe, settings)
    compared = compare_files(before, after, metric, resolved.evaluation)
    if page is not None:
        write_comparison_page(before, after, page, metric, resolved.evaluation)
        cli.MESSAGES.print(f"report: {escape(str(page))}", soft_wrap=True)
    if as_json:
        cli.print_result(dataclasses.asdict(compared), True)
        return
    cli.print_result(
        {
            "questions": compared.n,
            metric: f"{compared.before:.3f} before, {compared.after:.3f} after",
            "gain": f"{compared.gain} ({'sure' if compared.is_significant else 'may be chance'}, 95% paired bootstrap)",
            "better": len(compared.better),
            "worse": len(compared.worse),
            "only in one run": compared.only_before + compared.only_after,
        },
        False,
    )
    console = Console()
    for title, changes in (("Better", compared.better[:show]), ("Worse", compared.worse[:show])):
        for change in changes:
            lines = (
                f"{title}: {change.question} [{change.task_id}]",
                f"  expected {' | '.join(change.gold)}",
                f"  before {change.before:.2f}: {change.answer_before} (trajectory {change.trajectory_before or '–'})",
                f"  after {change.after:.2f}: {change.answer_after} (trajectory {change.trajectory_after or '–'})",
            )
            console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
