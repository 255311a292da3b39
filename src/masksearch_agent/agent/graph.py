"""The search graph: one state machine for production, for rollouts in training, and for evaluation.

    prepare -> (open) -> think -> search ------> think ...
                           |---> repair ------> think ...
                           |---> force_answer > think ...
                           '---> finish

`open` searches for the question itself, where the settings say so. `think` is one call of the policy. What follows is a
pure function of the state (`choose_next`), so that a person may rewrite a step before it is done. A malformed step gets
one corrective message (`repair`), a search beyond the budget is answered with the request to answer now
(`force_answer`), and `stop_reason` is always set. `finish` closes the run with one message for the application, whose
conversation holds nothing else of it: what the model reads and says is in a channel of its own.
"""

from __future__ import annotations

import asyncio
from typing import Any, Literal, get_args

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AnyMessage, RemoveMessage
from langchain_core.messages.utils import count_tokens_approximately
from langchain_core.runnables import RunnableConfig

# Both ways of a node in one, and no thread for a function without I/O, as LangChain's own agents have it. A plain
# function would run in a thread in asynchronous graphs, which takes longer than what most nodes do.
from langgraph._internal._runnable import RunnableCallable as Node
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import REMOVE_ALL_MESSAGES
from langgraph.runtime import Runtime
from pydantic import BaseModel

from masksearch_agent.agent.citing import NOTHING_CITED, numbers_of, with_citations
from masksearch_agent.agent.closing import closing_message, structured_response
from masksearch_agent.agent.context import AgentContext, Choices, RunContext, chosen_by_caller, run_context
from masksearch_agent.agent.endings import is_refusal, refusal_text
from masksearch_agent.agent.escaping import restore
from masksearch_agent.agent.opening import (
    open_conversation,
    opening_messages,
    opening_query,
    opening_text,
    require_question,
)
from masksearch_agent.agent.parts import Parts, prompts_for
from masksearch_agent.agent.prompts import PromptSet
from masksearch_agent.agent.protocol import (
    AnswerStep,
    FormatError,
    SearchStep,
    Step,
    render_information,
)
from masksearch_agent.agent.search_runs import search_event
from masksearch_agent.agent.speech import kept_back, said_id
from masksearch_agent.agent.state import OpeningState, SearchInput, SearchOutput, SearchRound, SearchState
from masksearch_agent.agent.structure import NOTHING_FILLED
from masksearch_agent.agent.text_turns import last_turn_id, record_text
from masksearch_agent.agent.work import working
from masksearch_agent.config.agent import AgentSettings
from masksearch_agent.errors import AgentError, OutOfTimeError
from masksearch_agent.jsonl import dump_record
from masksearch_agent.records import ScoredPassage
from masksearch_agent.retrieval.search import Search, cut_to_words, interleave

__all__ = ("build_search_graph",)

Next = Literal["search", "repair", "force_answer", "finish"]

_SEARCH_AFTER_BUDGET = "Malformed step: a search after the search budget was spent; expected an answer."


def build_search_graph(
    model: BaseChatModel,
    search: Search,
    settings: AgentSettings | None = None,
    prompts: PromptSet | None = None,
    response_format: type[BaseModel] | None = None,
    choices: Choices | None = None,
) -> StateGraph[SearchState, AgentContext, SearchInput, SearchOutput]:
    """Build the graph; compile it with the checkpointer and store of your application.

    Args:
        model: Any chat model; one that records (`RecordingModel`) gives trajectories with exact tokens.
        prompts: What the policy is told; None for the dialect's own.
        response_format: A form that the answer is given in too, for models with structured output.
        choices: The models and indexes that callers may choose by name.

    Raises:
        AgentError: The model does not speak the dialect, or cannot fill in the form.
    """
    settings = settings or AgentSettings()
    prompts = prompts or prompts_for(model, settings)
    nodes = _Nodes(Parts(model, search, settings, prompts, response_format), prompts, choices or Choices())
    graph = StateGraph(SearchState, AgentContext, input_schema=SearchInput, output_schema=SearchOutput)
    graph.add_node("prepare", Node(nodes.prepare, trace=False), input_schema=OpeningState)
    graph.add_node("think", Node(nodes.think, nodes.athink, trace=False))
    graph.add_node("search", Node(nodes.search_now, nodes.asearch_now, trace=False))
    graph.add_node("repair", Node(nodes.repair, trace=False))
    graph.add_node("force_answer", Node(nodes.force_answer, trace=False))
    graph.add_node("finish", Node(nodes.finish, trace=False))
    graph.add_edge(START, "prepare")
    if settings.search_first:
        graph.add_node("open", Node(nodes.search_now, nodes.asearch_now, trace=False))
        graph.add_edge("prepare", "open")
        graph.add_edge("open", "think")
    else:
        graph.add_edge("prepare", "think")
    graph.add_conditional_edges("think", Node(nodes.choose_next, trace=False), [*get_args(Next)])
    for back in ("search", "repair", "force_answer"):
        graph.add_edge(back, "think")
    if response_format is not None:
        graph.add_node("structure", Node(nodes.structure, nodes.astructure, trace=False))
        graph.add_edge("finish", "structure")
    graph.add_edge("structure" if response_format is not None else "finish", END)
    return graph


class _Nodes:
    """The nodes of one graph and what they share."""

    def __init__(self, parts: Parts, prompts: PromptSet, choices: Choices) -> None:
        self.parts = parts
        self.prompts = prompts
        self.choices = choices

    def prepare(
        self, state: OpeningState, config: RunnableConfig, runtime: Runtime[RunContext]
    ) -> dict[str, Any]:
        context = run_context(runtime.context)
        opening, goes_on = self._opening(state, context)
        removed = [] if goes_on else kept_back([RemoveMessage(REMOVE_ALL_MESSAGES)])
        return {
            "transcript": [*removed, *kept_back(opening)],
            "asked": str(opening[-1].text),
            "chosen": chosen_by_caller(context, config, self.choices),
            "searches": [],
            "earlier": [*state.get("earlier", ()), *state.get("searches", ())] if goes_on else [],
            "repairs": 0,
            "is_forced": False,
            "sampled_tokens": 0,
            "worked_s": 0.0,
            "answer": "",
            **NOTHING_CITED,
            "reasoning": "",
            "stop_reason": None,
            **NOTHING_FILLED,
        }

    @working
    def think(self, state: SearchState, runtime: Runtime[RunContext]) -> dict[str, Any]:
        if state["stop_reason"]:
            return {}  # The search before it took all the time.
        context, parts = run_context(runtime.context), self._parts(state)
        keywords, left_s = self._call_settings(state, context), self._left_s(state)
        try:
            return self._take_reply(state, parts.call(state["transcript"], keywords, left_s), context)
        except OutOfTimeError:
            return {"stop_reason": "time_limit"}

    @working
    async def athink(self, state: SearchState, runtime: Runtime[RunContext]) -> dict[str, Any]:
        if state["stop_reason"]:
            return {}  # The search before it took all the time.
        context, parts = run_context(runtime.context), await self._aparts(state)
        keywords, left_s = self._call_settings(state, context), self._left_s(state)
        try:
            return self._take_reply(state, await parts.acall(state["transcript"], keywords, left_s), context)
        except OutOfTimeError:
            return {"stop_reason": "time_limit"}

    @working
    def search_now(self, state: SearchState, runtime: Runtime[RunContext]) -> dict[str, Any]:
        context, parts, queries = run_context(runtime.context), self._parts(state), self._queries(state)
        try:
            runtime.stream_writer(search_event(queries))
            found = parts.find(queries, self._depth(state), context, self._left_s(state))
            return self._show(state, queries, found, runtime)
        except OutOfTimeError:
            return {"stop_reason": "time_limit"}

    @working
    async def asearch_now(self, state: SearchState, runtime: Runtime[RunContext]) -> dict[str, Any]:
        context, parts = run_context(runtime.context), await self._aparts(state)
        queries = self._queries(state)
        try:
            runtime.stream_writer(search_event(queries))
            found = await parts.afind(queries, self._depth(state), context, self._left_s(state))
            return self._show(state, queries, found, runtime)
        except OutOfTimeError:
            return {"stop_reason": "time_limit"}

    def repair(self, state: SearchState) -> dict[str, Any]:
        step = self._last_step(state)
        problem = step.message if isinstance(step, FormatError) else _SEARCH_AFTER_BUDGET
        said = self._say(state, self.prompts.repair.replace("{problem}", problem))
        return {"transcript": said, "repairs": state["repairs"] + 1}

    def force_answer(self, state: SearchState) -> dict[str, Any]:
        return {"transcript": self._say(state, self.prompts.force_answer), "is_forced": True}

    def finish(self, state: SearchState) -> dict[str, Any]:
        """Take the answer, if there is one, say why the run ended, and tell the application."""
        end = with_citations(self._end(state), state, self._parts(state))
        # A parent graph is handed all of it, what earlier runs left on the thread too.
        kept_back(state["transcript"])
        closing_id = said_id(state["transcript"][-1].id if end["answer"] else None, state["messages"])
        told = structured_response(end) if self.parts.structurer is None else None
        return {
            **end,
            "messages": [closing_message(end, closing_id)],
            "closing_id": closing_id,
            "structured_response": told,
        }

    @working
    def structure(self, state: SearchState) -> dict[str, Any]:
        """Give the answer in the application's form too."""
        return self._parts(state).fill(state, self._left_s(state)).update(state)

    @working
    async def astructure(self, state: SearchState) -> dict[str, Any]:
        parts = await self._aparts(state)
        return (await parts.afill(state, self._left_s(state))).update(state)

    def _end(self, state: SearchState) -> dict[str, Any]:
        step = self._last_step(state)
        if isinstance(step, AnswerStep):
            reason = "forced" if state["is_forced"] else "answered"
            return {"answer": step.answer, "reasoning": step.think, "stop_reason": reason}
        is_malformed = isinstance(step, FormatError) or (step is not None and state["is_forced"])
        end = {
            "answer": "",
            "reasoning": getattr(step, "think", ""),
            "stop_reason": state["stop_reason"] or self._spent_limit(state) or "repairs_exhausted",
            "repairs": state["repairs"] + is_malformed,
        }
        if isinstance(step, FormatError) and is_refusal(state["transcript"][-1]):
            end |= {"stop_reason": "refused", "reasoning": refusal_text(state["transcript"][-1])}
        return end

    def choose_next(self, state: SearchState) -> Next:
        """Say what follows the policy's last step."""
        step = self._last_step(state)
        if isinstance(step, AnswerStep) or state["stop_reason"] or self._spent_limit(state):
            return "finish"
        settings = self._parts(state).settings
        if isinstance(step, SearchStep) and not state["is_forced"]:
            return "search" if len(state["searches"]) < settings.max_searches else "force_answer"
        return (
            "repair"
            if state["repairs"] < settings.max_repairs and not is_refusal(state["transcript"][-1])
            else "finish"
        )

    def _opening(self, state: OpeningState, context: RunContext) -> tuple[list[AnyMessage], bool]:
        """Return what the model reads at first, and whether that goes on with the transcript."""
        question, kind = state.get("question", ""), state.get("kind")
        search_first = self.parts.settings.search_first
        if not question and state.get("messages"):
            return open_conversation(state["messages"], state, self.prompts, kind, search_first)
        opening = opening_messages(require_question(question), kind or "qa", self.prompts, search_first)
        return [*opening[:-1], *context.opening] if context.opening else opening, False

    def _parts(self, state: SearchState) -> Parts:
        return self.parts.chosen(state["chosen"])

    async def _aparts(self, state: SearchState) -> Parts:
        """Return the parts of a run; a model or index that its caller chose is opened beside the event loop."""
        return await asyncio.to_thread(self._parts, state) if state["chosen"] else self.parts

    def _last_step(self, state: SearchState) -> Step | FormatError | None:
        """Return the last step; None before the first."""
        last = state["transcript"][-1]
        return self._parts(state).dialect.read(last) if isinstance(last, AIMessage) else None

    def _say(self, state: SearchState, text: str) -> list[AnyMessage]:
        return kept_back(self._parts(state).dialect.answer_with(state["transcript"][-1], text))

    def _spent_limit(self, state: SearchState) -> Literal["token_limit", "time_limit"] | None:
        if state["sampled_tokens"] >= self._parts(state).max_sampled_tokens:
            return "token_limit"
        return "time_limit" if self._left_s(state) <= 0 else None

    def _left_s(self, state: SearchState) -> float:
        """Return the seconds that the run has left."""
        return self._parts(state).settings.time_limit_s - state.get("worked_s", 0.0)

    def _queries(self, state: SearchState) -> tuple[str, ...]:
        step = self._last_step(state)
        if step is None:
            return (opening_query(str(state["transcript"][-1].text)),)
        if not isinstance(step, SearchStep):
            raise AgentError(f"the search node ran after a step that is no search: {step}")
        # What is searched is what is meant: no source knows our way of making a marker harmless.
        return tuple(map(restore, step.queries))

    def _show(
        self,
        state: SearchState,
        queries: tuple[str, ...],
        found: list[list[ScoredPassage]],
        runtime: Runtime[RunContext],
    ) -> dict[str, Any]:
        settings = self._parts(state).settings
        hits = interleave(found, settings.passages_per_search, self._known_ids(state))
        shown = [cut_to_words(hit.passage, settings.max_passage_words) for hit in hits]
        numbers = numbers_of(shown, state, self._parts(state))
        runtime.stream_writer(search_event(queries, shown))
        round_ = SearchRound(queries=list(queries), passages=[dump_record(passage) for passage in shown])
        last = state["transcript"][-1]
        if last.type == "human":
            # The opening: one message with what is asked, as chat templates expect the roles to alternate.
            text = opening_text(str(last.text), shown, numbers)
            said: list[AnyMessage] = kept_back([last.model_copy(update={"content": text})])
        else:
            said = self._say(state, render_information(shown, numbers))
        return {"transcript": said, "searches": [*state["searches"], round_]}

    def _known_ids(self, state: SearchState) -> set[str]:
        """Return the ids of the passages that are not to be shown again."""
        if self._parts(state).settings.repeat_passages:
            return set()
        return {passage["id"] for found in state["searches"] for passage in found["passages"]}

    def _depth(self, state: SearchState) -> int:
        """Return how many passages a query is to find, so that enough are left to show."""
        return self._parts(state).settings.passages_per_search + len(self._known_ids(state))

    def _call_settings(self, state: SearchState, context: RunContext) -> dict[str, Any]:
        parts, transcript = self._parts(state), state["transcript"]
        calls = sum(isinstance(message, AIMessage) for message in transcript)
        keywords = parts.call_settings(calls, state["sampled_tokens"], context, last_turn_id(transcript))
        if parts.is_recording and parts.settings.answers_from_passages:
            keywords["answers"] = parts.allowed_answers(state)
        return keywords

    def _take_reply(self, state: SearchState, reply: AIMessage, context: RunContext) -> dict[str, Any]:
        parts = self._parts(state)
        reply = parts.dialect.ended(reply)
        if context.recorder is not None and "turn_id" not in reply.response_metadata:
            reply = record_text(parts.dialect, state["transcript"], reply, context.recorder)
        # A model that does not say what it sampled must reach the token limit too; a cache says what a reply cost.
        usage: Any = reply.usage_metadata or {}
        sampled = usage["output_tokens"] if "output_tokens" in usage else count_tokens_approximately([reply])
        return {"transcript": kept_back([reply]), "sampled_tokens": state["sampled_tokens"] + sampled}
