"""Commands that use a trained agent: ask it, serve its model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from masksearch_agent.cli import application as cli
from masksearch_agent.errors import ServingError


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
    from masksearch_agent.cli.asking import ask_agent
    from masksearch_agent.jsonl import dump_record

    restored = MaskSearchAgent.from_pretrained(agent, search=index, base_url=base_url)
    answer = ask_agent(restored, question, None if as_json else Console())
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
    from masksearch_agent.serving.bundles import serve_bundle

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
