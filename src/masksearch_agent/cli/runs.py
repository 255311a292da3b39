"""Commands that do a whole run, and what belongs to runs: their tables, recipes and drawings."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group, RenderableType

from masksearch_agent.cli import application as cli
from masksearch_agent.errors import ConfigError
from masksearch_agent.files import replace_text


@cli.app.command()
def pretrain(
    corpus: Annotated[Path, typer.Argument(help="Documents, as in `masksearch index`.")],
    test: Annotated[
        list[str] | None,
        typer.Option("--test", help="NAME=FILE of questions to ask, answered from the corpus. Repeatable."),
    ] = None,
    test_with_passages: Annotated[
        list[str] | None,
        typer.Option(
            "--test-with-passages",
            help="NAME=FILE of a benchmark that ships its passages (HotpotQA, MuSiQue), which are searched instead.",
        ),
    ] = None,
    train_questions: Annotated[
        list[Path] | None,
        typer.Option(
            help="Questions of a benchmark's format to train on after the masks (Stage II). Repeatable."
        ),
    ] = None,
    out: Annotated[Path, cli.folder_option("Run folder.")] = Path("runs/pretrain"),
    seed: int = 0,
    retry_failed: cli.RetryFailedOption = False,
    max_failed: cli.MaxFailedOption = None,
    recipe: cli.RecipeOption = None,
    settings: cli.SetOption = None,
    as_json: cli.JsonOption = False,
) -> None:
    """Train a search agent on the masks of your documents, by SFT and DAPO, and say whether that helped.

    A tenth of the documents is held back for an exam, which three-shot RAG and the untrained agent take too; the best
    stage is served from the run folder's `agent`. Files of questions are asked in addition; no question but those of
    `--train-questions` is trained on. Stopped, it goes on where it was.

    Example: `masksearch pretrain my_documents/ --recipe training/laptop.yaml`
    """
    from masksearch_agent.reports.terminal import exam_summary, scores_table
    from masksearch_agent.runs.pretraining import Pretraining
    from masksearch_agent.runs.question_files import QuestionFile
    from masksearch_agent.stages.display import Display

    questions = [
        QuestionFile(*_named_file(text), has_passages)
        for has_passages, texts in ((True, test_with_passages), (False, test))
        for text in texts or ()
    ]
    resolved = cli.resolve_recipe(recipe, [*(settings or []), f"seed={seed}"], max_failed=max_failed)
    command = shlex.join(["masksearch", *sys.argv[1:]])
    run = Pretraining(resolved, corpus, questions, out, Display(cli.MESSAGES), command, train_questions or ())
    run.graph.retry_failed = retry_failed
    report = run.run()
    shown: list[RenderableType] = [exam_summary(report.exam)] if report.exam else []
    shown += [scores_table(report)] if report.scores else []
    files = {"agent": run.graph.where(run.agent), "report": out / f"{resolved.name}.md"}
    cli.print_report(report, Group(*shown, cli.cost_text(report)), files, as_json)
    cli.exit_by_stages(report.stages, resolved.max_failed)


def _named_file(text: str) -> tuple[str, Path]:
    name, _, path = text.partition("=")
    if not re.fullmatch(r"\w+", name) or not path:
        raise ConfigError(f"cannot read {text!r}; expected NAME=FILE, with a name of letters and digits")
    return name, Path(path)


@cli.app.command()
def evolve(
    tasks: Annotated[
        list[Path] | None, typer.Argument(help="Task files; none works on a closed world.")
    ] = None,
    index: Annotated[
        Path | None, typer.Option("--index", help="What the tasks are answered from, as in `generate`.")
    ] = None,
    held_out: Annotated[
        list[Path] | None,
        typer.Option("--held-out", help="Task files to measure on; none holds out some of the tasks."),
    ] = None,
    out: Annotated[Path, cli.folder_option("Run folder.")] = Path("runs/evolve"),
    seed: int = 0,
    retry_failed: cli.RetryFailedOption = False,
    max_failed: cli.MaxFailedOption = None,
    recipe: cli.RecipeOption = None,
    settings: cli.SetOption = None,
    as_json: cli.JsonOption = False,
) -> None:
    """Let the student become the teacher: generate, judge, train, and again while held-out recall rises.

    Example: `masksearch evolve runs/tasks/ramp.jsonl --index runs/index --out runs/evolve`
    """
    from masksearch_agent.lab.evolution import WorldEvolution
    from masksearch_agent.lab.shipped import shipped_recipe
    from masksearch_agent.reports.terminal import rounds_table
    from masksearch_agent.runs.evolution import Evolution
    from masksearch_agent.stages.display import Display

    if bool(tasks) != (index is not None):
        raise ConfigError("tasks and --index belong together; pass both, or neither for a closed world")
    path = recipe or (None if tasks else shipped_recipe("evolve"))
    resolved = cli.resolve_recipe(path, [*(settings or []), f"seed={seed}"], max_failed=max_failed)
    display = Display(cli.MESSAGES)
    run: Evolution | WorldEvolution
    if tasks and index is not None:
        run = Evolution(resolved, out, tasks, index, held_out or (), display)
    else:
        run = WorldEvolution(resolved, out, display)
    run.rounds.graph.retry_failed = retry_failed
    report = run.run()
    files = {"agent": out / "agent", "report": out / "report.md"}
    cli.print_report(report, rounds_table(report), files, as_json)
    cli.exit_by_stages(report.stages, resolved.max_failed)


@cli.app.command()
def recipe(
    path: Annotated[Path | None, typer.Argument(help="Recipe to resolve; none prints the defaults.")] = None,
    settings: cli.SetOption = None,
) -> None:
    """Print a recipe with every setting resolved.

    Example: `masksearch recipe training/laptop.yaml`
    """
    import yaml

    resolved = cli.resolve_recipe(path, settings).model_dump(mode="json")
    sys.stdout.write(yaml.safe_dump(resolved, sort_keys=False))


@cli.app.command()
def draw(
    out: Annotated[Path, cli.file_option("Markdown file to write.")] = Path("graphs/README.md"),
) -> None:
    """Draw the graphs (Mermaid).

    Example: `masksearch draw --out graphs/README.md`
    """
    from masksearch_agent.reports.drawing import draw_graphs

    replace_text(out, draw_graphs())
    cli.print_result({"drawing": str(out)}, False)
