"""The search graph: one state machine for production, for rollouts in training, and for evaluation.

    prepare -> (open) -> think -> search ------> think ...
                           |---> repair ------> think ...
                           |---> force_answer > think ...
                           '---> finish

`open` searches for the question itself, where the settings say so. `think` is one call of the policy. What follows is a
pure function of the state (`choose_next`), so that a person may rewrite a step before it is done. A malformed step gets
one corrective message (`repair`), a search beyond the budget is answered with the request to answer now
(`force_answer`), and `stop_reason` is always set.
"""

from __future__ import annotations

import random
import time
from typing import Any, Literal, get_args

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AnyMessage, RemoveMessage
from langchain_core.messages.utils import count_tokens_approximately

# Both ways of a node in one, and no thread for a function without I/O, as LangChain's own agents have it. A plain
# function would run in a thread in asynchronous graphs, which takes longer than what most nodes do.
from langgraph._internal._runnable import RunnableCallable as Node
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import REMOVE_ALL_MESSAGES
from langgraph.runtime import Runtime

from masksearch_agent.agent.dialects import TagsDialect, choose_dialect
from masksearch_agent.agent.escaping import neutralise
from masksearch_agent.agent.opening import opening_messages, opening_query, opening_text
from masksearch_agent.agent.prompts import PromptSet, default_prompts
from masksearch_agent.agent.protocol import (
    STOP_STRINGS,
    AnswerStep,
    FormatError,
    SearchStep,
    Step,
    clean_text,
    render_information,
)
from masksearch_agent.agent.state import (
    OpeningState,
    RunContext,
    SearchInput,
    SearchOutput,
    SearchRound,
    SearchState,
)
from masksearch_agent.config.agent import AgentSettings
from masksearch_agent.errors import AgentError
from masksearch_agent.jsonl import dump_record
from masksearch_agent.models.answer_spans import AnswerSpans
from masksearch_agent.records import MASK, ScoredPassage, Turn
from masksearch_agent.retrieval.search import Search, cut_to_words, interleave
from masksearch_agent.traces.recorder import CallRecording, Recorder, RecordingModel, new_turn_id
from masksearch_agent.traces.rows import POLICY_ROLE

__all__ = ("build_search_graph",)

Next = Literal["search", "repair", "force_answer", "finish"]

_SEARCH_AFTER_BUDGET = "Malformed step: a search after the search budget was spent; expected an answer."


def build_search_graph(
    model: BaseChatModel,
    search: Search,
    settings: AgentSettings | None = None,
    prompts: PromptSet | None = None,
) -> StateGraph[SearchState, RunContext, SearchInput, SearchOutput]:
    """Build the graph; compile it with the checkpointer and store of your application.

    Args:
        model: Any chat model; one that records (`RecordingModel`) gives trajectories with exact tokens.
        prompts: What the policy is told; None for the dialect's own.

    Raises:
        AgentError: The model does not speak the dialect.
    """
    settings = settings or AgentSettings()
    nodes = _Nodes(model, search, settings, prompts or default_prompts(settings.dialect))
    graph = StateGraph(SearchState, RunContext, input_schema=SearchInput, output_schema=SearchOutput)
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
    graph.add_edge("finish", END)
    return graph


class _Nodes:
    """The nodes of one graph and what they share."""

    def __init__(
        self, model: BaseChatModel, search: Search, settings: AgentSettings, prompts: PromptSet
    ) -> None:
        self.search = search
        self.settings = settings
        self.prompts = prompts
        self.dialect = choose_dialect(settings, prompts)
        self.caller = self.dialect.caller(model)
        if settings.answers_from_passages and not getattr(model, "can_hold_answers", False):
            raise AgentError(
                f"{type(model).__name__} cannot hold answers to the passages that were read, which needs weights in "
                f"this process (`LocalChatModel`); set `answers_from_passages=False`"
            )
        # Asked once: a check against a protocol takes as long as the rest of a step's preparation.
        self.is_recording = isinstance(model, RecordingModel)

    def prepare(self, state: OpeningState) -> dict[str, Any]:
        opening = self._opening(state)
        return {
            "messages": [RemoveMessage(REMOVE_ALL_MESSAGES), *opening],
            "asked": str(opening[-1].text),
            "searches": [],
            "repairs": 0,
            "is_forced": False,
            "sampled_tokens": 0,
            "started_at_s": time.time(),
            "answer": "",
            "reasoning": "",
            "stop_reason": None,
        }

    def think(self, state: SearchState, runtime: Runtime[RunContext]) -> dict[str, Any]:
        context = _context_of(runtime)
        reply = self.caller.invoke(state["messages"], **self._call_settings(state, context))
        return self._take_reply(state, reply, context)

    async def athink(self, state: SearchState, runtime: Runtime[RunContext]) -> dict[str, Any]:
        context = _context_of(runtime)
        reply = await self.caller.ainvoke(state["messages"], **self._call_settings(state, context))
        return self._take_reply(state, reply, context)

    def search_now(self, state: SearchState, runtime: Runtime[RunContext]) -> dict[str, Any]:
        queries = self._queries(state)
        found = self.search.search(queries, self._depth(state), _context_of(runtime).guard)
        return self._show(state, queries, found)

    async def asearch_now(self, state: SearchState, runtime: Runtime[RunContext]) -> dict[str, Any]:
        queries = self._queries(state)
        found = await self.search.asearch(queries, self._depth(state), _context_of(runtime).guard)
        return self._show(state, queries, found)

    def repair(self, state: SearchState) -> dict[str, Any]:
        step = self._last_step(state)
        problem = step.message if isinstance(step, FormatError) else _SEARCH_AFTER_BUDGET
        said = self._say(state, self.prompts.repair.format(problem=problem))
        return {"messages": said, "repairs": state["repairs"] + 1}

    def force_answer(self, state: SearchState) -> dict[str, Any]:
        return {"messages": self._say(state, self.prompts.force_answer), "is_forced": True}

    def finish(self, state: SearchState) -> dict[str, Any]:
        """Take the answer, if there is one, and say why the run ended."""
        step = self._last_step(state)
        if isinstance(step, AnswerStep):
            reason = "forced" if state["is_forced"] else "answered"
            return {"answer": step.answer, "reasoning": step.think, "stop_reason": reason}
        is_malformed = isinstance(step, FormatError) or state["is_forced"]
        return {
            "reasoning": getattr(step, "think", ""),
            "stop_reason": self._spent_limit(state) or "repairs_exhausted",
            "repairs": state["repairs"] + is_malformed,
        }

    def choose_next(self, state: SearchState) -> Next:
        """Say what follows the policy's last step."""
        step = self._last_step(state)
        if isinstance(step, AnswerStep) or self._spent_limit(state):
            return "finish"
        if isinstance(step, SearchStep) and not state["is_forced"]:
            return "search" if len(state["searches"]) < self.settings.max_searches else "force_answer"
        return "repair" if state["repairs"] < self.settings.max_repairs else "finish"

    def _opening(self, state: OpeningState) -> list[AnyMessage]:
        question, messages = state.get("question", ""), state.get("messages", [])
        if not question and messages and messages[-1].type == "human":
            question = str(messages[-1].text)
            messages = [*messages[:-1], messages[-1].model_copy(update={"content": neutralise(question)})]
        elif "started_at_s" in state:
            # What the thread's earlier run left behind is not part of a new question.
            messages = []
        if not isinstance(question, str) or not question.strip():
            raise AgentError(
                'the input asks nothing; pass a question string, {"question": …} or messages that end with one'
            )
        kind = state.get("kind", "qa")
        opening = opening_messages(question, kind, self.prompts, self.settings.search_first)
        if not messages:
            return opening
        before, said = opening[:-1], [message for message in messages if message.type != "system"]
        # A conversation that goes on begins with the examples already.
        shown = len(before) - 1
        is_shown = [m.content for m in said[:shown]] == [m.content for m in before[1:]]
        return [*before, *said[shown if is_shown else 0 :]]

    def _last_step(self, state: SearchState) -> Step | FormatError:
        return self.dialect.read(state["messages"][-1])

    def _say(self, state: SearchState, text: str) -> list[AnyMessage]:
        return self.dialect.answer_with(state["messages"][-1], text)

    def _spent_limit(self, state: SearchState) -> Literal["token_limit", "time_limit"] | None:
        if state["sampled_tokens"] >= self.settings.max_sampled_tokens:
            return "token_limit"
        if time.time() - state["started_at_s"] >= self.settings.time_limit_s:
            return "time_limit"
        return None

    def _queries(self, state: SearchState) -> tuple[str, ...]:
        if state["messages"][-1].type == "human":
            return (opening_query(str(state["messages"][-1].text)),)  # No step was taken yet.
        step = self._last_step(state)
        if not isinstance(step, SearchStep):
            raise AgentError(f"the search node ran after a step that is no search: {step}")
        return step.queries

    def _show(
        self, state: SearchState, queries: tuple[str, ...], found: list[list[ScoredPassage]]
    ) -> dict[str, Any]:
        known = self._known_ids(state)
        hits = interleave(found, self.settings.passages_per_search, known)
        shown = [cut_to_words(hit.passage, self.settings.max_passage_words) for hit in hits]
        round_ = SearchRound(queries=list(queries), passages=[dump_record(passage) for passage in shown])
        last = state["messages"][-1]
        if last.type == "human":
            # The opening: one message with what is asked, as chat templates expect the roles to alternate.
            text = opening_text(str(last.text), shown)
            said: list[AnyMessage] = [last.model_copy(update={"content": text})]
        else:
            said = self._say(state, render_information(shown))
        return {"messages": said, "searches": [*state["searches"], round_]}

    def _known_ids(self, state: SearchState) -> set[str]:
        """Return the ids of the passages that are not to be shown again."""
        if self.settings.repeat_passages:
            return set()
        return {passage["id"] for found in state["searches"] for passage in found["passages"]}

    def _depth(self, state: SearchState) -> int:
        """Return how many passages a query is to find, so that enough are left to show."""
        return self.settings.passages_per_search + len(self._known_ids(state))

    def _call_settings(self, state: SearchState, context: RunContext) -> dict[str, Any]:
        """Return the keywords of a recording model's call; other models get none."""
        if not self.is_recording:
            return {}
        left = self.settings.max_sampled_tokens - state["sampled_tokens"]
        keywords: dict[str, Any] = {"max_tokens": max(1, min(self.settings.max_step_tokens, left))}
        if context.sampling is not None:
            keywords |= {"temperature": context.sampling.temperature, "top_p": context.sampling.top_p}
            if context.sampling.seed is not None:
                # Every call of a run gets a seed of its own.
                calls = sum(isinstance(message, AIMessage) for message in state["messages"])
                keywords["seed"] = random.Random(f"{context.sampling.seed}:{calls}").getrandbits(32)
        if self.settings.answers_from_passages:
            keywords["answers"] = self._allowed_answers(state)
        if context.recorder is not None:
            last_turn = _last_turn_id(state["messages"])
            keywords["recording"] = CallRecording(context.recorder, POLICY_ROLE, last_turn)
        return keywords

    def _allowed_answers(self, state: SearchState) -> AnswerSpans | None:
        """Return what the next answer may be; None for a masked passage that is to be repeated."""
        masks = state["asked"].count(MASK)
        if masks and self.settings.answer_form == "passage":
            return None
        shown = [passage for found in state["searches"] for passage in found["passages"]]
        texts = [clean_text(passage[part]) for passage in shown for part in ("title", "text")]
        is_numbered = masks > 0 and self.settings.answer_form == "fills"
        return AnswerSpans((state["asked"], *dict.fromkeys(texts)), max(1, masks), is_numbered)

    def _take_reply(self, state: SearchState, reply: AIMessage, context: RunContext) -> dict[str, Any]:
        if isinstance(self.dialect, TagsDialect) and not self.is_recording:
            reply = _restore_stop_string(reply)
        if context.recorder is not None and "turn_id" not in reply.response_metadata:
            reply = self._record_text(state["messages"], reply, context.recorder)
        # A model that does not say what it sampled must reach the token limit too.
        usage = reply.usage_metadata
        sampled = usage["output_tokens"] if usage else count_tokens_approximately([reply])
        return {"messages": [reply], "sampled_tokens": state["sampled_tokens"] + sampled}

    def _record_text(self, messages: list[AnyMessage], reply: AIMessage, recorder: Recorder) -> AIMessage:
        """Record a call of a model that gives no tokens: its text only."""
        conversation, last_turn_id = self.dialect.record(messages), _last_turn_id(messages)
        parent_id, known = recorder.split_known(last_turn_id, conversation)
        turn = Turn(
            id=new_turn_id(),
            parent_id=parent_id,
            role=POLICY_ROLE,
            context=tuple(conversation[known:]),
            text=self.dialect.record([reply])[0].content,
            model_version=str(reply.response_metadata.get("model_name", "")),
            forked_from=last_turn_id if parent_id is None else None,
        )
        recorder.add(turn)
        return reply.model_copy(update={"response_metadata": {**reply.response_metadata, "turn_id": turn.id}})


def _restore_stop_string(reply: AIMessage) -> AIMessage:
    """Put back the closing tag that an API left out because it was the stop string."""
    text = str(reply.text)
    for closing in STOP_STRINGS:
        if closing.replace("/", "") in text and closing not in text:
            return reply.model_copy(update={"content": text + closing})
    return reply


def _last_turn_id(messages: list[AnyMessage]) -> str | None:
    for message in reversed(messages):
        if isinstance(message, AIMessage):
            return message.response_metadata.get("turn_id")
    return None


def _context_of(runtime: Runtime[RunContext]) -> RunContext:
    # As a subgraph, the graph is handed its parent's context, which may be of any type.
    context: object = runtime.context
    return context if isinstance(context, RunContext) else RunContext()
