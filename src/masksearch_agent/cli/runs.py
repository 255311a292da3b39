"""Commands that do a whole run, and what belongs to runs: their tables, recipes and drawings."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from masksearch_agent.cli.application import (
    MESSAGES,
    JsonOption,
    RecipeOption,
    SetOption,
    app,
    print_cost,
    print_result,
    resolve_recipe,
)
from masksearch_agent.errors import ConfigError
from masksearch_agent.jsonl import dump_record


@app.command()
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
    out: Annotated[Path, typer.Option(help="Run folder.")] = Path("runs/pretrain"),
    seed: int = 0,
    recipe: RecipeOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a search agent on the masks of your documents, by SFT and DAPO, and compare it with the untrained model.

    None of the questions is trained on. Stopped, it goes on where it was.

    Example: `masksearch pretrain my_documents/ --test mine=questions.jsonl --recipe training/laptop.yaml`
    """
    from masksearch_agent.reports.terminal import scores_table
    from masksearch_agent.runs.pretraining import Pretraining, QuestionFile
    from masksearch_agent.stages.display import Display

    questions = [
        QuestionFile(*_named_file(text), has_passages)
        for has_passages, texts in ((True, test_with_passages), (False, test))
        for text in texts or ()
    ]
    if not questions:
        raise ConfigError("there is nothing to evaluate on; pass --test or --test-with-passages NAME=FILE")
    resolved = resolve_recipe(recipe, [*(settings or []), f"seed={seed}"])
    command = shlex.join(["masksearch", *sys.argv[1:]])
    report = Pretraining(resolved, corpus, questions, out, Display(MESSAGES), command).run()
    if as_json:
        print_result(dump_record(report), True)
        return
    console = Console()
    console.print(scores_table(report))
    print_cost(report, console)
    print_result({"agent": str(out / "ramp_dapo"), "report": str(out / f"{resolved.name}.md")}, False)


def _named_file(text: str) -> tuple[str, Path]:
    name, _, path = text.partition("=")
    if not re.fullmatch(r"\w+", name) or not path:
        raise ConfigError(f"cannot read {text!r}; expected NAME=FILE, with a name of letters and digits")
    return name, Path(path)


@app.command()
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
    out: Annotated[Path, typer.Option(help="Run folder.")] = Path("runs/evolve"),
    seed: int = 0,
    recipe: RecipeOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
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
    closed_world = shipped_recipe("evolve")
    resolved = resolve_recipe(
        recipe or (None if tasks else closed_world), [*(settings or []), f"seed={seed}"]
    )
    display = Display(MESSAGES)
    run: Evolution | WorldEvolution
    if tasks and index is not None:
        run = Evolution(resolved, out, tasks, index, held_out or (), display)
    else:
        run = WorldEvolution(resolved, out, display)
    report = run.run()
    if as_json:
        print_result(dump_record(report), True)
        return
    Console().print(rounds_table(report))
    print_result({"agent": str(out / "agent"), "report": str(out / "report.md")}, False)


@app.command()
def recipe(
    path: Annotated[Path | None, typer.Argument(help="Recipe to resolve; none prints the defaults.")] = None,
    settings: SetOption = None,
) -> None:
    """Print a recipe with every setting resolved.

    Example: `masksearch recipe training/laptop.yaml`
    """
    import yaml

    sys.stdout.write(yaml.safe_dump(resolve_recipe(path, settings).model_dump(mode="json"), sort_keys=False))


@app.command()
def draw(
    out: Annotated[Path, typer.Option(help="Markdown file to write.")] = Path("graphs/README.md"),
) -> None:
    """Draw the graphs (Mermaid).

    Example: `masksearch draw --out graphs/README.md`
    """
    from masksearch_agent.reports.drawing import draw_graphs

    out.write_text(draw_graphs(), encoding="utf-8")
    print_result({"drawing": str(out)}, False)
