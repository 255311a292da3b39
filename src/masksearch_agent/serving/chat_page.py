"""A local page to talk to an agent: its thoughts, searches and passages as they come, and what an answer rests on.

The page is Gradio's chat interface, which streams, folds steps and fits a phone. It tells nobody of its use. Each
visitor has a thread of their own, so a question goes on with that visitor's conversation and with nobody else's; what
a visitor clears or takes back is forgotten.
"""

from __future__ import annotations

import html
import logging
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import StreamMode

from masksearch_agent.agent.run import AgentRun
from masksearch_agent.agent.state import SearchInput
from masksearch_agent.cited_text import numbered_text, place_of
from masksearch_agent.errors import AgentError, MissingExtraError, ServingError
from masksearch_agent.failures import reason_of, stops_run
from masksearch_agent.jsonl import load_record
from masksearch_agent.records import Passage, SearchAnswer

if TYPE_CHECKING:
    from gradio import Blocks, ChatMessage, Request

    from masksearch_agent.agent.runnable import MaskSearchAgent

__all__ = ("launch_chat_page", "make_chat_page")

logger = logging.getLogger(__name__)

_HOST = "127.0.0.1"
_MODES: list[StreamMode] = ["messages", "custom", "values"]
_STYLE = """
.passage {margin: .25rem 0 .75rem; overflow-wrap: anywhere}
.passage b {display: block}
.passage mark {padding: 0 .15em; border-radius: .2em}
footer {display: none !important}
"""


def launch_chat_page(agent: MaskSearchAgent, port: int) -> Blocks:
    """Serve the page to this machine alone, from threads of its own, until it is closed.

    Args:
        port: To listen on.

    Raises:
        MissingExtraError: Gradio is not installed.
        ServingError: The port is taken.
    """
    page = make_chat_page(agent)
    try:
        page.launch(
            server_name=_HOST,
            server_port=port,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            css=_STYLE,
            footer_links=[],
        )
    except OSError as failure:
        raise ServingError(
            f"nothing can listen on {_HOST}:{port} ({failure}); pass another --port"
        ) from failure
    return page


def make_chat_page(agent: MaskSearchAgent) -> Blocks:
    """Return the page, a Gradio app that a larger one can hold.

    Raises:
        MissingExtraError: Gradio is not installed.
    """
    try:
        import gradio
    except ImportError as failure:
        raise MissingExtraError("gradio", "chat") from failure
    chatting = agent.replace(checkpointer=InMemorySaver())
    conversations = _Conversations(chatting)

    async def reply(question: str, history: list[Any], request: Request) -> AsyncIterator[list[ChatMessage]]:
        shown = _Reply(chatting)
        config = await conversations.go_on(request.session_hash or uuid.uuid4().hex, history)
        asked: SearchInput = {"messages": [HumanMessage(question)]}
        try:
            async for mode, chunk in chatting.graph.astream(asked, config, stream_mode=_MODES):
                if shown.hear(mode, chunk):
                    yield shown.messages()
            yield shown.messages(is_finished=True)
        except Exception as failure:
            if stops_run(failure):
                raise
            reason = reason_of(failure)
            logger.warning("a question failed: %s", reason)
            yield [*shown.messages(), gradio.ChatMessage(html.escape(f"This question failed. {reason}"))]

    # Gradio reads off these, at run time, that it is to tell who asks.
    reply.__annotations__ = {"request": gradio.Request}
    return gradio.ChatInterface(
        reply,
        title="Search agent",
        description=html.escape(agent.model_version),
        chatbot=gradio.Chatbot(
            show_label=False, placeholder="Ask about the documents.", height="75vh", buttons=["copy"]
        ),
        analytics_enabled=False,
        api_visibility="private",
    )


class _Conversations:
    """Where every visitor's conversation stands, and stood before each of its questions."""

    def __init__(self, agent: MaskSearchAgent) -> None:
        self._agent = agent
        self._before: dict[str, list[RunnableConfig]] = {}

    async def go_on(self, visitor: str, history: Sequence[Mapping[str, Any]]) -> RunnableConfig:
        """Return what the next question goes on from, by what the page still shows: who cleared it starts afresh, and
        who took questions back is where these were asked."""
        asked = sum(message["role"] == "user" for message in history)
        before = self._before.get(visitor, [])
        if before and asked >= len(before):
            thread_id = before[0]["configurable"]["thread_id"]
            last = await self._agent.graph.aget_state({"configurable": {"thread_id": thread_id}})
            before = [*before, last.config]
        elif before and asked:
            before = before[: asked + 1]
        else:
            if before and self._agent.checkpointer is not None:
                await self._agent.checkpointer.adelete_thread(before[0]["configurable"]["thread_id"])
            before = [{"configurable": {"thread_id": uuid.uuid4().hex}}]
        self._before[visitor] = before
        return before[-1]


@dataclass
class _Step:
    """A thought or a search."""

    title: str
    body: str = ""
    log: str = ""
    is_done: bool = False


class _Reply:
    """What the page shows of one run, from what its graph streams."""

    def __init__(self, agent: MaskSearchAgent) -> None:
        self._agent = agent
        self._run = AgentRun(None)
        self._steps: list[_Step] = []
        self._said = ""
        self._state: Mapping[str, Any] = {}

    def hear(self, mode: str, chunk: Any) -> bool:
        """Take what the graph streamed; return whether there is more to show."""
        if mode == "values":
            self._state = chunk
            return False
        if mode == "custom":
            return self._hear_search(chunk)
        message, _ = chunk
        blocks = message.content_blocks
        for block in blocks:
            if block["type"] == "reasoning":
                self._thought().body += block.get("reasoning", "")
            elif block["type"] == "text":
                self._said += block["text"]
        return bool(blocks)

    def messages(self, is_finished: bool = False) -> list[ChatMessage]:
        """Return the steps so far and what was said; of a finished run the answer with what it rests on."""
        from gradio import ChatMessage

        shown = [
            ChatMessage(
                step.body,
                metadata={
                    "title": step.title,
                    "log": step.log,
                    "status": "done" if step.is_done or is_finished else "pending",
                },
            )
            for step in self._steps
        ]
        if is_finished:
            answer = self._run.answer(self._state, self._agent.model_version)
            return [*shown, ChatMessage(_answer_markdown(answer))]
        return [*shown, ChatMessage(html.escape(self._said))] if self._said else shown

    def _thought(self) -> _Step:
        if not self._steps or self._steps[-1].is_done:
            self._steps.append(_Step("Thought"))
        return self._steps[-1]

    def _hear_search(self, event: Any) -> bool:
        if not isinstance(event, Mapping) or event.get("type") != "search":
            return False  # Another graph's, or the application's.
        for step in self._steps:
            step.is_done = True
        if event["status"] == "started":
            self._steps.append(_Step(f"Searching: {'; '.join(event['queries'])}"))
            return True
        found = [load_record(Passage, passage, AgentError) for passage in event["passages"]]
        step = self._steps[-1]
        step.title, step.is_done = f"Searched: {'; '.join(event['queries'])}", True
        step.log = f"{len(found)} passage{'' if len(found) == 1 else 's'}"
        step.body = "".join(_passage_html(passage) for passage in found)
        return True


def _answer_markdown(answer: SearchAnswer) -> str:
    """Return an answer with its numbers, and beneath it each passage that it rests on with the sentence marked."""
    said = html.escape(numbered_text(answer.answer, answer.citations) or str(answer), quote=False)
    cited = "".join(
        _passage_html(citation.passage, f"[{citation.number}]", citation.start, citation.end)
        for citation in answer.citations
    )
    return f"{said}\n\n<details open><summary>Sources</summary>{cited}</details>" if cited else said


def _passage_html(passage: Passage, number: str = "", start: int = 0, end: int = 0) -> str:
    text = passage.text
    marked = f"<mark>{html.escape(text[start:end])}</mark>" if end > start else ""
    body = f"{html.escape(text[:start])}{marked}{html.escape(text[end:])}"
    heading = " ".join(filter(None, [number, passage.title or place_of(passage)]))
    named = f"<b>{html.escape(heading)}</b>" if heading else ""
    return f'<div class="passage">{named}{body}</div>'
