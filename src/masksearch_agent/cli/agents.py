"""Commands that use a trained agent: ask it, serve its model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel

from masksearch_agent.cited_text import place_of, url_of
from masksearch_agent.cli import application as cli
from masksearch_agent.errors import ServingError
from masksearch_agent.records import SearchAnswer

if TYPE_CHECKING:
    from masksearch_agent.agent.runnable import MaskSearchAgent


_PREVIEW_CHARACTERS = 300


@cli.app.command()
def ask(
    question: Annotated[str, typer.Argument(help="The question.")],
    agent: cli.AgentOption,
    index: Annotated[Path | None, typer.Option(help="Search this index instead of the bundle's.")] = None,
    base_url: cli.BaseUrlOption = None,
    as_json: cli.JsonOption = False,
) -> None:
    """Ask an agent, and watch it search.

    Example: `masksearch ask "Who leads the city where Uma Crane was born?" --agent runs/quickstart/agent`
    """
    from masksearch_agent.agent.runnable import MaskSearchAgent
    from masksearch_agent.jsonl import dump_record

    restored = MaskSearchAgent.from_pretrained(agent, search=index, base_url=base_url)
    answer = _ask(restored, question, None if as_json else Console())
    if as_json:
        cli.print_result(dump_record(answer), True)


@cli.app.command()
def serve(
    agent: Annotated[Path, typer.Option(help="Folder of the agent bundle.")],
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 0,
    refreshable: Annotated[
        bool, typer.Option(help="Let clients replace the weights, for rollouts. vLLM only.")
    ] = False,
    vllm_python: Annotated[str, typer.Option(help="Interpreter that has vLLM.")] = "",
    recipe: cli.RecipeOption = None,
    settings: cli.SetOption = None,
) -> None:
    """Serve an agent's model: vLLM where it is installed, else transformers' server. Ends with Ctrl-C.

    Prints the URL once the server answers; `ask` and `eval` take it as `--base-url`.

    Example: `masksearch serve --agent runs/quickstart/agent --port 8000`
    """
    from masksearch_agent.serving.server import serve_bundle

    resolved = cli.resolve_recipe(recipe, settings)
    changes: dict[str, Any] = {"port": port} if port else {}
    changes |= {"python": vllm_python} if vllm_python else {}
    chosen = resolved.serving.model_copy(update=changes)
    with serve_bundle(agent, chosen, is_refreshable=refreshable) as server:
        cli.print_result({"url": server.base_url, "model": server.model_name, "engine": server.engine}, False)
        try:
            code = server.wait()
        except KeyboardInterrupt:
            return
    raise ServingError(f"the {server.engine} server ended by itself, with exit code {code}")


def _ask(agent: MaskSearchAgent, question: str, console: Console | None) -> SearchAnswer:
    """Ask a question and show every step as it is taken, then the answer with what it rests on; all unless there is no
    console.

    A question with `[mask]` in it is treated as a passage to fill in.
    """
    kind = "ramp" if "[mask]" in question else "qa"
    answer: SearchAnswer | None = None
    numbers: dict[str, int] = {}
    for update in agent.stream_answer({"question": question, "kind": kind}):
        if isinstance(update, SearchAnswer):
            answer = update
        elif console is not None:
            _show_steps(update, agent, console, numbers)
    if answer is None:
        raise RuntimeError("the graph ended without a final state")
    if console is not None:
        _show_answer(answer, console)
    return answer


def _show_steps(
    update: dict[str, dict[str, Any]], agent: MaskSearchAgent, console: Console, numbers: dict[str, int]
) -> None:
    """Show what happened; `numbers` are those of the passages that were shown before, by which they are cited."""
    from masksearch_agent.agent.protocol import FormatError, parse_step

    for node, change in update.items():
        if not change or "stop_reason" in change:
            continue  # Nothing was said or found any more.
        if node == "think":
            step = parse_step(str(change["transcript"][-1].text), agent.settings.max_queries)
            if isinstance(step, FormatError):
                console.print(f"[red]malformed step[/] {escape(step.detail)}")
            elif step.think:
                console.print(f"[bold cyan]think[/]   {escape(step.think)}")
        elif node == "search":
            found = change["searches"][-1]
            for query in found["queries"]:
                console.print(f"[bold yellow]search[/]  {escape(query)}")
            for passage in found["passages"]:
                number = numbers.setdefault(passage["id"], len(numbers) + 1)
                text = passage["text"][:_PREVIEW_CHARACTERS]
                console.print(f"        [dim]\\[{number}] {escape(passage['title'])}: {escape(text)}[/]")
        elif node == "force_answer":
            console.print("[magenta]no searches left[/]")


def _show_answer(answer: SearchAnswer, console: Console) -> None:
    body = f"[bold]{escape(answer.answer) or 'no answer'}[/]"
    for each in answer.citations:
        mark = "cited" if each.is_claimed else "found"
        title, place = each.passage.title or each.passage.id, url_of(each.passage) or place_of(each.passage)
        body += f"\n\n[dim]{mark} \\[{each.number}][/] {escape(title)}"
        body += f" [dim]{escape(place)}[/]" if place and place != title else ""
        body += f"\n“{escape(' '.join(each.quote.split()))}”" if each.quote else ""
    if answer.unknown_citations:
        body += f"\n\n[yellow]{answer.unknown_citations} cited numbers are of no passage and are left out[/]"
    footer = f"{answer.stop_reason}, {answer.usage.searches} searches, {answer.usage.seconds:.1f} s"
    # Not as the panel's subtitle: a short answer makes a narrow panel, which cuts it off.
    console.print(Panel(f"{body}\n\n[dim]{footer}[/]", title="answer", expand=False))
