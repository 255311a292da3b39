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
from masksearch_agent.errors import ConfigError, ServingError
from masksearch_agent.records import SearchAnswer

if TYPE_CHECKING:
    from masksearch_agent.agent.runnable import MaskSearchAgent
    from masksearch_agent.config.recipe import Recipe


_PREVIEW_CHARACTERS = 300


_BundleOption = Annotated[str | None, typer.Option("--agent", help="Agent bundle: a folder, or a hub id.")]
_ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model", help="Any chat model in place of a bundle, `provider:model`; needs an `--index`."
    ),
]
_SearchOption = Annotated[
    str | None,
    typer.Option(
        "--index", help="Search this index, or `web:wikipedia` and the like; else the bundle's own."
    ),
]


@cli.app.command()
def ask(
    question: Annotated[str, typer.Argument(help="The question.")],
    agent: _BundleOption = None,
    model: _ModelOption = None,
    index: _SearchOption = None,
    base_url: cli.BaseUrlOption = None,
    recipe: cli.RecipeOption = None,
    settings: cli.SetOption = None,
    as_json: cli.JsonOption = False,
) -> None:
    """Ask an agent, or any chat model over an index, and watch it search.

    Example: `masksearch ask "Who leads the city where Uma Crane was born?" --agent runs/quickstart/agent`

    Example: `masksearch ask "Who leads Gronau?" --model openai:gpt-5-mini --index web:wikipedia`
    """
    from masksearch_agent.jsonl import dump_record

    opened = _open_agent(agent, model, index, base_url, cli.resolve_recipe(recipe, settings))
    answer = _ask(opened, question, None if as_json else Console())
    if as_json:
        cli.print_result(dump_record(answer), True)


@cli.app.command()
def mcp(
    agent: _BundleOption = None,
    model: _ModelOption = None,
    index: _SearchOption = None,
    base_url: cli.BaseUrlOption = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65535,
            help="Listen on this port of 127.0.0.1 (streamable HTTP); else speak over standard input.",
        ),
    ] = None,
    recipe: cli.RecipeOption = None,
    settings: cli.SetOption = None,
) -> None:
    """Serve an agent to MCP clients, as the tools `research` and `search`.

    Example: `masksearch mcp --model openai:gpt-5-mini --index runs/index --port 8000`
    """
    from masksearch_agent.serving.mcp_server import serve_mcp

    opened = _open_agent(agent, model, index, base_url, cli.resolve_recipe(recipe, settings))
    if port is not None:
        cli.MESSAGES.print(f"http://127.0.0.1:{port}/mcp", highlight=False)
    serve_mcp(opened, port)


@cli.app.command()
def chat(
    agent: _BundleOption = None,
    model: _ModelOption = None,
    index: _SearchOption = None,
    base_url: cli.BaseUrlOption = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the page, on 127.0.0.1.")] = 7860,
    recipe: cli.RecipeOption = None,
    settings: cli.SetOption = None,
) -> None:
    """Talk to an agent on a local page that shows its thoughts, searches and sources. Ends with Ctrl-C.

    Example: `masksearch chat --agent runs/quickstart/agent`
    """
    from masksearch_agent.serving.chat_page import launch_chat_page

    opened = _open_agent(agent, model, index, base_url, cli.resolve_recipe(recipe, settings))
    cli.MESSAGES.print(f"http://127.0.0.1:{port}", highlight=False)
    launch_chat_page(opened, port).block_thread()


@cli.app.command()
def push(
    agent: Annotated[Path, typer.Option(help="Folder of the agent bundle.")],
    repo: Annotated[str, typer.Option(help="Repository on the Hugging Face hub, `owner/name`.")],
    public: Annotated[bool, typer.Option(help="Let everybody see a repository that is made.")] = False,
) -> None:
    """Put a trained agent on the Hugging Face hub, with a card of what it was made from and what it scores.

    Example: `masksearch push --agent runs/mine/agent --repo ada/harrow-search`
    """
    from masksearch_agent.agent.model_card import push_bundle

    cli.print_result({"commit": push_bundle(agent, repo, is_private=not public)}, False)


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


def _open_agent(
    bundle: str | None, model: str | None, index: str | None, base_url: str | None, recipe: Recipe
) -> MaskSearchAgent:
    """Open the agent that the options name.

    Raises:
        ConfigError: They name none, or two.
    """
    from masksearch_agent.agent.runnable import MaskSearchAgent
    from masksearch_agent.retrieval.adapters import as_search
    from masksearch_agent.stages.plan import prompts_of

    if (bundle is None) == (model is None):
        raise ConfigError(
            "expected either `--agent` (a bundle) or `--model` (a chat model, with an `--index` to search), got "
            + ("both" if bundle else "neither")
        )
    if bundle is not None:
        named = None if index is None else as_search(index, settings=recipe.retrieval)
        restored = MaskSearchAgent.from_pretrained(bundle, search=named, base_url=base_url)
        limits = recipe.agent.model_dump(exclude_unset=True)
        return restored.with_limits(**limits) if limits else restored
    if index is None or base_url is not None:
        wrong = "no `--index` to search" if index is None else "`--base-url`, which is for a bundle"
        raise ConfigError(
            f"`--model` came with {wrong}; pass `--index runs/index` or `--index web:wikipedia`"
        )
    # What a model is asked with by default depends on the model.
    prompts = prompts_of(recipe) if "prompts" in recipe.model_fields_set else None
    return MaskSearchAgent(str(model), as_search(index, settings=recipe.retrieval), recipe.agent, prompts)


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
    from masksearch_agent.agent.dialects import choose_dialect
    from masksearch_agent.agent.protocol import FormatError

    read = choose_dialect(agent.settings, agent.prompts, agent.model).read
    for node, change in update.items():
        if not change or "stop_reason" in change:
            continue  # Nothing was said or found any more.
        if node == "think":
            step = read(change["transcript"][-1])
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
                text = f"{passage['title']}: {text}" if passage["title"] else text
                console.print(f"        [dim]\\[{number}] {escape(text)}[/]")
        elif node == "force_answer":
            console.print("[magenta]no searches left[/]")


def _show_answer(answer: SearchAnswer, console: Console) -> None:
    body = f"[bold]{escape(answer.answer) or 'no answer'}[/]"
    for each in answer.citations:
        mark = "cited" if each.is_claimed else "found"
        title, place = each.passage.title, url_of(each.passage) or place_of(each.passage)
        body += f"\n\n[dim]{mark} \\[{each.number}][/]"
        body += f" {escape(title)}" if title else ""
        body += f" [dim]{escape(place)}[/]" if place and place != title else ""
        body += f"\n“{escape(' '.join(each.quote.split()))}”" if each.quote else ""
    if answer.unknown_citations:
        body += f"\n\n[yellow]{answer.unknown_citations} cited numbers are of no passage and are left out[/]"
    footer = f"{answer.stop_reason}, {answer.usage.searches} searches, {answer.usage.seconds:.1f} s"
    # Not as the panel's subtitle: a short answer makes a narrow panel, which cuts it off.
    console.print(Panel(f"{body}\n\n[dim]{footer}[/]", title="answer", expand=False))
