"""The command line: each stage of the loop on the files of the one before it, and the whole loop at once.

Heavy packages are imported by the command that needs them, so `--help` is immediate. Results go to standard
output (as JSON with `--json`), progress and messages to standard error.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

from masksearch_agent.errors import ConfigError, MaskSearchError, ServingError, TraceError

if TYPE_CHECKING:
    from masksearch_agent.cluster.ray_pool import RayPool
    from masksearch_agent.config.recipe import Recipe
    from masksearch_agent.retrieval.search import Search
    from masksearch_agent.traces.store import TraceStore

__all__ = ("app", "main")

app = typer.Typer(
    name="masksearch",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Train, serve and evaluate search agents on your own documents. New here? `masksearch quickstart`.",
)


class _BuildByDefault(TyperGroup):
    """`masksearch ramp documents/` is short for `masksearch ramp build documents/`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the name of the default command where none is given."""
        is_named = not args or args[0] in self.commands or args[0] == "--help"
        return super().parse_args(ctx, args if is_named else ["build", *args])


ramp_app = typer.Typer(
    cls=_BuildByDefault,
    no_args_is_help=True,
    help="Mask facts in passages (`build`, which may be left out), see what came of it (`inspect`), and pass it on "
    "(`export`).\n\n"
    "Example: `masksearch ramp my_documents/ --index runs/index --out runs/tasks/ramp.jsonl`",
)
app.add_typer(ramp_app, name="ramp")
_errors = Console(stderr=True)
_STOPPED = 130
"""Exit code after Ctrl-C, as Typer and shells have it."""

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
        "`web:serper`, `web:serpapi`.",
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


def main() -> None:
    """Run the command line; errors of this package become one line and exit code 1."""
    try:
        app()
    except MaskSearchError as failure:
        _errors.print(f"[bold red]error:[/] {escape(str(failure))}", highlight=False, soft_wrap=True)
        sys.exit(1)
    except SystemExit as ended:
        if ended.code == _STOPPED:
            _errors.print("\nStopped. Run the same command again to go on from here.")
        raise


@app.command()
def world(
    out: Annotated[Path, typer.Option(help="Folder to write.")] = Path("runs/world"),
    seed: int = 0,
    recipe: RecipeOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a closed world: a synthetic encyclopedia with multi-hop questions.

    Example: `masksearch world --seed 1 --out runs/world`
    """
    from masksearch_agent.pipeline.data import write_closed_world

    counts = write_closed_world(_recipe(recipe, settings), seed, out)
    _print_result(counts, as_json)


@app.command()
def index(
    corpus: Annotated[
        Path,
        typer.Argument(
            help="Folder of documents (.txt, .md, .html, .pdf), table (.jsonl, .json, .csv, .parquet), Wikipedia "
            "dump (.xml.bz2), or Hugging Face dataset (`hf:owner/name@config:split`)."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the index.")] = Path("runs/index"),
    recipe: RecipeOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Index a corpus for BM25 and dense search. Run again, it embeds only what changed.

    Example: `masksearch index my_documents/ --out runs/index`
    """
    from masksearch_agent.corpus.readers import read_passages
    from masksearch_agent.corpus.report import CorpusReport
    from masksearch_agent.pipeline.display import Display, count_steps
    from masksearch_agent.retrieval.index import build_index

    resolved = _recipe(recipe, settings)
    read = CorpusReport()
    with Display(_errors).stage("indexing") as bar:
        passages = count_steps(read_passages(corpus, resolved.corpus, read), bar)
        built = build_index(passages, out, resolved.retrieval)
    for example in read.examples:
        _errors.print(f"[yellow]skipped[/] {escape(example)}", highlight=False, soft_wrap=True)
    _print_result(
        {
            "index": str(out),
            "passages": built.passages,
            "mode": resolved.retrieval.mode,
            "changed": {"added": built.added, "removed": built.removed, "embedded": built.embedded},
            "documents": read.as_dict(),
        },
        as_json,
    )


@ramp_app.command("build")
def ramp(
    corpus: Annotated[Path, typer.Argument(help="Corpus, or a folder that `masksearch world` wrote.")],
    index: IndexOption,
    out: Annotated[Path, typer.Option(help="JSON-lines file of tasks.")] = Path("runs/tasks/ramp.jsonl"),
    limit: Annotated[int | None, typer.Option(help="Read this many passages at most.")] = None,
    engine: EngineOption = None,
    ray_address: RayAddressOption = None,
    recipe: RecipeOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Mask facts in passages: each task asks to fill them in by searching the rest of the corpus.

    Example: `masksearch ramp my_documents/ --index runs/index --out runs/tasks/ramp.jsonl`
    """
    from masksearch_agent.pipeline.data import build_tasks
    from masksearch_agent.pipeline.display import Display

    resolved = _recipe(recipe, settings, engine, ray_address)
    with Display(_errors).stage("masking", total=limit) as bar:
        if resolved.engine.name == "ray":
            from masksearch_agent.cluster import runs

            with _ray_pool(resolved) as pool:
                report = runs.build_tasks(pool, corpus, index, resolved, out, limit, bar)
        else:
            report = build_tasks(corpus, _search(index, resolved), resolved, out, limit, bar)
    _print_result({"tasks": str(out), **report}, as_json)


@ramp_app.command("inspect")
def inspect_tasks(
    tasks: Annotated[list[Path], typer.Argument(help="Task files.")],
    index: Annotated[
        Path | None, typer.Option("--index", help="Look masks up in this index, to see how hard they are.")
    ] = None,
    examples: Annotated[int, typer.Option(min=0, help="Tasks to show.")] = 3,
    plot: Annotated[Path | None, typer.Option(help="Write the distributions as an SVG picture.")] = None,
    recipe: RecipeOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show examples, and how mask counts, forms and lengths of facts, passages and difficulty are distributed.

    Example: `masksearch ramp inspect runs/tasks/ramp.jsonl --index runs/index --plot runs/tasks/ramp.svg`
    """
    from masksearch_agent.pipeline.data import read_task_files
    from masksearch_agent.ramp.inspection import describe_tasks
    from masksearch_agent.viewer.tasks import draw_distributions, draw_examples, save_plot

    read = read_task_files(tasks)
    found = describe_tasks(read, _search(index, _recipe(recipe, settings)) if index else None)
    if plot is not None:
        save_plot(found, plot)
    if as_json:
        _print_result({"tasks": len(read), "distributions": found}, True)
        return
    console = Console()
    console.print(draw_examples([task for task in read if task.kind == "ramp"][:examples]))
    console.print(draw_distributions(found))


@ramp_app.command("export")
def export_task_files(
    tasks: Annotated[list[Path], typer.Argument(help="Task files.")],
    out: Annotated[Path, typer.Option(help="Folder of the dataset.")],
    file_format: Annotated[
        Literal["jsonl", "parquet"], typer.Option("--format", help="Of the data.")
    ] = "parquet",
    as_json: JsonOption = False,
) -> None:
    """Write tasks as a dataset with its card, which `datasets` loads.

    Example: `masksearch ramp export runs/tasks/ramp.jsonl --out runs/ramp_data`
    """
    from masksearch_agent.pipeline.data import read_task_files
    from masksearch_agent.ramp.export import export_tasks

    _print_result(export_tasks(read_task_files(tasks), out, file_format), as_json)


@app.command()
def generate(
    tasks: Annotated[list[Path], typer.Argument(help="Task files.")],
    index: IndexOption,
    out: Annotated[Path, typer.Option(help="Trace store.")] = Path("runs/traces.sqlite"),
    stage: Annotated[str, typer.Option(help="Name under which the trajectories are kept.")] = "ramp",
    limit: Annotated[int | None, typer.Option(help="Work on this many tasks at most.")] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Chat model that plays the roles, as `provider:name`, e.g. `openai:gpt-5-mini`; its key comes from "
            "the environment. None: the hindsight teacher."
        ),
    ] = None,
    engine: EngineOption = None,
    ray_address: RayAddressOption = None,
    recipe: RecipeOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Generate trajectories with the hindsight teacher, or with chat models. Tasks that have one are skipped.

    Example: `masksearch generate runs/tasks/ramp.jsonl --index runs/index --out runs/traces.sqlite`
    """
    from masksearch_agent.pipeline.data import generate_trajectories
    from masksearch_agent.pipeline.display import Display

    overrides = [*([f"generator.model.model={model}"] if model else []), *(settings or [])]
    resolved = _recipe(recipe, overrides, engine, ray_address)
    with Display(_errors).stage("generating") as bar:
        if resolved.engine.name == "ray":
            from masksearch_agent.cluster import runs

            with _ray_pool(resolved) as pool:
                report = runs.generate_trajectories(pool, tasks, index, resolved, out, stage, limit, bar)
        else:
            report = generate_trajectories(tasks, _search(index, resolved), resolved, out, stage, limit, bar)
    _print_result({"traces": str(out), **report}, as_json)


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
    from importlib import resources

    from masksearch_agent.pipeline.display import Display
    from masksearch_agent.pipeline.evolution import Evolution, OwnTasks
    from masksearch_agent.retrieval.web import web_source
    from masksearch_agent.viewer.evolution import evolution_table

    if bool(tasks) != (index is not None):
        raise ConfigError("tasks and --index belong together; pass both, or neither for a closed world")
    closed_world = Path(str(resources.files("masksearch_agent.pipeline") / "evolve.yaml"))
    resolved = _recipe(recipe or (None if tasks else closed_world), [*(settings or []), f"seed={seed}"])
    own = None
    if tasks and index is not None:
        folder = None if web_source(str(index)) is not None else index
        own = OwnTasks(tuple(tasks), _search(index, resolved), folder, tuple(held_out or ()))
    report = Evolution(resolved, out, Display(_errors), own).run()
    if as_json:
        _print_result(report, True)
        return
    Console().print(evolution_table(report))
    _print_result({"agent": str(out / "agent"), "report": str(out / "report.md")}, False)


@app.command()
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
    limit: Annotated[int, typer.Option(help="List this many at most.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """List stored trajectories, show one, or compare several.

    Example: `masksearch traces runs/traces.sqlite --rejected --verdict "wrong answer"`
    """
    from masksearch_agent.pipeline import browsing
    from masksearch_agent.records import dump_record

    with _open_store(store) as opened:
        if ids:
            chosen = browsing.find_trajectories(opened, ids)
            if as_json:
                _print_result({"trajectories": [dump_record(trajectory) for trajectory in chosen]}, True)
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
        _print_result({**counts, "trajectories": [browsing.outline(found) for found in listed]}, True)
        return
    Console().print(browsing.draw_list(listed))
    _print_result({"shown": len(listed), **counts}, False)


@app.command()
def export(
    store: Annotated[Path, typer.Argument(help="Trace store.")],
    out: Annotated[Path, typer.Option(help="Folder of the dataset.")],
    file_format: Annotated[
        Literal["jsonl", "parquet"], typer.Option("--format", help="Of the data.")
    ] = "parquet",
    stage: Annotated[str | None, typer.Option(help="Only this stage.")] = None,
    rejected: Annotated[
        bool, typer.Option("--rejected", help="The rejected instead of the accepted.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write conversations as a dataset with its card; `datasets` and `trl sft` load the folder.

    Example: `masksearch export runs/traces.sqlite --out runs/sft_data --format jsonl`
    """
    from masksearch_agent.traces.export import export_dataset

    with _open_store(store) as opened:
        _print_result(export_dataset(opened, out, file_format, stage, not rejected), as_json)


@app.command()
def base(
    out: Annotated[Path, typer.Option(help="Folder of the checkpoint.")] = Path("runs/tiny_base"),
    recipe: RecipeOption = None,
    settings: SetOption = None,
) -> None:
    """Teach a tiny model to read: how the base model in this package was made.

    Example: `masksearch base --recipe training/tiny_base.yaml --out runs/tiny_base`
    """
    from masksearch_agent.pipeline.display import Display
    from masksearch_agent.trainers.base_stage import train_base
    from masksearch_agent.trainers.callbacks import MetricsLog

    resolved = _recipe(recipe, settings)
    if resolved.base_stage is None:
        raise ConfigError("the recipe has no base_stage; start from training/tiny_base.yaml")
    with Display(_errors).stage("base stage") as bar:
        train_base(resolved.base_stage, out, (MetricsLog(out / "metrics.jsonl", bar.training_listener()),))
    _print_result({"checkpoint": str(out)}, False)


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

    resolved = _recipe(recipe, settings)
    source = Path(agent) if agent else out / "base"
    stage_settings = resolved.ramp_sft if stage == "ramp" else resolved.qa_sft
    with _open_store(traces) as store, Display(_errors).stage("SFT") as bar:
        if not agent:
            make_base_bundle(resolved, source)
        trajectories = list(store.trajectories(stage, accepted=True))
        result = run_sft(
            source, trajectories, stage_settings, out, f"{stage}_sft", bar.training_listener(), index
        )
    _print_result({"agent": str(out), **dataclasses.asdict(result)}, as_json)


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

    resolved = _recipe(recipe, settings)
    search = _search(index, resolved) if index else open_bundle_search(agent)
    with Display(_errors).stage("DAPO", total=resolved.ramp_dapo.max_steps) as bar:
        result = run_dapo(
            Path(agent), read_task_files(tasks), search, resolved, resolved.ramp_dapo, out, "dapo",
            bar.training_listener(), index,
        )  # fmt: skip
    _print_result({"agent": str(out), **dataclasses.asdict(result)}, as_json)


@app.command("eval")
def evaluate_agent(
    agent: AgentOption,
    data: Annotated[
        list[Path],
        typer.Option(help="Questions: task or benchmark files, or `hf:owner/name@config:split` of the hub."),
    ],
    index: Annotated[Path | None, typer.Option(help="Search this index instead of the bundle's.")] = None,
    mode: Annotated[
        Literal["agentic", "rag"], typer.Option(help="The search graph, or the retrieve-once baseline.")
    ] = "agentic",
    baseline: Annotated[
        Literal["rag-pe", "agent-pe"] | None,
        typer.Option(
            help="Evaluate the paper's baseline instead: the untrained model, retrieving once or searching."
        ),
    ] = None,
    base_model: Annotated[
        str | None,
        typer.Option(help="The untrained model, where the bundle's own word for it is out of date."),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(help="Model that judges answers, as `provider:model` (LangChain's `init_chat_model`)."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for per-question results; makes it resumable. `report.html` there shows all its runs."
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Ask this many questions of each file at most.")] = None,
    base_url: BaseUrlOption = None,
    engine: EngineOption = None,
    ray_address: RayAddressOption = None,
    recipe: RecipeOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Evaluate an agent on question files.

    Example: `masksearch eval --agent runs/agent --data questions.jsonl --out runs/evals`, then open
    `runs/evals/report.html`: scores with intervals, failures, and every question with its trajectory.
    """
    from masksearch_agent.evaluation.judge import load_judge
    from masksearch_agent.evaluation.report import write_evaluation_page
    from masksearch_agent.pipeline.data import evaluate_files
    from masksearch_agent.pipeline.display import Display

    resolved = _recipe(recipe, settings, engine, ray_address)
    opened_judge = load_judge(judge) if judge else None
    with Display(_errors).stage("evaluating") as bar:
        if resolved.engine.name == "ray":
            from masksearch_agent.cluster import runs

            with _ray_pool(resolved) as pool:
                scores = runs.evaluate_files(
                    pool, agent, index, data, mode, out, limit, resolved, bar, baseline, base_model,
                    opened_judge, base_url,
                )  # fmt: skip
        else:
            search = _search(index, resolved) if index else None
            scores = evaluate_files(
                agent,
                search,
                data,
                mode,
                out,
                limit,
                resolved,
                bar,
                baseline,
                base_model,
                opened_judge,
                base_url,
            )
    _print_result(scores, as_json)
    if out is not None:
        _errors.print(
            f"report: {escape(str(write_evaluation_page(out, resolved.evaluation)))}", soft_wrap=True
        )


@app.command()
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
        Path | None, typer.Option(help="HTML file to write: both runs, every question and what it gained.")
    ] = None,
    recipe: RecipeOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare two runs question by question: what got better, what got worse, and whether it is more than chance.

    Example: `masksearch compare runs/evals/qa_2hop_test-rag-pe.jsonl runs/evals/qa_2hop_test-agentic.jsonl`
    """
    from masksearch_agent.evaluation.comparison import compare_files
    from masksearch_agent.evaluation.report import write_comparison_page

    resolved = _recipe(recipe, settings)
    compared = compare_files(before, after, metric, resolved.evaluation)
    if page is not None:
        write_comparison_page(before, after, page, metric, resolved.evaluation)
        _errors.print(f"report: {escape(str(page))}", soft_wrap=True)
    if as_json:
        _print_result(dataclasses.asdict(compared), True)
        return
    _print_result(
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


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="The question.")],
    agent: AgentOption,
    index: Annotated[Path | None, typer.Option(help="Search this index instead of the bundle's.")] = None,
    base_url: BaseUrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Ask an agent, and watch it search.

    Example: `masksearch ask "Who leads the city where Uma Crane was born?" --agent runs/quickstart/agent`
    """
    from masksearch_agent.agent.runnable import MaskSearchAgent
    from masksearch_agent.pipeline.asking import ask_agent
    from masksearch_agent.records import dump_record

    restored = MaskSearchAgent.from_pretrained(agent, search=index, base_url=base_url)
    answer = ask_agent(restored, question, None if as_json else Console())
    if as_json:
        _print_result(dump_record(answer), True)


@app.command()
def serve(
    agent: Annotated[Path, typer.Option(help="Folder of the agent bundle.")],
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 0,
    refreshable: Annotated[
        bool, typer.Option(help="Let clients replace the weights, for rollouts. vLLM only.")
    ] = False,
    vllm_python: Annotated[str, typer.Option(help="Interpreter that has vLLM.")] = "",
    recipe: RecipeOption = None,
    settings: SetOption = None,
) -> None:
    """Serve an agent's model: vLLM where it is installed, else transformers' server. Ends with Ctrl-C.

    Prints the URL once the server answers; `ask` and `eval` take it as `--base-url`.

    Example: `masksearch serve --agent runs/quickstart/agent --port 8000`
    """
    from masksearch_agent.pipeline.serving import serve_bundle

    resolved = _recipe(recipe, settings)
    changes: dict[str, Any] = {"port": port} if port else {}
    changes |= {"python": vllm_python} if vllm_python else {}
    chosen = resolved.serving.model_copy(update=changes)
    with serve_bundle(agent, chosen, is_refreshable=refreshable) as server:
        _print_result({"url": server.base_url, "model": server.model_name, "engine": server.engine}, False)
        try:
            code = server.wait()
        except KeyboardInterrupt:
            return
    raise ServingError(f"the {server.engine} server ended by itself, with exit code {code}")


@app.command()
def quickstart(
    out: Annotated[Path, typer.Option(help="Run folder.")] = Path("runs/quickstart"),
    seed: int = 0,
    recipe: RecipeOption = None,
    settings: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a tiny search agent from scratch and evaluate it, in minutes, on two CPU cores.

    Example: `masksearch quickstart --seed 1 --out runs/quickstart`
    """
    from importlib import resources

    from masksearch_agent.pipeline.display import Display
    from masksearch_agent.pipeline.quickstart import Quickstart
    from masksearch_agent.viewer.tables import evals_table

    path = recipe or Path(str(resources.files("masksearch_agent.pipeline") / "quickstart.yaml"))
    resolved = _recipe(path, [*(settings or []), f"seed={seed}"])
    report = Quickstart(resolved, out, Display(_errors)).run()
    if as_json:
        _print_result(report, True)
        return
    console = Console()
    console.print(evals_table(report))
    console.print(f"{report['wall_seconds'] / 60:.1f} minutes, {report['peak_memory_gb']:.1f} GB at most")
    console.print(f"Report: {out / 'report.html'} (and report.json)\n\nTry next:")
    for step in report["next_steps"]:
        console.print(f"  {step}", markup=False, highlight=False, soft_wrap=True)


@app.command()
def summary(
    runs: Annotated[list[Path], typer.Argument(help="Run folders of `masksearch quickstart`.")],
) -> None:
    """Print the result tables of several runs as Markdown.

    Example: `masksearch summary runs/quickstart-seed0 runs/quickstart-seed1 > docs/results/quickstart.md`
    """
    from masksearch_agent.pipeline.summary import read_report, summarise_runs

    sys.stdout.write(summarise_runs([read_report(directory) for directory in runs]))


@app.command()
def recipe(
    path: Annotated[Path | None, typer.Argument(help="Recipe to resolve; none prints the defaults.")] = None,
    settings: SetOption = None,
) -> None:
    """Print a recipe with every setting resolved.

    Example: `masksearch recipe training/laptop.yaml`
    """
    import yaml

    sys.stdout.write(yaml.safe_dump(_recipe(path, settings).model_dump(mode="json"), sort_keys=False))


@app.command()
def draw(
    out: Annotated[Path, typer.Option(help="Markdown file to write.")] = Path("graphs/README.md"),
) -> None:
    """Draw the graphs (Mermaid).

    Example: `masksearch draw --out graphs/README.md`
    """
    from masksearch_agent.pipeline.drawing import draw_graphs

    out.write_text(draw_graphs(), encoding="utf-8")
    _print_result({"drawing": str(out)}, False)


def _recipe(
    path: Path | None, overrides: list[str] | None, engine: str | None = None, ray_address: str | None = None
) -> Recipe:
    from masksearch_agent.config.recipe import load_recipe

    options = {"engine.name": engine, "engine.ray_address": ray_address}
    chosen = [f"{key}={value}" for key, value in options.items() if value]
    return load_recipe(path, [*chosen, *(overrides or [])])


@contextmanager
def _ray_pool(resolved: Recipe) -> Iterator[RayPool]:
    from masksearch_agent.cluster.ray_pool import RayPool

    # Ray reports a lost machine on standard output, which is for results.
    with redirect_stdout(sys.stderr), RayPool(resolved.engine) as pool:
        yield pool


def _open_store(path: Path) -> TraceStore:
    from masksearch_agent.traces.store import TraceStore

    if not path.is_file():
        raise TraceError(f"no trace store at {path}; generate trajectories with `masksearch generate`")
    return TraceStore(path)


def _search(index: Path, resolved: Recipe) -> Search:
    from masksearch_agent.retrieval.opening import open_search

    return open_search(index, resolved.retrieval)


def _print_result(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(result, ensure_ascii=False, indent=2) + "\n")
        return
    console = Console()
    for name, value in result.items():
        console.print(f"[bold]{name}[/]: {escape(str(value))}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
