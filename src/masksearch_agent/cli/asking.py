"""Asking an agent on the terminal: every step as it is taken, then the answer with its sources."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel

from masksearch_agent.agent.protocol import FormatError, parse_step
from masksearch_agent.agent.runnable import MaskSearchAgent
from masksearch_agent.records import SearchAnswer

__all__ = ("ask_agent",)

_PREVIEW_CHARACTERS = 300


def ask_agent(agent: MaskSearchAgent, question: str, console: Console | None) -> SearchAnswer:
    """Ask a question and show the run.

    Args:
        agent: Whom to ask.
        question: What to ask. One with `[mask]` in it is treated as a passage to fill in.
        console: Where to show the steps; None shows nothing.
    """
    kind = "ramp" if "[mask]" in question else "qa"
    answer: SearchAnswer | None = None
    for update in agent.stream_answer({"question": question, "kind": kind}):
        if isinstance(update, SearchAnswer):
            answer = update
        elif console is not None:
            _show(update, agent, console)
    if answer is None:
        raise RuntimeError("the graph ended without a final state")
    if console is not None:
        _show_answer(answer, console)
    return answer


def _show(update: dict[str, dict], agent: MaskSearchAgent, console: Console) -> None:  # type: ignore[type-arg]
    for node, change in update.items():
        if node == "think":
            step = parse_step(str(change["messages"][-1].text), agent.settings.max_queries)
            if isinstance(step, FormatError):
                console.print(f"[red]malformed step[/] {escape(step.detail)}")
            elif step.think:
                console.print(f"[bold cyan]think[/]   {escape(step.think)}")
        elif node == "search":
            found = change["searches"][-1]
            for query in found["queries"]:
                console.print(f"[bold yellow]search[/]  {escape(query)}")
            for number, passage in enumerate(found["passages"], start=1):
                text = passage["text"][:_PREVIEW_CHARACTERS]
                console.print(f"        [dim]\\[{number}] {escape(passage['title'])}: {escape(text)}[/]")
        elif node == "force_answer":
            console.print("[magenta]no searches left[/]")


def _show_answer(answer: SearchAnswer, console: Console) -> None:
    sources = "\n".join(f"• {escape(passage.title or passage.id)}" for passage in answer.sources)
    body = f"[bold]{escape(answer.answer) or 'no answer'}[/]"
    if sources:
        body += f"\n\n[dim]Sources[/]\n{sources}"
    footer = f"{answer.stop_reason}, {answer.usage.searches} searches, {answer.usage.seconds:.1f} s"
    # Not as the panel's subtitle: a short answer makes a narrow panel, which cuts it off.
    console.print(Panel(f"{body}\n\n[dim]{footer}[/]", title="answer", expand=False))
