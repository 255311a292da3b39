"""Commands that make data: a corpus to an index, masked tasks and trajectories, and what looks at them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

from masksearch_agent.cli import application as cli
from masksearch_agent.errors import ConfigError


class _BuildByDefault(TyperGroup):
    """`masksearch ramp documents/` is short for `masksearch ramp build documents/`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the name of the default command where none is given."""
        is_named = not args or args[0] in self.commands or args[0] == "--help"
        return super().parse_args(ctx, args if is_named else ["build", *args])


_FormatOption = Annotated[Literal["jsonl", "parquet"], typer.Option("--format", help="Of the data.")]

ramp_app = typer.Typer(
    cls=_BuildByDefault,
    no_args_is_help=True,
    help="Mask facts in passages (`build`, which may be left out), see what came of it (`inspect`), and pass it on "
    "(`export`).\n\n"
    "Example: `masksearch ramp my_documents/ --index runs/index --out runs/tasks/ramp.jsonl`",
)
cli.app.add_typer(ramp_app, name="ramp")


@cli.app.command()
def index(
    corpus: Annotated[
        Path,
        typer.Argument(
            help="Folder of documents (.txt, .md, .html, .pdf), table (.jsonl, .json, .csv, .parquet), Wikipedia "
            "dump (.xml.bz2), or Hugging Face dataset (`hf:owner/name@config:split`)."
        ),
    ],
    out: Annotated[Path, cli.folder_option("Folder of the index.")] = Path("runs/index"),
    add: Annotated[
        bool, typer.Option("--add", help="Add; what has the same path below CORPUS or row id is replaced.")
    ] = False,
    max_failed: cli.MaxFailedOption = None,
    recipe: cli.RecipeOption = None,
    settings: cli.SetOption = None,
    as_json: cli.JsonOption = False,
) -> None:
    """Index a corpus for BM25 and dense search. Run again, it changes only what changed.

    Example: `masksearch index my_documents/ --out runs/index`
    """
    from masksearch_agent.corpus.readers import read_passages
    from masksearch_agent.corpus.report import CorpusReport
    from masksearch_agent.retrieval.index import build_index, update_index
    from masksearch_agent.retrieval.manifest import Manifest
    from masksearch_agent.stages.display import Display, count_steps

    resolved = cli.resolve_recipe(recipe, settings, max_failed=max_failed)
    read = CorpusReport()
    with Display(cli.MESSAGES).stage("indexing") as bar:
        passages = count_steps(read_passages(corpus, resolved.corpus, read), bar)
        built = update_index(out, passages) if add else build_index(passages, out, resolved.retrieval)
    for example in read.examples:
        cli.MESSAGES.print(f"[yellow]skipped[/] {escape(example)}", highlight=False, soft_wrap=True)
    cli.print_result(
        {
            "index": str(out),
            "passages": built.passages,
            "mode": Manifest.read(out).mode,
            "changed": {"added": built.added, "removed": built.removed, "embedded": built.embedded},
            **({"replaced": {"documents": built.replaced, "first": built.replaced_first}} if add else {}),
            "documents": read.as_dict(),
            **({"not_embedded": dict(built.failures)} if built.failures else {}),
        },
        as_json,
    )
    cli.exit_by_failures(built.failed, built.passages, resolved.max_failed)
    cli.exit_by_failures(read.failed, read.read, resolved.max_failed)


@cli.app.command("serve-index")
def serve_index(
    index: Annotated[Path, typer.Argument(help="Folder that `masksearch index` wrote.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 0,
    host: Annotated[
        str, typer.Option(help="Address; whoever reaches another than this machine's own can search.")
    ] = "127.0.0.1",
    recipe: cli.RecipeOption = None,
    settings: cli.SetOption = None,
) -> None:
    """Serve an index over HTTP as Search-R1's retriever server does: many trainers share one. Ends with Ctrl-C.

    Prints the address once it answers; every `--index` takes it.

    Example: `masksearch serve-index runs/index --port 8100`
    """
    from masksearch_agent.retrieval.adapters import open_search
    from masksearch_agent.serving.index_server import IndexServer

    resolved = cli.resolve_recipe(recipe, settings)
    search = open_search(index, resolved.retrieval)
    # What is loaded on first use is loaded before anybody waits for it.
    search.search(["warm up"], 1)
    with IndexServer(search, host, port) as server:
        cli.print_result({"index": server.url, "passages": len(search.passages)}, False)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return


@ramp_app.command("build")
def ramp(
    corpus: Annotated[Path, typer.Argument(help="Corpus, or a folder that `masksearch world` wrote.")],
    index: cli.IndexOption,
    out: Annotated[Path, cli.file_option("JSON-lines file of tasks.")] = Path("runs/tasks/ramp.jsonl"),
    limit: Annotated[int | None, typer.Option(min=1, help="Read this many passages at most.")] = None,
    max_failed: cli.MaxFailedOption = None,
    engine: cli.EngineOption = None,
    ray_address: cli.RayAddressOption = None,
    recipe: cli.RecipeOption = None,
    settings: cli.SetOption = None,
    as_json: cli.JsonOption = False,
) -> None:
    """Mask facts in passages: each task asks to fill them in by searching the rest of the corpus.

    Example: `masksearch ramp my_documents/ --index runs/index --out runs/tasks/ramp.jsonl`
    """
    from masksearch_agent.lab.world import training_corpus
    from masksearch_agent.retrieval.adapters import open_search
    from masksearch_agent.stages.display import Display
    from masksearch_agent.stages.tasks import build_tasks

    resolved = cli.resolve_recipe(recipe, settings, engine, ray_address, max_failed)
    corpus = training_corpus(corpus)
    with Display(cli.MESSAGES).stage("masking", total=limit) as bar:
        if resolved.engine.name == "ray":
            from masksearch_agent.cluster import runs

            with cli.ray_pool(resolved) as pool:
                report = runs.build_tasks(pool, corpus, index, resolved, out, limit, bar)
        else:
            search = open_search(index, resolved.retrieval)
            report = build_tasks(corpus, search, resolved.masking, out, resolved.corpus, limit=limit, bar=bar)
    cli.print_result({"tasks": str(out), **report}, as_json)
    documents = report.get("documents", {"failed": 0, "read": 0})
    failed, items = report["failed"] + documents["failed"], report["passages"] + documents["read"]
    cli.exit_by_failures(failed, items, resolved.max_failed)


@ramp_app.command("inspect")
def inspect_tasks(
    tasks: Annotated[list[Path] | None, typer.Argument(help="Task files.")] = None,
    index: Annotated[
        Path | None,
        typer.Option(
            "--index",
            help="Look masks up in this index, to see how hard they are; a sheet quotes its passages.",
        ),
    ] = None,
    examples: Annotated[int, typer.Option(min=0, help="Tasks to show.")] = 3,
    plot: Annotated[Path | None, cli.file_option("Write the distributions as an SVG picture.")] = None,
    rate: Annotated[
        int | None, typer.Option(min=1, help="Write a sheet of this many random tasks to rate instead.")
    ] = None,
    out: Annotated[Path | None, cli.file_option("The sheet; `runs/tasks/sheet.md` if not told.")] = None,
    seed: Annotated[int, typer.Option(help="Of the tasks on the sheet.")] = 0,
    rated: Annotated[Path | None, typer.Option(help="Count this sheet, which was filled in.")] = None,
    recipe: cli.RecipeOption = None,
    settings: cli.SetOption = None,
    as_json: cli.JsonOption = False,
) -> None:
    """Show examples, and how mask counts, forms and lengths of facts, passages and difficulty are distributed.

    With `--rate` it writes a sheet of random tasks, with rules to rate them by; with `--rated` it counts one.

    Example: `masksearch ramp inspect runs/tasks/ramp.jsonl --index runs/index --plot runs/tasks/ramp.svg`
    """
    from masksearch_agent.ramp.inspection import describe_tasks
    from masksearch_agent.reports.tasks import draw_distributions, draw_examples, save_plot
    from masksearch_agent.retrieval.adapters import open_search
    from masksearch_agent.stages.tasks import count_rated, read_task_files, write_rating_sheet

    if rated is not None:
        cli.print_result(count_rated(rated), as_json)
        return
    if not tasks:
        raise ConfigError("nothing to inspect; pass task files, or a sheet that was filled in as --rated")
    read = read_task_files(tasks)
    search = open_search(index, cli.resolve_recipe(recipe, settings).retrieval) if index else None
    if rate is not None:
        out = out or Path("runs/tasks/sheet.md")
        cli.print_result(write_rating_sheet(read, rate, seed, search, out), as_json)
        return
    found = describe_tasks(read, search)
    if plot is not None:
        save_plot(found, plot)
    if as_json:
        cli.print_result({"tasks": len(read), "distributions": found}, True)
        return
    console = Console()
    console.print(draw_examples([task for task in read if task.is_made_from_passage][:examples]))
    console.print(draw_distributions(found))


@ramp_app.command("export")
def export_task_files(
    tasks: Annotated[list[Path], typer.Argument(help="Task files.")],
    out: Annotated[Path, cli.folder_option("Folder of the dataset.")],
    file_format: _FormatOption = "parquet",
    as_json: cli.JsonOption = False,
) -> None:
    """Write tasks as a dataset with its card, which `datasets` loads.

    Example: `masksearch ramp export runs/tasks/ramp.jsonl --out runs/ramp_data`
    """
    from masksearch_agent.ramp.export import export_tasks
    from masksearch_agent.stages.tasks import read_task_files

    cli.print_result(export_tasks(read_task_files(tasks), out, file_format), as_json)


@cli.app.command()
def generate(
    tasks: Annotated[list[Path], typer.Argument(help="Task files.")],
    index: cli.IndexOption,
    out: Annotated[Path, cli.file_option("Trace store.")] = Path("runs/traces.sqlite"),
    stage: Annotated[str, typer.Option(help="Name under which the trajectories are kept.")] = "ramp",
    limit: Annotated[int | None, typer.Option(min=1, help="Work on this many tasks at most.")] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Chat model that plays the roles, as `provider:name`, e.g. `openai:gpt-5-mini`; its key comes from "
            "the environment. None: the hindsight teacher."
        ),
    ] = None,
    retry_failed: cli.RetryFailedOption = False,
    max_failed: cli.MaxFailedOption = None,
    engine: cli.EngineOption = None,
    ray_address: cli.RayAddressOption = None,
    recipe: cli.RecipeOption = None,
    settings: cli.SetOption = None,
    as_json: cli.JsonOption = False,
) -> None:
    """Generate trajectories with the hindsight teacher, or with chat models. Tasks that have one are skipped.

    Example: `masksearch generate runs/tasks/ramp.jsonl --index runs/index --out runs/traces.sqlite`
    """
    from masksearch_agent.retrieval.adapters import open_search
    from masksearch_agent.stages.display import Display
    from masksearch_agent.stages.plan import prompts_of
    from masksearch_agent.stages.tasks import read_task_files
    from masksearch_agent.stages.trajectories import generate_trajectories

    overrides = [*([f"generator.model.model={model}"] if model else []), *(settings or [])]
    resolved = cli.resolve_recipe(recipe, overrides, engine, ray_address, max_failed)
    with Display(cli.MESSAGES).stage("generating") as bar:
        if resolved.engine.name == "ray":
            from masksearch_agent.cluster import runs

            with cli.ray_pool(resolved) as pool:
                report = runs.generate_trajectories(
                    pool, tasks, index, resolved, out, stage, limit, bar, retry_failed
                )
        else:
            search = open_search(index, resolved.retrieval)
            report = generate_trajectories(
                read_task_files(tasks)[:limit], search, resolved.generator, resolved.agent, prompts_of(resolved),
                out, stage, bar, retry_failed,
            )  # fmt: skip
    cli.print_result({"traces": str(out), **report}, as_json)
    cli.exit_by_failures(report["failed"], report["tasks"], resolved.max_failed, can_retry=True)


@cli.app.command()
def traces(
    store: Annotated[Path, typer.Argument(help="Trace store.")],
    ids: Annotated[
        list[str] | None, typer.Argument(help="Show this trajectory; several are compared. Beginnings do.")
    ] = None,
    stage: Annotated[str | None, typer.Option(help="Only this stage.")] = None,
    accepted: Annotated[bool | None, typer.Option("--accepted/--rejected", help="Only these.")] = None,
    task: Annotated[str | None, typer.Option(help="Only this task.")] = None,
    producer: Annotated[str | None, typer.Option(help="Only producers with this in their name.")] = None,
    verdict: Annotated[str | None, typer.Option(help="Only verdicts with this in them.")] = None,
    text: Annotated[str | None, typer.Option(help="Only where a turn holds this.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="List this many at most.")] = 20,
    as_json: cli.JsonOption = False,
) -> None:
    """List stored trajectories, show one, or compare several.

    Example: `masksearch traces runs/traces.sqlite --rejected --verdict "wrong answer"`
    """
    from masksearch_agent.jsonl import dump_record
    from masksearch_agent.reports import browsing

    with cli.open_store(store) as opened:
        if ids:
            chosen = browsing.find_trajectories(opened, ids)
            if as_json:
                cli.print_result({"trajectories": [dump_record(trajectory) for trajectory in chosen]}, True)
                return
            draw = (
                browsing.draw_comparison if len(chosen) > 1 else lambda one: browsing.draw_trajectory(one[0])
            )
            Console().print(draw(chosen))
            return
        wanted = browsing.TraceFilter(stage, accepted, task, producer, verdict, text)
        listed = list(wanted.select(opened, limit))
        counts = {
            "stages": dict(opened.stages()),
            "accepted": opened.count(stage, True),
            "rejected": opened.count(stage, False),
            "reasons": dict(opened.reasons(stage).most_common()),
        }
    if as_json:
        cli.print_result({**counts, "trajectories": [browsing.outline(found) for found in listed]}, True)
        return
    Console().print(browsing.draw_list(listed))
    cli.print_result({"shown": len(listed), **counts}, False)


@cli.app.command()
def export(
    store: Annotated[Path, typer.Argument(help="Trace store.")],
    out: Annotated[Path, cli.folder_option("Folder of the dataset.")],
    file_format: _FormatOption = "parquet",
    stage: Annotated[str | None, typer.Option(help="Only this stage.")] = None,
    rejected: Annotated[
        bool, typer.Option("--rejected", help="The rejected instead of the accepted.")
    ] = False,
    as_json: cli.JsonOption = False,
) -> None:
    """Write conversations as a dataset with its card; `datasets` and `trl sft` load the folder.

    Example: `masksearch export runs/traces.sqlite --out runs/sft_data --format jsonl`
    """
    from masksearch_agent.traces.export import export_dataset

    with cli.open_store(store) as opened:
        cli.print_result(export_dataset(opened, out, file_format, stage, not rejected), as_json)
